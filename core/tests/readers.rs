//! Sessions that may only read: look-ups work, and noting the last use is given up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::{AgentKey, CreateKey, ErrorCode};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor};
use support::{TestDatabase, random};

/// Connections that begin with this.
async fn pool(db: &TestDatabase, set_up: String) -> PgPool {
    let options = PgPoolOptions::new().max_connections(3).after_connect(move |connection, _| {
        let set_up = set_up.clone();
        Box::pin(async move { connection.execute(AssertSqlSafe(set_up)).await.map(drop) })
    });
    options.connect(&db.url).await.unwrap()
}

async fn only_reads(db: &TestDatabase, set_up: String, sqlstate: &str) {
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    let key = created.key.expose();
    let pool = pool(db, set_up).await;
    let reader = AgentKey::builder().touch_interval_seconds(0).pool(pool.clone()).unwrap();
    for _ in 0..20 {
        assert!(reader.validate(key).await.unwrap().is_ok());
    }
    for error in [
        reader.track_usage(key, 1).await.unwrap_err(),
        reader.reserve(key, 1).await.unwrap_err(),
        reader.revoke(created.id.clone()).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), error.sqlstate()), (ErrorCode::Database, Some(sqlstate)), "{error}");
        assert!(!error.may_have_been_recorded());
    }
    assert!(reader.validate(key).await.unwrap().is_ok());
    reader.close().await;
    // The first attempt shows that it may not, and there is no other. Nobody waits for its answer but `close`.
    assert_eq!(reader.stats().failed_touches, 1);
    pool.close().await;
    assert_eq!(db.text("SELECT last_used_at FROM sdk_api_keys").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_select() {
    let db = TestDatabase::create().await;
    db.client().await;
    let role = format!("agentkey_reader_{:016x}", random());
    db.run(&format!("CREATE ROLE {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")).await;
    only_reads(&db, format!("SET ROLE {role}"), "42501").await;
    db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_may_only_read() {
    let db = TestDatabase::create().await;
    only_reads(&db, "SET default_transaction_read_only = on".to_owned(), "25006").await;
    db.drop().await;
}
