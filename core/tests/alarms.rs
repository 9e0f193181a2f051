//! The ledger as a cursor, and alarms, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::{AgentKey, CreateKey, EventFilter};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use support::TestDatabase;
use tokio::task::JoinSet;

async fn ids(ak: &AgentKey, after: i64) -> Vec<i64> {
    let events = ak.events(EventFilter::new().after(after).limit(1_000)).await.unwrap();
    events.into_iter().map(|event| event.id).collect()
}

async fn write_entry(connection: &mut PgConnection, locks_first: bool) -> i64 {
    if locks_first {
        connection.execute("SELECT id FROM sdk_api_keys FOR KEY SHARE").await.unwrap();
    }
    let sql = "INSERT INTO sdk_api_keys_events (key_id, kind) SELECT id, 'test' FROM sdk_api_keys LIMIT 1 RETURNING id";
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn an_entry_that_is_committed_late_is_not_skipped() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let _ = ak.create(CreateKey::new("acct")).await.unwrap();
    let first = ids(&ak, 0).await;
    assert_eq!(first.len(), 1);
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(PgConnection::connect(&db.url).await.unwrap());
    }
    let [early, late, middle] = &mut connections[..] else { panic!() };
    // It has the lower transaction number, and the higher id.
    for connection in [&mut *early, &mut *late] {
        connection.execute("BEGIN").await.unwrap();
        connection.execute("SELECT id FROM sdk_api_keys FOR KEY SHARE").await.unwrap();
    }
    let low = write_entry(late, true).await;
    let high = write_entry(early, true).await;
    assert!(low < high);
    early.execute("COMMIT").await.unwrap();
    assert!(ids(&ak, first[0]).await.is_empty(), "an earlier one may still come");
    let higher = write_entry(middle, true).await;
    assert!(ids(&ak, first[0]).await.is_empty());
    late.execute("COMMIT").await.unwrap();
    assert_eq!(ids(&ak, first[0]).await, [low, high, higher]);
    // One that is rolled back leaves a gap, and nobody waits for it.
    late.execute("BEGIN").await.unwrap();
    write_entry(late, true).await;
    late.execute("ROLLBACK").await.unwrap();
    let last = write_entry(middle, false).await;
    assert_eq!(ids(&ak, higher).await, [last]);
    assert!(ids(&ak, last).await.is_empty());
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_misses_no_entry_of_many_writers() {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(2, || AgentKey::builder().ledger(true)).await;
    fleet[0].migrate().await.unwrap();
    let mut writers = JoinSet::new();
    for n in 0..16 {
        let ak = fleet[n % 2].clone();
        writers.spawn(async move {
            let key = ak.create(CreateKey::new("acct").budget_cents(1_000)).await.unwrap().key;
            for _ in 0..60 {
                let _ = ak.track_usage(key.expose(), 1).await.unwrap().unwrap();
            }
        });
    }
    let mut told = Vec::new();
    loop {
        let is_over = writers.try_join_next().is_none() && writers.is_empty();
        let page = ids(&fleet[0], told.last().copied().unwrap_or_default()).await;
        let is_empty = page.is_empty();
        told.extend(page);
        if is_over && is_empty {
            break;
        }
    }
    let all: Vec<i64> = sqlx::query_scalar("SELECT id FROM sdk_api_keys_events ORDER BY id")
        .fetch_all(&db.pool)
        .await
        .unwrap();
    assert_eq!(all.len(), 16 * 61);
    assert_eq!(told, all);
    db.drop().await;
}
