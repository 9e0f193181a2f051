//! What `usage` says from a time on, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::chrono::{DateTime, Utc};
use agentkey::{AgentKey, Charge, CreateKey, KeyId, Period, UsageFilter};
use support::TestDatabase;

/// A key with one charge of so many cents for each of these ages, the oldest first.
async fn charged(db: &TestDatabase, ak: &AgentKey, charges: &[(i64, &str)]) -> KeyId {
    let created = ak.create(CreateKey::new("acct")).await.unwrap();
    for (n, (cents, age)) in charges.iter().enumerate() {
        let charge = Charge::new(*cents).idempotency_key(n.to_string());
        let _ = ak.track_usage(created.key.expose(), charge).await.unwrap().unwrap();
        let sql = format!(
            "UPDATE sdk_api_keys_events SET at = now() - interval '{age}' WHERE idempotency_key = '{n}'"
        );
        db.run(&sql).await;
    }
    created.id
}

async fn ago(db: &TestDatabase, age: &str) -> DateTime<Utc> {
    let sql = format!("SELECT extract(epoch FROM now() - interval '{age}')::bigint");
    DateTime::from_timestamp(db.number(&sql).await, 0).unwrap()
}

#[tokio::test]
async fn old_entries_are_not_read() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let id = charged(&db, &ak, &[(1, "9 days"), (2, "8 days"), (4, "7 days"), (8, "1 hour")]).await;
    // Who reads this entry subtracts what cannot be subtracted. The one after it is where reading begins.
    db.run(
        "UPDATE sdk_api_keys_events SET used_after_microcents = 9223372036854775807, amount_microcents = -1
        WHERE idempotency_key = '1'",
    )
    .await;
    let filter = UsageFilter::of_key(id).by(Period::Year);
    let error = ak.usage(filter.clone()).await.unwrap_err();
    assert!(error.to_string().contains("out of range"), "{error}");
    let told = ak.usage(filter.from(ago(&db, "2 days").await)).await.unwrap();
    let spent: i64 = told.iter().map(|period| period.spent_microcents).sum();
    assert_eq!(spent, 8_000_000, "{told:?}");
    assert!(told.iter().all(|period| period.complete), "{told:?}");
    ak.close().await;
    db.drop().await;
}

#[tokio::test]
async fn entries_whose_transactions_began_long_before_are_counted() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    // The second one was written after the first, by a transaction that began before the time that is asked for.
    let id = charged(&db, &ak, &[(1, "30 hours"), (2, "20 hours"), (4, "40 hours"), (8, "1 hour")]).await;
    let filter = UsageFilter::of_key(id).by(Period::Year);
    let told = ak.usage(filter.from(ago(&db, "24 hours").await)).await.unwrap();
    let spent: i64 = told.iter().map(|period| period.spent_microcents).sum();
    assert_eq!(spent, 10_000_000, "{told:?}");
    assert!(told.iter().all(|period| period.complete), "{told:?}");
    ak.close().await;
    db.drop().await;
}
