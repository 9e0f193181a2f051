//! Pools without a free connection: what nobody waits for any more is not sent, and callers are told the truth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use agentkey::{AgentKey, CreateKey, Error, ErrorCode};
use sqlx::postgres::{PgPool, PgPoolOptions};
use support::{Dice, TestDatabase, eventually, random};
use tokio::task::JoinSet;

async fn pool(db: &TestDatabase, connections: u32) -> PgPool {
    PgPoolOptions::new().max_connections(connections).connect(&db.url).await.unwrap()
}

async fn key(ak: &AgentKey) -> String {
    ak.create(CreateKey::new("acct").budget_cents(1_000_000)).await.unwrap().key.expose().to_owned()
}

/// Used and reserved micro-cents.
const MONEY: &str = "
    SELECT budget_used_cents || '.' || budget_used_microcents || ' ' || budget_reserved_cents || '.' || budget_reserved_microcents
    FROM sdk_api_keys";
const USED: &str = "SELECT budget_used_cents::bigint FROM sdk_api_keys";
const HELD: &str = "SELECT budget_reserved_cents FROM sdk_api_keys";

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_timed_out_without_a_connection_never_charge() {
    let db = TestDatabase::create().await;
    let key = key(&db.client().await).await;
    let pool = pool(&db, 1).await;
    let ak = AgentKey::builder().timeout(Duration::from_millis(300)).pool(pool.clone()).unwrap();
    // A slow machine may need longer than that for the table's columns.
    eventually("it has looked at the table", async || {
        ak.validate(&key).await.is_ok_and(|grant| grant.is_ok())
    })
    .await;
    let connection = pool.acquire().await.unwrap();
    let mut calls = JoinSet::new();
    for n in 0..10 {
        let (ak, key) = (ak.clone(), key.clone());
        calls.spawn(async move {
            match n % 2 {
                0 => ak.track_usage(&key, 100).await.map(drop),
                _ => ak.reserve(&key, 100).await.map(drop),
            }
        });
    }
    for outcome in calls.join_all().await {
        let error = outcome.unwrap_err();
        assert_eq!((error.code(), error.may_have_been_recorded()), (ErrorCode::Timeout, false), "{error}");
    }
    // One whose future is dropped.
    let dropped = tokio::time::timeout(Duration::from_millis(20), ak.track_usage(&key, 100)).await;
    assert!(dropped.is_err());
    drop(connection);
    ak.close().await;
    assert_eq!(db.text(MONEY).await, "0.0 0.0");
    db.drop().await;
}

const CALLS: usize = 10_000;

#[derive(Default)]
struct Tally {
    spent: AtomicI64,
    held: AtomicI64,
    perhaps_spent: AtomicI64,
    perhaps_held: AtomicI64,
}

/// One charge or reserve, under a time limit and perhaps dropped before that.
async fn call(ak: &AgentKey, key: &str, dice: &mut Dice, tally: &Tally) {
    let is_charge = dice.roll(2) == 0;
    let (certain, perhaps) = match is_charge {
        true => (&tally.spent, &tally.perhaps_spent),
        false => (&tally.held, &tally.perhaps_held),
    };
    let call = async {
        match is_charge {
            true => ak.track_usage(key, 1).await.map(|outcome| outcome.is_ok()),
            false => ak.reserve(key, 1).await.map(|outcome| outcome.is_ok()),
        }
    };
    let patience = Duration::from_micros(200 + dice.roll(100_000) as u64);
    let outcome: Result<Result<bool, Error>, _> = tokio::time::timeout(patience, call).await;
    match outcome {
        Ok(Ok(true)) => certain.fetch_add(1, Relaxed),
        Ok(Ok(false)) => panic!("no budget is near"),
        Ok(Err(error)) if error.may_have_been_recorded() => perhaps.fetch_add(1, Relaxed),
        Ok(Err(_)) => 0,
        // The caller is gone: nobody told it anything.
        Err(_) => perhaps.fetch_add(1, Relaxed),
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn under_random_limits_on_a_starved_pool_callers_are_told_the_truth() {
    let db = TestDatabase::create().await;
    let key = key(&db.client().await).await;
    let pool = pool(&db, 2).await;
    let clients: Vec<AgentKey> = [200, 1_000, 5_000, 20_000, 50_000]
        .map(|micros| AgentKey::builder().timeout(Duration::from_micros(micros)).pool(pool.clone()).unwrap())
        .into();
    // The application uses its connections itself.
    let is_over = Arc::new(AtomicBool::new(false));
    let (others, their_pool) = (Arc::clone(&is_over), pool.clone());
    let application = tokio::spawn(async move {
        while !others.load(Relaxed) {
            // The load itself: a connection that is in use.
            sqlx::query("SELECT pg_sleep(0.003)").execute(&their_pool).await.unwrap();
        }
    });
    let tally = Arc::new(Tally::default());
    let mut callers = JoinSet::new();
    for n in 0..50 {
        let (ak, key, tally) = (clients[n % clients.len()].clone(), key.clone(), Arc::clone(&tally));
        callers.spawn(async move {
            let mut dice = Dice(random());
            for _ in 0..CALLS / 50 {
                call(&ak, &key, &mut dice, &tally).await;
            }
        });
    }
    callers.join_all().await;
    for ak in &clients {
        ak.close().await;
    }
    let money = db.text(MONEY).await;
    is_over.store(true, Relaxed);
    application.await.unwrap();
    let (used, held) = (db.number(USED).await, db.number(HELD).await);
    let [spent, perhaps_spent, kept, perhaps_kept] =
        [&tally.spent, &tally.perhaps_spent, &tally.held, &tally.perhaps_held]
            .map(|count| count.load(Relaxed));
    println!(
        "used {used}: {spent} acknowledged, {perhaps_spent} uncertain; held {held}: {kept}, {perhaps_kept}"
    );
    assert!((spent..=spent + perhaps_spent).contains(&used), "{used} used");
    assert!((kept..=kept + perhaps_kept).contains(&held), "{held} held");
    assert!(spent > 0 && kept > 0, "some came through");
    assert_eq!(db.text(MONEY).await, money, "nothing changes once the clients are closed");
    db.drop().await;
}
