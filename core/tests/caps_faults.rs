//! Reservations and retries through crashes: of the application between reserve and settle, and of the database at any
//! point. Every reservation ends once, the ledger adds up, and repeating an operation under its id restores the totals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::time::Duration;

use agentkey::{AgentKey, Charge, CreateKey, ErrorCode, Reserve};
use support::server::TestServer;
use support::{TestDatabase, eventually, process};
use tokio::task::JoinSet;

const ROUNDS: usize = 20;
/// Operations of a round: half of them charges, half reservations that are settled.
const OPERATIONS: usize = 200;
const AT_ONCE: usize = 16;

fn builder() -> agentkey::Builder {
    AgentKey::builder().ledger(true).timeout(Duration::from_secs(2))
}

fn cost(n: usize) -> i64 {
    1 + n as i64 % 9
}

/// One operation under its id, repeated until it is through. What it cost.
async fn operate(ak: &AgentKey, key: &str, round: usize, n: usize) -> i64 {
    let id = format!("{round}-{n}");
    loop {
        if n.is_multiple_of(2) {
            if let Ok(usage) = ak.track_usage(key, Charge::new(cost(n)).idempotency_key(&id)).await {
                assert!(usage.is_ok(), "no cap is near: {usage:?}");
                return cost(n);
            }
        } else if let Ok(held) = ak.reserve(key, Reserve::new(5).idempotency_key(&id)).await {
            let held = match held {
                Ok(held) => held,
                // Its settle was recorded, though its reply was lost.
                Err(refusal) => {
                    let settled = refusal.settled.expect("no cap is near");
                    assert_eq!(settled.cost_microcents, cost(n) * 1_000_000);
                    return cost(n);
                }
            };
            if let Ok(settled) = ak.settle(&held.id, cost(n)).await {
                assert_eq!(settled.unwrap().cost_microcents, cost(n) * 1_000_000);
                return cost(n);
            }
        }
    }
}

/// All operations of a round, many at once.
async fn operate_all(ak: &AgentKey, key: &str, round: usize) -> i64 {
    let mut tasks = JoinSet::new();
    for start in 0..AT_ONCE {
        let (ak, key) = (ak.clone(), key.to_owned());
        tasks.spawn(async move {
            let mut total = 0;
            for n in (start..OPERATIONS).step_by(AT_ONCE) {
                total += operate(&ak, &key, round, n).await;
            }
            total
        });
    }
    tasks.join_all().await.into_iter().sum()
}

/// A parent and its child, and the child's raw key.
async fn child(ak: &AgentKey) -> String {
    let parent = ak.create(CreateKey::new("acct").budget_cents(100_000_000)).await.unwrap();
    let child = ak.create(CreateKey::new("acct").parent(parent.id)).await.unwrap();
    child.key.expose().to_owned()
}

async fn check(db: &TestDatabase, ak: &AgentKey, total: i64) {
    assert_eq!(ak.verify_ledger(None).await.unwrap(), []);
    let counters =
        "SELECT string_agg(budget_used_cents || '/' || budget_reserved_cents, ' ') FROM sdk_api_keys";
    assert_eq!(db.text(counters).await, format!("{total}/0 {total}/0"), "the child and its parent");
    let unsettled = "SELECT count(*) FROM sdk_api_keys_reservations WHERE state <> 'settled'";
    assert_eq!(db.number(unsettled).await, 0);
    let ends = "
        SELECT count(*) FROM (
            SELECT FROM sdk_api_keys_events WHERE reservation_id IS NOT NULL AND kind <> 'reserve' AND via_key_id IS NULL
            GROUP BY reservation_id HAVING count(*) <> 1) q";
    assert_eq!(db.number(ends).await, 0, "every reservation ends exactly once");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_application_leaves_nothing_that_a_retry_does_not_mend() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(builder()).await;
    let key = child(&ak).await;
    let mut total = 0;
    let mut left_open = 0;
    for round in 0..ROUNDS {
        let begun =
            format!("SELECT count(*) FROM sdk_api_keys_events WHERE idempotency_key LIKE '{round}-%'");
        let mut worker =
            process::start(&db, 1, "worker", &format!("{} {key} {round}", db.url)).await.remove(0);
        eventually("the worker is at it", async || db.number(&begun).await > 5).await;
        worker.kill().await.unwrap();
        let active = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()";
        eventually("its statements are over", async || db.number(active).await == 0).await;
        left_open +=
            db.number("SELECT count(*) FROM sdk_api_keys_reservations WHERE state = 'pending'").await;
        total += operate_all(&ak, &key, round).await;
        check(&db, &ak, total).await;
    }
    assert!(left_open > 0, "no worker was killed between reserve and settle");
    db.drop().await;
}

/// A process of the test above.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Some(input) = process::input() else { return };
    let words: Vec<&str> = input.split_whitespace().collect();
    let ak = builder().connect(words[0]).await.unwrap();
    process::started(words[0]).await;
    operate_all(&ak, words[1], words[2].parse().unwrap()).await;
    process::answer("");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_database_leaves_nothing_that_a_retry_does_not_mend() {
    let server = TestServer::start().await;
    let db = TestDatabase::create_on(&server.url).await;
    let ak = builder().connect(&db.url).await.unwrap();
    ak.migrate().await.unwrap();
    let key = child(&ak).await;
    let mut total = 0;
    for round in 0..ROUNDS {
        let load = tokio::spawn({
            let (ak, key) = (ak.clone(), key.clone());
            async move { operate_all(&ak, &key, round).await }
        });
        let begun =
            format!("SELECT count(*) FROM sdk_api_keys_events WHERE idempotency_key LIKE '{round}-%'");
        eventually("the load flows", async || db.number(&begun).await > 5).await;
        server.crash().await;
        server.restart().await;
        total += load.await.unwrap();
    }
    check(&db, &ak, total).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_for_longer_than_a_call_takes_loses_no_end() {
    let server = TestServer::start().await;
    let db = TestDatabase::create_on(&server.url).await;
    let ak = builder().timeout(Duration::from_secs(1)).connect(&db.url).await.unwrap();
    ak.migrate().await.unwrap();
    let key = ak.create(CreateKey::new("a").budget_cents(100)).await.unwrap().key;
    let key = key.expose();
    let hold = async || ak.reserve(key, Reserve::new(40)).await.unwrap().unwrap().id;
    let (spent, unused) = (hold().await, hold().await);
    server.crash().await;
    let settling = tokio::spawn({
        let ak = ak.clone();
        async move { ak.settle(&spent, 7).await }
    });
    let releasing = tokio::spawn({
        let ak = ak.clone();
        async move { ak.release(&unused).await }
    });
    // Its time is over while they go on.
    let other = ak.track_usage(key, Charge::new(1).idempotency_key("other")).await.unwrap_err();
    assert_eq!(other.code(), ErrorCode::Timeout, "{other}");
    assert!(!settling.is_finished() && !releasing.is_finished());
    server.restart().await;
    assert_eq!(settling.await.unwrap().unwrap().unwrap().cost_microcents, 7_000_000);
    releasing.await.unwrap().unwrap().unwrap();
    let grant = ak.validate(key).await.unwrap().unwrap();
    assert_eq!((grant.budget_used_cents, grant.budget_reserved_cents), (7, 0));
}
