//! Migrations on a real Postgres: many at once, tables as they are found in the wild, and what they leave alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::time::Duration;

use agentkey::engine::{KeyHash, TableName};
use agentkey::{AgentKey, CreateKey, DenialReason, ErrorCode, Period};
use sqlx::{Connection, Executor};
use support::{TestDatabase, original_table, process};
use tokio::task::JoinSet;

/// The original's table before it knew subjects, budgets and all else.
const OLDEST_TABLE: &str = "CREATE TABLE sdk_api_keys (
    id SERIAL PRIMARY KEY, account_id TEXT, key_hash TEXT NOT NULL UNIQUE, key_prefix TEXT NOT NULL, name TEXT,
    created_at TIMESTAMPTZ DEFAULT now(), last_used_at TIMESTAMPTZ, revoked_at TIMESTAMPTZ)";

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_once_all_succeed() {
    for prepare in ["", &original_table("SERIAL", "TEXT"), OLDEST_TABLE] {
        let db = TestDatabase::create().await;
        db.run(prepare).await;
        for worker in process::start(&db, 4, "worker", &db.url).await {
            assert_eq!(process::finish(worker).await, "16 succeeded");
        }
        let indexes =
            "SELECT count(*) FROM pg_index WHERE indrelid = 'sdk_api_keys'::regclass AND indisvalid";
        assert_eq!(db.number(indexes).await, 12, "each index once");
        assert_works(&db.client().await, "acct").await;
        db.drop().await;
    }
}

/// A process of the test above: 16 calls on 4 pools.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Some(url) = process::input() else { return };
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(AgentKey::builder().pool_size(4).connect(&url).await.unwrap());
    }
    process::started(&url).await;
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let ak = clients[n % clients.len()].clone();
        tasks.spawn(async move { ak.migrate().await });
    }
    let succeeded = tasks.join_all().await.into_iter().map(Result::unwrap).count();
    process::answer(&format!("{succeeded} succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_succeed_under_strict_isolation() {
    for isolation in ["repeatable read", "serializable"] {
        for prepare in ["", &original_table("UUID DEFAULT gen_random_uuid()", "INTEGER")] {
            let db = TestDatabase::create().await;
            db.run(prepare).await;
            db.run(&format!("ALTER DATABASE {} SET default_transaction_isolation = '{isolation}'", db.name))
                .await;
            let clients = db.fleet(4, AgentKey::builder).await;
            let mut tasks = JoinSet::new();
            for n in 0..16 {
                let ak = clients[n % clients.len()].clone();
                tasks.spawn(async move { ak.migrate().await });
            }
            for result in tasks.join_all().await {
                result.unwrap_or_else(|e| panic!("{isolation}: {e}"));
            }
            assert_works(&clients[0], "42").await;
            db.drop().await;
        }
    }
}

#[tokio::test]
async fn every_combination_of_types_migrates_and_keeps_its_rows() {
    let db = TestDatabase::create().await;
    let uuid = "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f";
    for id in
        ["SERIAL", "BIGSERIAL", "UUID DEFAULT gen_random_uuid()", "TEXT DEFAULT gen_random_uuid()::text"]
    {
        for (account, value) in
            [("TEXT", "acct"), ("INTEGER", "42"), ("BIGINT", "9007199254740993"), ("UUID", uuid)]
        {
            let table = format!("keys_{}_{account}", &id[..4]).to_lowercase();
            db.run(
                &original_table(id, account)
                    .replace("sdk_api_keys", &table)
                    .replace("idx_subject", &format!("ix_{table}")),
            )
            .await;
            let ak = AgentKey::builder().table_name(&table).pool(db.pool.clone()).unwrap();
            // Used before and after: the columns that are added must reach a client that knows the table without them.
            let before = ak.create(CreateKey::new(value).budget_cents(5)).await.unwrap();
            let rows = format!("SELECT relfilenode FROM pg_class WHERE oid = '{table}'::regclass");
            let file = db.number(&rows).await;
            ak.migrate().await.unwrap();
            assert_eq!(db.number(&rows).await, file, "{table} is not rewritten");
            let grant = ak.validate(before.key.expose()).await.unwrap().unwrap();
            assert_eq!(
                (grant.id, grant.account_id.unwrap().to_string()),
                (before.id, value.to_owned()),
                "{table}"
            );
            assert_works(&ak, value).await;
            let types = format!(
                "SELECT string_agg(DISTINCT format_type(atttypid, atttypmod), ' ') FROM pg_attribute
                 WHERE (attrelid, attname) IN (('{table}'::regclass, 'id'), ('{table}'::regclass, 'parent_id'),
                     ('{table}_events'::regclass, 'key_id'), ('{table}_reservations'::regclass, 'key_id'))"
            );
            assert!(!db.text(&types).await.contains(' '), "ids are of one type");
        }
    }
    db.drop().await;
}

#[tokio::test]
async fn odd_names_work_from_migration_to_revocation() {
    let db = TestDatabase::create().await;
    db.run(r#"CREATE SCHEMA app; CREATE SCHEMA "Ot%he""r's {table}""#).await;
    let names = [
        r#"app."odd ""na%me""#,
        "app.Keys",
        "Select",
        "ключи",
        r#""o'brien's""#,
        r#""Ot%he""r's {table}"."%s %I %%""#,
        r#""{table}""#,
        r#""{k.name}""#,
        r#""{lookup} --? scopes""#,
        r#""$agentkey$""#,
        r#""$1 $$ $agentkey_$""#,
        r#""back\slash""#,
        r#""semi;colon -- /* ""#,
        r#"" ""#,
        "app.\"new\nline\"",
        "Ünï",
        r#""a.b""#,
        r#""🔑""#,
    ];
    let long = [
        format!("app.{}", "x".repeat(63)),
        format!("\"{}\"", "x".repeat(63)),
        format!("{}z", "я".repeat(31)),
    ];
    for name in names.into_iter().map(str::to_owned).chain(long) {
        let ak = AgentKey::builder().table_name(&name).pool(db.pool.clone()).unwrap();
        let unmigrated = ak.validate("ak_x").await.unwrap_err();
        assert_eq!(unmigrated.code(), ErrorCode::MigrationRequired, "{name}");
        ak.migrate().await.unwrap_or_else(|e| panic!("{name}: {e}"));
        ak.migrate().await.unwrap();
        assert_works(&ak, "acct").await;
        let quoted = TableName::new(&name).unwrap().quoted();
        assert_eq!(db.number(&format!("SELECT count(*) FROM {quoted}")).await, 2, "{name}");
    }
    assert_eq!(
        db.number("SELECT count(*) FROM pg_tables WHERE schemaname !~ '^pg_|^information_schema'").await,
        21 * 6
    );
    db.drop().await;
}

#[tokio::test]
async fn hostile_names_are_refused_without_a_query() {
    let db = TestDatabase::create().await;
    let long = "x".repeat(64);
    let names = [
        "",
        ".",
        "a.",
        ".a",
        "a.b.c",
        "a b",
        "a;DROP TABLE x",
        "a--",
        "a/*",
        "a'b",
        "a\"b",
        "\"a",
        "\"\"",
        "\"a\"b",
        "a\0",
        "\"a\0\"",
        "1a",
        "a-b",
        "a(b)",
        "a.\"\"",
        "\"a\".\"b\".\"c\"",
        " a",
        "a ",
        "a\n",
        "$a",
        "a=b",
        "a\\b",
        "a%b",
        "a::text",
        &long,
    ];
    for name in names {
        let error = AgentKey::builder().table_name(name).pool(db.pool.clone()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidTableName, "{name:?}");
    }
    db.drop().await;
    // Refused before anything is connected to.
    let builder = AgentKey::builder().table_name("a;b").timeout(Duration::from_millis(100));
    let error = builder.connect("postgresql://nobody@127.0.0.1:1/none").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidTableName, "{error}");
}

#[tokio::test]
async fn a_complete_table_is_neither_locked_nor_altered() {
    for prepare in ["", &original_table("BIGSERIAL", "UUID")] {
        let db = TestDatabase::create().await;
        db.run(prepare).await;
        let ak = db.client().await;
        let catalogue = "SELECT md5(string_agg(row::text, ',' ORDER BY row::text)) FROM (
            SELECT oid, xmin, ctid FROM pg_class WHERE oid >= 16384
            UNION ALL SELECT attrelid, xmin, ctid FROM pg_attribute WHERE attrelid >= 16384
            UNION ALL SELECT indexrelid, xmin, ctid FROM pg_index WHERE indexrelid >= 16384
            UNION ALL SELECT adrelid, xmin, ctid FROM pg_attrdef) row";
        let before = db.text(catalogue).await;
        // EXCLUSIVE lets nothing past but ACCESS SHARE, which every SELECT takes.
        let mut holder = db.session().await;
        let lock = "BEGIN; LOCK TABLE sdk_api_keys, sdk_api_keys_events, sdk_api_keys_reservations, sdk_api_keys_deliveries, sdk_api_keys_signups IN EXCLUSIVE MODE";
        holder.execute(lock).await.unwrap();
        // Whoever waits for a lock gives up: that is an error.
        ak.migrate().await.expect("no lock is waited for");
        holder.close().await.unwrap();
        assert_eq!(db.text(catalogue).await, before);
        db.drop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_migrated_says_why_and_stays_as_it_is() {
    let columns = "id INT, account_id TEXT, key_hash TEXT, key_prefix TEXT";
    let table = |without: &str| {
        let kept: Vec<_> =
            columns.split(", ").filter(|c| without.is_empty() || !c.starts_with(without)).collect();
        format!("CREATE TABLE sdk_api_keys ({})", kept.join(", "))
    };
    let cases = [
        ("CREATE VIEW sdk_api_keys AS SELECT 1 AS id".to_owned(), "\"sdk_api_keys\" is a view, not a table"),
        (
            "CREATE MATERIALIZED VIEW sdk_api_keys AS SELECT 1 AS id".to_owned(),
            "is a materialized view, not a table",
        ),
        ("CREATE SEQUENCE sdk_api_keys".to_owned(), "is a sequence, not a table"),
        (table("id"), "table \"sdk_api_keys\" lacks the column id"),
        (table("account_id"), "lacks the column account_id"),
        (table("key_hash"), "lacks the column key_hash"),
        (table("key_prefix"), "lacks the column key_prefix"),
        ("CREATE TABLE sdk_api_keys_events (id INT)".to_owned(), "sdk_api_keys_events lacks the column"),
    ];
    for (prepare, message) in cases {
        let db = TestDatabase::create().await;
        db.run(&prepare).await;
        let ak = AgentKey::builder().pool(db.pool.clone()).unwrap();
        let error = ak.migrate().await.expect_err(&prepare);
        assert_eq!(error.code(), ErrorCode::Database, "{prepare}");
        assert!(error.message().contains(message), "{prepare}: {error}");
        ak.close().await;
        db.drop().await;
    }
    let db = TestDatabase::create().await;
    let ak = AgentKey::builder().table_name("nowhere.keys").pool(db.pool.clone()).unwrap();
    assert!(ak.migrate().await.unwrap_err().message().contains("nowhere"));
    db.drop().await;
}

#[tokio::test]
async fn the_original_goes_on_writing_rows() {
    let db = TestDatabase::create().await;
    db.run(&original_table("SERIAL", "TEXT")).await;
    let ak = db.client().await;
    let key = "ak_0123456789abcdef";
    let insert = sqlx::query(
        "INSERT INTO sdk_api_keys (account_id, user_id, key_hash, key_prefix, name, scopes, budget_cents, budget_period,
             budget_reset_at, expires_at, delegated_by)
         VALUES ('acct', NULL, $1, 'ak_01234567', 'default', '{read}', 50, 'month', now() - interval '1 h', NULL, 'alice')",
    );
    insert.bind(KeyHash::of(key).as_str()).execute(&db.pool).await.unwrap();
    let grant = ak.validate(key).await.unwrap().unwrap();
    assert_eq!(
        (grant.budget_used_cents, grant.budget_reserved_cents, grant.budget_remaining_cents),
        (0, 0, Some(50))
    );
    assert!(ak.track_usage(key, 30).await.unwrap().is_ok());
    assert!(support::plain_charge(&db.pool, key, 20).await);
    assert_eq!(ak.validate(key).await.unwrap().unwrap_err().reason, DenialReason::BudgetExceeded);
    db.drop().await;
}

#[tokio::test]
async fn a_table_that_only_the_original_knows_works_and_a_migration_shows_without_a_restart() {
    let db = TestDatabase::create().await;
    db.run(&original_table("SERIAL", "TEXT")).await;
    db.run("ALTER TABLE sdk_api_keys DROP COLUMN external_subject").await;
    let ak = AgentKey::builder().pool(db.pool.clone()).unwrap();
    let created = ak
        .create(CreateKey::new("acct").budget_cents(10).scopes(["a"]).expires_in(Duration::from_secs(86_400)))
        .await
        .unwrap();
    let key = created.key.expose();
    assert!(ak.validate(key).await.unwrap().is_ok());
    assert!(ak.track_usage(key, 3).await.unwrap().is_ok());

    for _ in 0..2 {
        assert_names_subject(ak.validate_by_subject("s").await.unwrap_err());
        assert_names_subject(ak.track_usage_by_subject("s", 1).await.unwrap_err());
        assert_names_subject(ak.ensure_subject("s", CreateKey::default()).await.unwrap_err());
    }
    assert!(ak.validate(key).await.unwrap().is_ok(), "nothing else is affected");

    // Another process migrates; this client has seen the table without the columns.
    db.client().await;
    ak.ensure_subject("s", CreateKey::default()).await.unwrap();
    assert!(ak.validate_by_subject("s").await.unwrap().is_ok());
    assert!(ak.track_usage_by_subject("s", 1).await.unwrap().is_ok());
    db.run("UPDATE sdk_api_keys SET disabled_at = now() WHERE account_id = 'acct'").await;
    assert_eq!(ak.validate(key).await.unwrap().unwrap_err().reason, DenialReason::Disabled);
    db.drop().await;
}

fn assert_names_subject(error: agentkey::Error) {
    assert_eq!(error.code(), ErrorCode::MigrationRequired, "{error}");
    assert!(error.message().contains("external_subject"), "{error}");
}

/// The life of a key and of a subject.
async fn assert_works(ak: &AgentKey, account: &str) {
    let spec = CreateKey::new(account)
        .budget_cents(10)
        .budget_period(Period::Month)
        .scopes(["a", "b c"])
        .expires_in(Duration::from_secs(86_400));
    let created = ak.create(spec).await.unwrap();
    let key = created.key.expose();
    assert_eq!(ak.validate(key).await.unwrap().unwrap().scopes.unwrap(), ["a", "b c"]);
    let both = tokio::join!(ak.track_usage(key, 6), ak.track_usage(key, 6));
    assert_eq!([both.0.unwrap(), both.1.unwrap()].iter().filter(|usage| usage.is_ok()).count(), 1);
    let subject = CreateKey::new(account);
    ak.ensure_subject("subject", subject).await.unwrap();
    assert!(ak.validate_by_subject("subject").await.unwrap().is_ok());
    assert!(ak.revoke_of_account(created.id, Some(account)).await.unwrap());
    assert_eq!(ak.validate(key).await.unwrap().unwrap_err().reason, DenialReason::Revoked);
}
