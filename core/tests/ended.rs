//! Very many reservations that have ended, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::CreateKey;
use support::TestDatabase;

#[tokio::test]
async fn a_settle_reads_nothing_of_what_others_ended() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct")).await.unwrap();
    // As a busy day leaves them: in the indexes of what is pending until the next vacuum, while Postgres knows already
    // that hardly anything is pending.
    db.run("ALTER TABLE sdk_api_keys_reservations SET (autovacuum_enabled = false)").await;
    db.run(&format!(
        "INSERT INTO sdk_api_keys_reservations (id, key_id, amount_microcents, expires_at)
        SELECT gen_random_uuid(), {}, 1, now() + interval '1 hour' FROM generate_series(1, 20000)",
        created.id
    ))
    .await;
    db.run(
        "UPDATE sdk_api_keys_reservations SET state = 'settled', finished_at = now(), settled_microcents = 1",
    )
    .await;
    db.run("ANALYZE sdk_api_keys_reservations").await;
    for _ in 0..20 {
        let held = ak.reserve(created.key.expose(), 2).await.unwrap().unwrap();
        let _ = ak.settle(&held.id, 1).await.unwrap().unwrap();
    }
    // Who was connected has told what it read by then.
    ak.close().await;
    let scans = |which: &str| {
        format!(
            "SELECT sum(s.idx_scan)::bigint FROM pg_stat_user_indexes s JOIN pg_index i USING (indexrelid)
            WHERE s.relname = 'sdk_api_keys_reservations' AND i.indpred IS {which}"
        )
    };
    support::eventually("its reads are counted", async || db.number(&scans("NULL")).await >= 20).await;
    assert_eq!(db.number(&scans("NOT NULL")).await, 0);
    db.drop().await;
}
