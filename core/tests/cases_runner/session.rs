//! A case under way: a database, a client, kept values, and the steps.

use std::path::Path;
use std::time::{Duration, Instant};

use agentkey::AgentKey;
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor, Row};
use tokio::task::JoinSet;

use super::call::{self, Call};
use super::expect::{Comparison, Kept, fill, resolve};
use super::fields::Fields;
use super::{Problem, Table};
use crate::support::TestDatabase;

/// For how long `eventually` asks, and how often.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// Connections of the client.
const POOL_SIZE: u32 = 6;

pub struct Session<'d> {
    db: &'d TestDatabase,
    ak: AgentKey,
    options: Value,
    table: String,
    kept: Kept,
    /// How many expectations were met.
    met: usize,
}

/// What a call is expected to do.
#[derive(Default)]
struct Expectation {
    expect: Option<Value>,
    exactly: Option<Value>,
    error: Option<Value>,
    keep_as: Option<String>,
}

impl<'d> Session<'d> {
    pub async fn open(
        db: &'d TestDatabase,
        table: &Table,
        directory: &Path,
        setup: &[String],
        options: &Value,
    ) -> Result<Self, Problem> {
        let name = options.get("tableName").and_then(Value::as_str).unwrap_or("sdk_api_keys").to_owned();
        execute(&db.pool, "DROP SCHEMA public CASCADE; CREATE SCHEMA public").await?;
        execute(&db.pool, &format!("ALTER DATABASE {} RESET ALL", db.name)).await?;
        if let Table::Original { id, account } = table {
            let sql = std::fs::read_to_string(directory.join("original.sql")).map_err(|e| e.to_string())?;
            let sql = sql.replace("{id}", id).replace("{account}", account);
            execute(&db.pool, &fill(&sql, &name, &Kept::new(), None)?).await?;
        }
        for sql in setup {
            execute(&db.pool, &fill(sql, &name, &Kept::new(), None)?).await?;
        }
        let ak = call::client(options, connect(&db.url).await.map_err(|e| e.to_string())?)?
            .map_err(|e| e.to_string())?;
        if let Table::Migrated = table {
            ak.migrate().await.map_err(|e| format!("migrate: {e}"))?;
        }
        Ok(Session { db, ak, options: options.clone(), table: name, kept: Kept::new(), met: 0 })
    }

    pub async fn close(self) {
        self.ak.close().await;
        self.ak.pool().close().await;
    }

    pub async fn run(&mut self, steps: &[Value]) -> Result<(), Problem> {
        self.steps(steps, "").await?;
        if self.met == 0 { Err("the case expects nothing".to_owned()) } else { Ok(()) }
    }

    async fn steps(&mut self, steps: &[Value], within: &str) -> Result<(), Problem> {
        for (n, step) in steps.iter().enumerate() {
            let number = format!("{within}{}", n + 1);
            let name = step.get("do").and_then(Value::as_str).unwrap_or("?");
            Box::pin(self.step(step, &number)).await.map_err(|problem| {
                match problem.starts_with("step ") {
                    true => problem,
                    false => format!("step {number} ({name}):\n{problem}"),
                }
            })?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Value, number: &str) -> Result<(), Problem> {
        let mut fields = Fields::read(step.clone())?;
        fields.optional_text("note")?;
        match fields.text("do")?.as_str() {
            "sql" => self.sql(fields).await,
            "query" => self.query(fields).await,
            "together" => self.together(fields).await,
            "unchanged" => {
                let steps = fields.list("steps")?;
                fields.finish()?;
                self.unchanged(&steps, number).await
            }
            "reopen" => {
                fields.finish()?;
                self.reopen().await
            }
            _ => {
                let (call, expectation) = self.read_call(step)?;
                let result = call.run(&self.ak).await?;
                self.meet(&expectation, &result).await
            }
        }
    }

    fn read_call(&self, step: &Value) -> Result<(Call, Expectation), Problem> {
        let mut fields = Fields::read(step.clone())?;
        fields.optional_text("note")?;
        let expectation = Expectation {
            expect: fields.optional("expect"),
            exactly: fields.optional("exactly"),
            error: fields.optional("error"),
            keep_as: fields.optional_text("as")?,
        };
        let name = fields.text("do")?;
        let members = step.as_object().into_iter().flatten();
        let mut arguments = Fields::read(json!({}))?;
        for (member, _) in members {
            if let Some(value) = fields.optional(member) {
                arguments.give(member, resolve(&value, &self.kept)?);
            }
        }
        let call = Call::read(&name, arguments, &self.ak)?;
        Ok((call, expectation))
    }

    /// Compares a result, and keeps it where that is asked for.
    async fn meet(
        &mut self,
        expectation: &Expectation,
        result: &Result<Value, Value>,
    ) -> Result<(), Problem> {
        let Expectation { expect, exactly, error, keep_as } = expectation;
        match (result, error) {
            (Err(found), Some(error)) => self.compare(error, found, false).await?,
            (Err(found), None) => return Err(format!("  failed: {found}")),
            (Ok(found), Some(error)) => return Err(format!("  expected the error {error}, got {found}")),
            (Ok(_), None) => {}
        }
        if let Ok(found) = result {
            for (expected, whole) in [(expect, false), (exactly, true)] {
                if let Some(expected) = expected {
                    self.compare(expected, found, whole).await?;
                }
            }
        }
        if error.is_some() && (expect.is_some() || exactly.is_some() || keep_as.is_some()) {
            return Err("  an error and a result are expected".to_owned());
        }
        if expect.is_none() && exactly.is_none() && error.is_none() && keep_as.is_none() {
            return Err("  a call without an expectation".to_owned());
        }
        if let (Some(name), Ok(found)) = (keep_as, result) {
            self.kept.insert(name.clone(), found.clone());
        }
        Ok(())
    }

    async fn compare(&mut self, expected: &Value, actual: &Value, whole: bool) -> Result<(), Problem> {
        let expected = resolve(expected, &self.kept)?;
        let mut comparison = Comparison::of(&expected, actual, whole);
        for (at, condition, value) in std::mem::take(&mut comparison.conditions) {
            let sql = fill(&condition, &self.table, &self.kept, Some(&value))?;
            let holds = self.first_text(&format!("SELECT ({sql})::boolean")).await?;
            if holds.as_deref() != Some("true") {
                comparison.differ(&at, format!("that {condition}"), value);
            }
        }
        if comparison.differences.is_empty() {
            self.met += 1;
            return Ok(());
        }
        Err(format!("{}\n  the whole: {actual}", comparison.differences.join("\n")))
    }

    async fn sql(&mut self, mut fields: Fields) -> Result<(), Problem> {
        let sql = fill(&fields.text("run")?, &self.table, &self.kept, None)?;
        let expected = fields.optional_count("rows")?.unwrap_or(1);
        fields.finish()?;
        let affected = execute(&self.db.pool, &sql).await?;
        if affected == expected {
            Ok(())
        } else {
            Err(format!("  affected {affected} rows, not {expected}: {sql}"))
        }
    }

    async fn query(&mut self, mut fields: Fields) -> Result<(), Problem> {
        let sql = fill(&fields.text("sql")?, &self.table, &self.kept, None)?;
        let eventually = fields.optional_flag("eventually")?.unwrap_or(false);
        let (expected, keep_as) = (fields.optional("expect"), fields.optional_text("as")?);
        fields.finish()?;
        if expected.is_none() && keep_as.is_none() {
            return Err("  a query without an expectation".to_owned());
        }
        let started = Instant::now();
        let found = loop {
            let found = self.first_text(&sql).await?.map_or(Value::Null, Value::from);
            match &expected {
                None => break found,
                Some(expected) => match self.compare(expected, &found, false).await {
                    Ok(()) => break found,
                    Err(problem) if !eventually || started.elapsed() > PATIENCE => return Err(problem),
                    Err(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
                },
            }
        };
        if let Some(name) = keep_as {
            self.kept.insert(name, found);
        }
        Ok(())
    }

    async fn together(&mut self, mut fields: Fields) -> Result<(), Problem> {
        let times = fields.optional_count("times")?.unwrap_or(1);
        let counts = fields.optional_list("counts")?;
        let calls =
            fields.list("steps")?.iter().map(|step| self.read_call(step)).collect::<Result<Vec<_>, _>>()?;
        fields.finish()?;
        let mut running = JoinSet::new();
        for _ in 0..times {
            for (n, (call, _)) in calls.iter().enumerate() {
                let (call, ak) = (call.clone(), self.ak.clone());
                running.spawn(async move { (n, call.run(&ak).await) });
            }
        }
        let mut results = Vec::new();
        for (n, result) in running.join_all().await {
            let (result, expectation) = (result?, &calls[n].1);
            let has_own =
                expectation.expect.is_some() || expectation.exactly.is_some() || expectation.error.is_some();
            // Without an expectation of its own a result is only counted.
            if has_own || counts.is_none() {
                self.meet(expectation, &result)
                    .await
                    .map_err(|problem| format!("  call {}:\n{problem}", n + 1))?;
            }
            results.push(result.unwrap_or_else(|error| json!({ "error": error })));
        }
        match counts {
            Some(counts) => self.count(&counts, &results),
            None => Ok(()),
        }
    }

    fn count(&mut self, counts: &[Value], results: &[Value]) -> Result<(), Problem> {
        let mut left: Vec<&Value> = results.iter().collect();
        for entry in counts {
            let mut fields = Fields::read(entry.clone())?;
            let expected = resolve(&fields.required("of")?, &self.kept)?;
            let wanted = fields.optional_count("count")?.ok_or("  no count")?;
            fields.finish()?;
            let before = left.len();
            left.retain(|result| {
                let comparison = Comparison::of(&expected, result, false);
                !comparison.differences.is_empty() || !comparison.conditions.is_empty()
            });
            let found = (before - left.len()) as u64;
            if found != wanted {
                return Err(format!(
                    "  expected {wanted} of {expected}, got {found}\n  all: {}",
                    json!(results)
                ));
            }
        }
        if !left.is_empty() {
            return Err(format!("  not counted: {}", json!(left)));
        }
        self.met += 1;
        Ok(())
    }

    async fn unchanged(&mut self, steps: &[Value], number: &str) -> Result<(), Problem> {
        let before = self.snapshot().await?;
        self.steps(steps, &format!("{number}.")).await?;
        let after = self.snapshot().await?;
        if before == after {
            self.met += 1;
            return Ok(());
        }
        Err(format!("  rows were written, before:\n{}\n  after:\n{}", before.join("\n"), after.join("\n")))
    }

    /// Every row, with the version that it is of.
    async fn snapshot(&mut self) -> Result<Vec<String>, Problem> {
        self.reopen().await?;
        let sql = format!(
            "SELECT k.ctid::text || ' ' || k.xmin::text || ' ' || k::text FROM {} k ORDER BY 1",
            self.table
        );
        let rows = self.db.pool.fetch_all(AssertSqlSafe(sql)).await.map_err(|e| e.to_string())?;
        rows.iter().map(|row| row.try_get(0).map_err(|e| e.to_string())).collect()
    }

    async fn reopen(&mut self) -> Result<(), Problem> {
        self.ak.close().await;
        let pool: PgPool = self.ak.pool().clone();
        self.ak = call::client(&self.options, pool)?.map_err(|e| e.to_string())?;
        Ok(())
    }

    /// The first column of the first row, as text.
    async fn first_text(&self, sql: &str) -> Result<Option<String>, Problem> {
        let sql = format!("SELECT q.value::text FROM ({sql}) AS q(value)");
        let row =
            self.db.pool.fetch_one(AssertSqlSafe(sql.clone())).await.map_err(|e| format!("  {sql}: {e}"))?;
        row.try_get(0).map_err(|e| e.to_string())
    }
}

/// The client's connections, made after the setup, which may change settings of the database.
async fn connect(url: &str) -> Result<PgPool, sqlx::Error> {
    // sqlx sets a time zone of its own, and more, at connection: the database's settings are to win here.
    const SETTINGS: &str = "SELECT set_config(split_part(s, '=', 1), substr(s, strpos(s, '=') + 1), false)
        FROM pg_db_role_setting, unnest(setconfig) s
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let options = PgPoolOptions::new().max_connections(POOL_SIZE);
    let options = options
        .after_connect(|connection, _| Box::pin(async { connection.execute(SETTINGS).await.map(|_| ()) }));
    options.connect(url).await
}

async fn execute(pool: &PgPool, sql: &str) -> Result<u64, Problem> {
    let done = pool.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.map(|done| done.rows_affected()).map_err(|e| format!("  {sql}: {e}"))
}
