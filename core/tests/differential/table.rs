//! The real tables: written from the model, and read back.

use std::collections::BTreeMap;
use std::time::Duration;

use agentkey::engine::{
    Credential, Engine, MAX_CENTS, MICROCENTS_PER_CENT, Options, Request, Statement, StatementKind, parse_row,
};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::database::{Database, Key};

/// The statements of the standard table, by kind and the column that finds keys.
pub struct Table {
    pub texts: Vec<(StatementKind, Option<&'static str>, String)>,
    /// Any statement: one cannot be made here, but made over.
    any: Statement,
    /// Whether all money is written into the ledger.
    pub ledger: bool,
    connection: PgConnection,
}

/// What a statement changes: of each key what is used, held, and when its period ends; the reservations.
pub type State = (BTreeMap<i64, String>, Vec<String>);

impl Table {
    /// Its clock stands where the tests set it: this `statement_timestamp()` is found before the server's.
    pub async fn make(mut connection: PgConnection, ledger: bool) -> Table {
        let clock = "
            CREATE SCHEMA IF NOT EXISTS clock;
            CREATE OR REPLACE FUNCTION clock.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
                AS $$ SELECT to_timestamp(current_setting('clock.now')::float8) $$;
            SET search_path = clock, pg_catalog, public; SET client_min_messages = warning";
        let mut options = Options::default();
        options.ledger = ledger;
        let mut engine = Engine::new(options);
        engine.submit(Duration::ZERO, Request::Migrate).unwrap();
        while let Some(statement) = engine.poll(Duration::ZERO) {
            connection.execute(AssertSqlSafe(statement.sql.to_string())).await.unwrap();
            engine.receive(Duration::ZERO, statement.id, Ok(&[]));
        }
        engine.answers();
        engine.submit(Duration::ZERO, Request::Validate(Credential::of_key("ak_nobody"))).unwrap();
        let any = engine.poll(Duration::ZERO).unwrap();
        let rows = run(&mut connection, &any.sql, &any.params).await;
        engine.receive(Duration::ZERO, any.id, Ok(&rows));
        connection.execute(clock).await.unwrap();
        let texts =
            engine.statements().into_iter().map(|(kind, column, sql)| (kind, column, sql.to_string()));
        Table { texts: texts.collect(), any, ledger, connection }
    }

    pub fn statement(&self, kind: StatementKind, params: Vec<Option<String>>) -> Statement {
        let mut statement = self.any.clone();
        (statement.kind, statement.params) = (kind, params);
        statement
    }

    /// Runs a statement at the model's time: its rows, in any order.
    pub async fn execute(&mut self, now: i64, text: usize, params: &[Option<String>]) -> Vec<String> {
        self.run(&format!("SET clock.now = '{now}'")).await;
        let sql = self.texts[text].2.clone();
        normal(run(&mut self.connection, &sql, params).await)
    }

    /// The rows of keys with their versions, as they are.
    pub async fn versions(
        &mut self,
        now: i64,
        column: Option<&str>,
        lookups: &[Option<String>],
    ) -> Vec<String> {
        self.run(&format!("SET clock.now = '{now}'")).await;
        let is_it = |(kind, of, _): &&(StatementKind, Option<&'static str>, String)| {
            *kind == StatementKind::ValidateVersions && *of == column
        };
        let sql = self.texts.iter().find(is_it).unwrap().2.clone();
        run(&mut self.connection, &sql, lookups).await
    }

    pub async fn run(&mut self, sql: &str) {
        self.connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    pub async fn write(&mut self, db: &Database) {
        self.run("TRUNCATE sdk_api_keys, sdk_api_keys_reservations, sdk_api_keys_events").await;
        let rows: Vec<String> = db.keys.iter().map(|key| row(db, key)).collect();
        let columns = "id, account_id, key_hash, external_subject, key_prefix, name, scopes, budget_cents, budget_used_cents,
            budget_used_microcents, budget_period, budget_anchor_at, budget_reset_at, budget_microcents_reset_at, expires_at, revoked_at, last_used_at,
            parent_id, ancestor_ids, when_exceeded, budget_boost_cents, budget_boost_until";
        self.run(&format!("INSERT INTO sdk_api_keys ({columns}) VALUES {}", rows.join(","))).await;
    }

    pub async fn state(&mut self) -> State {
        let keys = "
            SELECT id, budget_used_cents::numeric * 1000000 + budget_used_microcents || ' '
                || budget_reserved_cents::numeric * 1000000 + budget_reserved_microcents || ' '
                || coalesce(extract(epoch FROM budget_reset_at)::bigint::text, '')
            FROM sdk_api_keys";
        let reservations = "
            SELECT ROW(id, key_id, amount_microcents, state, extract(epoch FROM expires_at)::bigint, settled_microcents,
                budget_cents, used_after_microcents, reserved_after_microcents)::text
            FROM sdk_api_keys_reservations ORDER BY id";
        let keys: Vec<(i64, String)> = sqlx::query_as(keys).fetch_all(&mut self.connection).await.unwrap();
        let reservations = sqlx::query_scalar(reservations).fetch_all(&mut self.connection).await.unwrap();
        (keys.into_iter().collect(), reservations)
    }

    /// What the check of the ledger finds.
    pub async fn discrepancies(&mut self) -> Vec<String> {
        let text = self.texts.iter().position(|(kind, ..)| *kind == StatementKind::VerifyLedger).unwrap();
        self.execute(0, text, &[None]).await
    }
}

async fn run(connection: &mut PgConnection, sql: &str, params: &[Option<String>]) -> Vec<String> {
    let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
    let query = params.iter().fold(query, |query, param| query.bind(param.as_deref()));
    query.fetch_all(connection).await.unwrap_or_else(|e| panic!("{e}\n{params:?}\n{sql}"))
}

/// The fields of rows that an engine reads, seconds without a fraction, in the order of their text.
pub fn normal(rows: Vec<String>) -> Vec<String> {
    let fields = |row: String| {
        let row = row.replace(".000000", "");
        let mut fields = parse_row(&row).expect("a row");
        let is_versioned = fields.len() == 24;
        if let Some("refused" | "budget_exceeded") = fields.get(1).and_then(Option::as_deref) {
            // Nothing was recorded: there are no amounts, and no reservation.
            fields[2..7].fill(None);
        }
        match fields.as_mut_slice() {
            // Versions are the database's own.
            [.., xmin, ctid] if is_versioned && ctid.as_deref().is_some_and(|ctid| ctid.starts_with("(")) => {
                (*xmin, *ctid) = (xmin.take().map(|_| "some".into()), None);
            }
            [Some(place), _, run] if place == "0" => *run = None,
            _ => {}
        }
        // No ancestors, or an array of none.
        fields.iter_mut().for_each(|field| _ = field.take_if(|field| field == "{}"));
        format!("{fields:?}")
    };
    let mut rows: Vec<String> = rows.into_iter().map(fields).collect();
    rows.sort_unstable();
    rows
}

/// A key as VALUES has it.
fn row(db: &Database, key: &Key) -> String {
    let number = |value: Option<i64>| value.map_or("NULL".to_owned(), |value| format!("'{value}'::bigint"));
    let time =
        |at: Option<i64>| at.map_or("NULL::timestamptz".to_owned(), |at| format!("to_timestamp({at})"));
    let (cents, micro) = (key.used / MICROCENTS_PER_CENT, key.used % MICROCENTS_PER_CENT);
    let scopes = key.scope.map_or("NULL::text[]".to_owned(), |scope| format!("ARRAY['{scope}']"));
    let ancestors: Vec<String> = key.ancestors.iter().map(i64::to_string).collect();
    let is_key = |id: &&i64| db.keys.iter().any(|key| key.id == **id && key.when_exceeded.is_none());
    let parent = key.ancestors.iter().find(is_key).map_or("NULL::bigint".to_owned(), i64::to_string);
    let ancestors = match ancestors.is_empty() {
        false => format!("ARRAY[{}]::bigint[]", ancestors.join(",")),
        true => "NULL::bigint[]".to_owned(),
    };
    assert!(cents.abs() <= MAX_CENTS, "the model knows no more");
    format!(
        "({}, '7', '{1}', '{1}', 'ak_', '{2}', {scopes}, {3}, {cents}, {micro}, {4}, {5}, {6}, {7}, {8}, {9}, {10}, {parent}, {ancestors}, {11}, {12}, {13})",
        key.id,
        key.lookup,
        key.name,
        number(key.budget_cents),
        key.period.map_or("NULL".to_owned(), |period| format!("'{}'", period.name)),
        time(key.period.map(|period| period.anchor)),
        time(key.reset_at),
        time(key.reset_at.map(|at| at - i64::from(key.is_stale))),
        time(key.expires_at),
        time(key.revoked.then_some(0)),
        time(key.last_used_at),
        key.when_exceeded.map_or("NULL".to_owned(), |when| format!("'{when}'")),
        number(key.boost.map(|(cents, _)| cents)),
        time(key.boost.map(|(_, until)| until)),
    )
}

/// The same of the model.
pub fn state_of(db: &Database) -> State {
    let optional = crate::database::text::optional;
    let key = |key: &Key| (key.id, format!("{} {} {}", key.used, key.reserved, optional(key.reset_at)));
    let mut reservations: Vec<String> = db
        .companions
        .reservations
        .iter()
        .map(|r| {
            let (budget, used, reserved) = match r.money {
                Some((budget, used, reserved)) => (optional(budget), used.to_string(), reserved.to_string()),
                None => Default::default(),
            };
            format!(
                "({},{},{},{},{},{},{budget},{used},{reserved})",
                r.id,
                r.key,
                r.amount,
                r.state,
                r.expires_at,
                optional(r.cost)
            )
        })
        .collect();
    reservations.sort_unstable();
    (db.keys.iter().map(key).collect(), reservations)
}
