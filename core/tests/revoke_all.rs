//! The panic switch among many keys, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::{AgentKey, CreateKey, RevokeFilter};
use support::{TestDatabase, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn several_of_them_wait_for_locked_keys_and_keep_nobody_else_waiting() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let mut session = db.session().await;
    // More of them than places for such calls.
    for n in 0..6 {
        for _ in 0..2 {
            let _ = ak.create(CreateKey::new(format!("a{n}"))).await.unwrap();
        }
    }
    let lock = "BEGIN; SELECT FROM sdk_api_keys WHERE id % 2 = 0 FOR UPDATE";
    sqlx::Executor::execute(&mut session, lock).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..6 {
        let ak = ak.clone();
        waiting.spawn(
            async move { ak.revoke_all(RevokeFilter::Account(format!("a{n}").into())).await.unwrap() },
        );
    }
    let revoked = "SELECT count(*) FROM sdk_api_keys WHERE revoked_at IS NOT NULL";
    eventually("what is free is revoked at once", async || db.number(revoked).await == 6).await;
    eventually("some wait", async || db.waiting_sessions().await > 0).await;
    // Others go on: creating, revoking and listing.
    for _ in 0..8 {
        let created = ak.create(CreateKey::new("other")).await.unwrap();
        assert!(ak.revoke(created.id).await.unwrap());
    }
    assert_eq!(ak.revoke_all(RevokeFilter::Account("other".into())).await.unwrap(), 0);
    sqlx::Executor::execute(&mut session, "COMMIT").await.unwrap();
    assert_eq!(waiting.join_all().await, [2; 6]);
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'revoke'").await, 12 + 8);
    db.drop().await;
}

/// How often the keys were read from the first to the last.
async fn whole_scans(db: &TestDatabase) -> i64 {
    db.at_rest("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'sdk_api_keys'").await
}

#[tokio::test]
async fn no_plan_reads_the_whole_table_for_a_few_keys() {
    let db = TestDatabase::create().await;
    let _ = db.client().await;
    db.run(
        "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, delegated_by, parent_id, ancestor_ids)
         SELECT 'a' || n % 1000, n::text, 'ak_', 'h' || n % 1000, p, CASE WHEN p IS NOT NULL THEN ARRAY[p] END
         FROM generate_series(1, 50000) n, LATERAL (SELECT CASE WHEN n > 2 AND n % 1000 < 500 THEN 1::bigint END AS p) x;
         ANALYZE sdk_api_keys",
    )
    .await;
    let before = whole_scans(&db).await;
    let ak = AgentKey::builder().connect(&db.url).await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..8 {
        for filter in [
            RevokeFilter::Account("a1".into()),
            RevokeFilter::Account("nobody".into()),
            RevokeFilter::DelegatedBy("h2".to_owned()),
            RevokeFilter::DelegatedBy("nobody".to_owned()),
            RevokeFilter::Parent(2.into()),
        ] {
            counts.push(ak.revoke_all(filter).await.unwrap());
        }
    }
    ak.close().await;
    assert_eq!(counts[..5], [50, 0, 50, 0, 0]);
    assert_eq!(counts[5..].iter().sum::<u64>(), 0);
    assert_eq!(whole_scans(&db).await, before);
    db.drop().await;
}
