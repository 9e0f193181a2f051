//! `agentkey doctor` on a real Postgres: faults are planted, and each must be named, with what to do; where that is a
//! statement, it is run, and the fault must be gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "support/cli.rs"]
mod cli;
mod support;

use cli::agentkey;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use support::{TestDatabase, eventually, original_table};

/// How a fault goes away.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cure {
    /// By the statement that is told.
    Told,
    /// By `agentkey migrate`.
    Migrate,
    /// By another command.
    Run(&'static [&'static str]),
    /// By hand: what to do is told in words.
    Words,
}

use Cure::{Migrate, Run, Told, Words};

/// A fault, the SQL that plants it (`{db}` and `{role}` are of this test alone), and its cure. The table has the keys 1,
/// 2 below it, 3 below that, and 4, which has a budget of a dollar a day.
const FAULTS: &[(&str, &str, Cure)] = &[
    ("no_table", "DROP TABLE sdk_api_keys", Migrate),
    (
        "not_a_table",
        "ALTER TABLE sdk_api_keys RENAME TO real_keys; CREATE VIEW sdk_api_keys AS SELECT * FROM real_keys",
        Words,
    ),
    (
        "shadowed_table",
        "CREATE SCHEMA other; CREATE TABLE other.sdk_api_keys (); ALTER DATABASE {db} SET search_path = public, other",
        Words,
    ),
    ("not_keys_table", "ALTER TABLE sdk_api_keys DROP COLUMN key_prefix", Words),
    ("missing_column", "ALTER TABLE sdk_api_keys DROP COLUMN budget_reset_at", Migrate),
    ("missing_column", "ALTER TABLE sdk_api_keys DROP COLUMN ancestor_ids", Migrate),
    (
        "not_migrated",
        "DROP TABLE sdk_api_keys, sdk_api_keys_events, sdk_api_keys_reservations, sdk_api_keys_deliveries; {original}",
        Migrate,
    ),
    ("missing_companion", "DROP TABLE sdk_api_keys_events", Migrate),
    ("missing_companion", "DROP TABLE sdk_api_keys_signups", Migrate),
    ("missing_index", "DROP INDEX sdk_api_keys_signups_ends", Migrate),
    (
        "foreign_companion",
        "DROP TABLE sdk_api_keys_events; CREATE TABLE sdk_api_keys_events (id bigint)",
        Words,
    ),
    ("companion_type", "ALTER TABLE sdk_api_keys_events ALTER key_id TYPE text", Words),
    ("companion_owner", "ALTER TABLE sdk_api_keys_events OWNER TO {role}", Told),
    ("unlogged", "ALTER TABLE sdk_api_keys_events SET UNLOGGED", Told),
    ("row_security_of_others", "ALTER TABLE sdk_api_keys ENABLE ROW LEVEL SECURITY", Told),
    (
        "trigger",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; CREATE TRIGGER \"odd one\" BEFORE UPDATE ON sdk_api_keys FOR EACH ROW EXECUTE FUNCTION f()",
        Told,
    ),
    ("rule", "CREATE RULE \"odd one\" AS ON UPDATE TO sdk_api_keys_reservations DO INSTEAD NOTHING", Told),
    ("column_type", "ALTER TABLE sdk_api_keys ALTER expires_at TYPE timestamp", Told),
    ("column_type", "ALTER TABLE sdk_api_keys ALTER budget_cents TYPE double precision", Told),
    ("link_type", "ALTER TABLE sdk_api_keys ALTER parent_id TYPE text", Words),
    ("small_budget", "ALTER TABLE sdk_api_keys ALTER budget_cents TYPE integer", Told),
    ("scopes_type", "DROP INDEX sdk_api_keys_scopes; ALTER TABLE sdk_api_keys ALTER scopes TYPE text", Words),
    (
        "required_column",
        "ALTER TABLE sdk_api_keys ADD \"the tenant\" text NOT NULL DEFAULT 'x'; ALTER TABLE sdk_api_keys ALTER \"the tenant\" DROP DEFAULT",
        Told,
    ),
    ("missing_index", "ALTER TABLE sdk_api_keys DROP CONSTRAINT sdk_api_keys_key_hash_key", Told),
    ("missing_index", "DROP INDEX sdk_api_keys_external_subject", Told),
    ("missing_index", "DROP INDEX sdk_api_keys_parent_id", Migrate),
    ("missing_index", "DROP INDEX sdk_api_keys_human", Told),
    ("missing_index", "DROP INDEX sdk_api_keys_events_idempotency", Told),
    ("missing_index", "DROP INDEX sdk_api_keys_res_key", Told),
    (
        "invalid_index",
        "CREATE INDEX broken ON sdk_api_keys (name); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass",
        Told,
    ),
    ("hot_index", "CREATE INDEX \"by use\" ON sdk_api_keys (last_used_at, id)", Told),
    ("autovacuum", "ALTER TABLE sdk_api_keys SET (autovacuum_enabled = off)", Told),
    ("read_only", "ALTER DATABASE {db} SET default_transaction_read_only = on", Told),
    ("isolation", "ALTER DATABASE {db} SET default_transaction_isolation = 'serializable'", Told),
    ("statement_timeout", "ALTER DATABASE {db} SET statement_timeout = '900ms'", Told),
    ("not_durable", "ALTER DATABASE {db} SET synchronous_commit = off", Told),
    (
        "overflow",
        "UPDATE sdk_api_keys SET budget_used_cents = 9223372036854775807, budget_reserved_cents = 9223372036854775807 WHERE id = 4",
        Words,
    ),
    ("full_counter", "UPDATE sdk_api_keys SET budget_used_cents = 4000000000000 WHERE id = 3", Words),
    (
        "negative_budget",
        "UPDATE sdk_api_keys SET budget_cents = -5 WHERE id = 4",
        Run(&["update", "4", "--budget-cents", "100"]),
    ),
    ("bad_fraction", "UPDATE sdk_api_keys SET budget_used_microcents = 1000000 WHERE id = 4", Words),
    ("null_account", "UPDATE sdk_api_keys SET account_id = NULL WHERE id = 4", Words),
    (
        "infinite_time",
        "UPDATE sdk_api_keys SET budget_anchor_at = 'infinity' WHERE id = 4",
        Run(&["update", "4", "--budget-period", "day"]),
    ),
    (
        "infinite_time",
        "UPDATE sdk_api_keys SET budget_reset_at = '294276-01-01' WHERE id = 4",
        Run(&["update", "4", "--budget-period", "day"]),
    ),
    (
        "unknown_period",
        "UPDATE sdk_api_keys SET budget_period = 'fortnight' WHERE id = 4",
        Run(&["update", "4", "--budget-period", "day"]),
    ),
    (
        "no_reset",
        "UPDATE sdk_api_keys SET budget_reset_at = NULL WHERE id = 4",
        Run(&["update", "4", "--budget-period", "day"]),
    ),
    ("broken_chain", "UPDATE sdk_api_keys SET ancestor_ids = '{2,3,1}' WHERE id = 3", Words),
    ("broken_chain", "UPDATE sdk_api_keys SET ancestor_ids = '{2,77}' WHERE id = 3", Words),
    ("broken_chain", "UPDATE sdk_api_keys SET ancestor_ids = NULL WHERE id = 3", Words),
    ("wrong_parent", "UPDATE sdk_api_keys SET parent_id = 4 WHERE id = 3", Words),
    ("bad_hash", "UPDATE sdk_api_keys SET key_hash = 'ak_1234' WHERE id = 4", Words),
    (
        "bad_scopes",
        "UPDATE sdk_api_keys SET scopes = '{read,NULL}' WHERE id = 4",
        Run(&["update", "4", "--scopes", "read"]),
    ),
    (
        "bad_scopes",
        "UPDATE sdk_api_keys SET scopes = '{\"\"}' WHERE id = 4",
        Run(&["update", "4", "--all-scopes"]),
    ),
    (
        "stale_hold",
        "INSERT INTO sdk_api_keys_reservations (id, key_id, amount_microcents, expires_at) VALUES (gen_random_uuid(), 4, 1000000, now() - interval '2 hours'); UPDATE sdk_api_keys SET budget_reserved_cents = 1 WHERE id = 4",
        Run(&["sweep"]),
    ),
    (
        "orphan_hold",
        "INSERT INTO sdk_api_keys_reservations (id, key_id, amount_microcents, expires_at) VALUES (gen_random_uuid(), 77, 1000000, now() + interval '2 hours')",
        Words,
    ),
    ("wrong_hold", "UPDATE sdk_api_keys SET budget_reserved_cents = 7 WHERE id = 4", Words),
];

/// A database with a few good keys.
async fn database() -> TestDatabase {
    let db = TestDatabase::create().await;
    for arguments in [
        &["migrate"][..],
        &["create", "--account", "a", "--scopes", "read"],
        &["create", "--parent", "1"],
        &["create", "--parent", "2", "--delegated-by", "alice"],
        &["create", "--account", "a", "--budget-cents", "100", "--budget-period", "day"],
    ] {
        assert_eq!(agentkey(&db.url, arguments).await.code, 0);
    }
    db
}

/// What the doctor finds, checked for its parts.
async fn findings(url: &str) -> Vec<Value> {
    let said = agentkey(url, &["--json", "doctor"]).await;
    let Value::Array(findings) = said.json() else { panic!("{said:?}") };
    let is_wrong = findings.iter().any(|finding| finding["severity"] == "error");
    assert_eq!(said.code, if is_wrong { 4 } else { 0 }, "{said:?}");
    for finding in &findings {
        for part in ["check", "found", "why", "whatToDo", "severity"] {
            assert!(finding[part].as_str().is_some_and(|text| !text.is_empty()), "{part} of {finding}");
        }
    }
    findings
}

/// What this server says of itself, whatever is planted: it may be run without fsync.
fn is_of_server(finding: &Value) -> bool {
    finding["check"] == "not_durable" && finding["subject"] != "synchronous_commit"
}

async fn finding(url: &str, check: &str) -> Option<Value> {
    findings(url).await.into_iter().find(|finding| finding["check"] == check && !is_of_server(finding))
}

#[tokio::test]
async fn a_good_database_has_nothing_wrong() {
    let db = database().await;
    let found: Vec<Value> =
        findings(&db.url).await.into_iter().filter(|finding| !is_of_server(finding)).collect();
    assert_eq!(found, Vec::<Value>::new());
    let said = agentkey(&db.url, &["doctor"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.error.contains("PostgreSQL"), "{said:?}");
    db.drop().await;
}

#[tokio::test]
async fn each_fault_is_named_with_what_to_do() {
    let good = database().await;
    // A database can be copied while nobody is connected to it.
    good.pool.close().await;
    let mut planted = 0;
    for (check, plant, cure) in FAULTS {
        let db = TestDatabase::create_with(&support::server_url(), &format!("TEMPLATE {}", good.name)).await;
        let role = format!("{}_role", db.name);
        db.run(&format!("CREATE ROLE {role}")).await;
        let original = original_table("BIGSERIAL", "TEXT");
        db.run(&plant.replace("{db}", &db.name).replace("{role}", &role).replace("{original}", &original))
            .await;
        let before = everything(&db).await;
        let found =
            finding(&db.url, check).await.unwrap_or_else(|| panic!("{check} is not named after {plant}"));
        assert_eq!(everything(&db).await, before, "the doctor changed something: {check}");
        // People are told the same.
        let said = agentkey(&db.url, &["doctor"]).await;
        for part in ["check", "found", "why", "whatToDo"] {
            assert!(said.output.contains(found[part].as_str().unwrap()), "{part} of {found}: {said:?}");
        }
        match cure {
            Told => {
                let fix = found["fix"].as_str().unwrap_or_else(|| panic!("{check} has no statement"));
                assert!(said.output.contains(fix), "{said:?}");
                let mut session = db.session().await;
                let fixed = session.execute(sqlx::raw_sql(AssertSqlSafe(fix.to_owned()))).await;
                fixed.unwrap_or_else(|e| panic!("{check}: {fix}: {e}"));
            }
            Migrate => {
                let why =
                    format!("{}{}", found["whatToDo"].as_str().unwrap(), found["why"].as_str().unwrap());
                assert!(why.contains("agentkey migrate"), "{why}");
                let said = agentkey(&db.url, &["migrate"]).await;
                assert_eq!(said.code, 0, "{check}: {said:?}");
            }
            Run(arguments) => {
                let what = found["whatToDo"].as_str().unwrap();
                assert!(what.contains(&format!("agentkey {}", arguments[0])), "{what}");
                let said = agentkey(&db.url, arguments).await;
                assert_eq!(said.code, 0, "{check}: {said:?}");
            }
            Words => {}
        }
        if *cure != Words {
            assert_eq!(finding(&db.url, check).await, None, "{check} is still there");
        }
        planted += 1;
        // A session of the pool may have begun while the database had another setting.
        let dropping = format!("DROP OWNED BY {role}; DROP ROLE {role}");
        db.session().await.execute(sqlx::raw_sql(AssertSqlSafe(dropping))).await.unwrap();
        db.drop().await;
    }
    assert!(planted >= 20);
    good.drop().await;
}

/// What the database holds, its settings and its schema.
async fn everything(db: &TestDatabase) -> String {
    let mut all = db.text("SELECT string_agg(c.oid::text || c.relname || c.xmin::text, ',' ORDER BY c.oid) FROM pg_class c WHERE relnamespace = 'public'::regnamespace").await;
    all.push_str(
        &db.text("SELECT coalesce(string_agg(s::text, ',' ORDER BY s::text), '') FROM pg_db_role_setting s")
            .await,
    );
    let tables = "SELECT coalesce(string_agg(quote_ident(relname), ','), '') FROM pg_class WHERE relkind = 'r' AND relname LIKE 'sdk_api_keys%' AND relnamespace = 'public'::regnamespace";
    for table in db.text(tables).await.split(',').filter(|table| !table.is_empty()) {
        all.push_str(&db.text(&format!("SELECT coalesce(string_agg(t::text || t.xmin::text || t.ctid::text, ',' ORDER BY t.ctid), '') FROM {table} t")).await);
    }
    all
}

#[tokio::test]
async fn a_role_without_rights_is_told_which_it_needs() {
    let db = database().await;
    let role = format!("{}_role", db.name);
    db.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).await;
    let (scheme, rest) = db.url.split_once("://").unwrap();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let url = format!("{scheme}://{role}:x@{rest}");
    let found = findings(&url).await;
    let of = |check: &str| found.iter().filter(|finding| finding["check"] == check).count();
    assert_eq!((of("privilege"), of("rows_unread")), (6, 1), "{found:?}");
    for finding in found.iter().filter(|finding| finding["check"] == "privilege") {
        db.run(finding["fix"].as_str().unwrap()).await;
    }
    assert_eq!(finding(&url, "privilege").await, None);
    assert_eq!(finding(&url, "rows_unread").await, None);
    // And it may do what it needs to.
    let created = agentkey(&url, &["create", "--account", "b"]).await;
    assert_eq!(created.code, 0, "{created:?}");

    db.run("ALTER TABLE sdk_api_keys ENABLE ROW LEVEL SECURITY").await;
    let found = finding(&url, "row_security").await.unwrap();
    db.run(found["fix"].as_str().unwrap()).await;
    assert_eq!(finding(&url, "row_security").await, None);
    db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    db.drop().await;
}

#[tokio::test]
async fn the_sequence_of_a_serial_id_is_a_right_too() {
    let db = TestDatabase::create().await;
    db.run(&original_table("BIGSERIAL", "TEXT")).await;
    assert_eq!(agentkey(&db.url, &["migrate"]).await.code, 0);
    let role = format!("{}_role", db.name);
    db.run(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
    ))
    .await;
    let (scheme, rest) = db.url.split_once("://").unwrap();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let url = format!("{scheme}://{role}:x@{rest}");
    assert_eq!(agentkey(&url, &["create", "--account", "b"]).await.code, 1);
    let found = finding(&url, "privilege").await.unwrap();
    db.run(found["fix"].as_str().unwrap()).await;
    assert_eq!(agentkey(&url, &["create", "--account", "b"]).await.code, 0);
    db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    db.drop().await;
}

#[tokio::test]
async fn whoever_holds_locks_is_named() {
    let db = database().await;
    let mut holder: PgConnection = db.session().await;
    holder.execute("BEGIN").await.unwrap();
    holder.execute("UPDATE sdk_api_keys SET name = name WHERE id = 1").await.unwrap();
    let mut found = None;
    for _ in 0..300 {
        found = finding(&db.url, "lock_holder").await;
        if found.is_some() {
            break;
        }
    }
    let found = found.expect("the holder is named");
    assert!(found["found"].as_str().unwrap().starts_with("idle in transaction"), "{found}");
    let mut session = db.session().await;
    session.execute(sqlx::raw_sql(AssertSqlSafe(found["fix"].as_str().unwrap().to_owned()))).await.unwrap();
    eventually("the holder is gone", async || finding(&db.url, "lock_holder").await.is_none()).await;
    db.drop().await;
}

#[tokio::test]
async fn dead_rows_are_counted() {
    let db = database().await;
    db.run("ALTER TABLE sdk_api_keys SET (autovacuum_enabled = off)").await;
    let mut session = db.session().await;
    session.execute("INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix) SELECT 'a', md5(n::text), 'ak_' FROM generate_series(1, 3000) n").await.unwrap();
    session.execute("DELETE FROM sdk_api_keys WHERE id > 4").await.unwrap();
    // A session that ends says what it did.
    session.close().await.unwrap();
    eventually("dead rows are told", async || finding(&db.url, "dead_rows").await.is_some()).await;
    let found = finding(&db.url, "dead_rows").await.unwrap();
    db.run(found["fix"].as_str().unwrap()).await;
    eventually("they are gone", async || finding(&db.url, "dead_rows").await.is_none()).await;
    db.drop().await;
}

/// The doctor's list of indexes is not the migrations': each must know all of the other's.
#[tokio::test]
async fn each_index_that_a_migration_makes_is_missed() {
    let db = database().await;
    let made = db
        .text(
            "SELECT string_agg(indexrelid::regclass::text, ',')
             FROM pg_index i
             JOIN pg_class t ON t.oid = i.indrelid
             WHERE t.relname LIKE 'sdk\\_api\\_keys%' AND t.relkind = 'r'
               AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)",
        )
        .await;
    assert!(made.split(',').count() >= 10, "{made}");
    for index in made.split(',') {
        db.run(&format!("DROP INDEX {index}")).await;
        let found =
            finding(&db.url, "missing_index").await.unwrap_or_else(|| panic!("nobody misses {index}"));
        db.run(found["fix"].as_str().unwrap()).await;
        assert_eq!(finding(&db.url, "missing_index").await, None, "{found}");
        // Migrations know what the doctor's statement made.
        let made_again = agentkey(&db.url, &["migrate"]).await;
        assert_eq!(made_again.code, 0, "{made_again:?}");
    }
    assert_eq!(
        db.text("SELECT count(*)::text FROM pg_index WHERE indrelid = 'sdk_api_keys'::regclass").await,
        "12",
        "an index was made twice"
    );
    db.drop().await;
}

#[tokio::test]
async fn other_encodings_are_told() {
    let server = support::server_url();
    let db = TestDatabase::create_with(
        &server,
        "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )
    .await;
    assert_eq!(agentkey(&db.url, &["migrate"]).await.code, 0);
    let found = finding(&db.url, "encoding").await.unwrap();
    assert!(found["found"].as_str().unwrap().contains("LATIN1"), "{found}");
    db.drop().await;
}

#[test]
fn the_docs_name_each_fault() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md")).unwrap();
    for (check, ..) in FAULTS {
        assert!(docs.contains(&format!("| `{check}` |")), "docs/cli.md does not name {check}");
    }
}
