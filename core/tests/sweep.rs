//! Reservations whose time is over: nobody waits for those of others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use agentkey::{AgentKey, CreateKey};
use support::TestDatabase;

/// So many cents are held, one each.
const BACKLOG: i64 = 20_000;

/// A key whose whole budget is held by reservations whose time is over.
async fn key_with_backlog(db: &TestDatabase, ak: &AgentKey) -> String {
    let created = ak.create(CreateKey::new("backlog").budget_cents(BACKLOG)).await.unwrap();
    db.run(&format!(
        "INSERT INTO sdk_api_keys_reservations (id, key_id, amount_microcents, expires_at)
         SELECT gen_random_uuid(), {id}, 1000000, now() - interval '1 second' * n FROM generate_series(1, {BACKLOG}) n;
         UPDATE sdk_api_keys SET budget_reserved_cents = {BACKLOG} WHERE id = {id};
         ANALYZE",
        id = created.id
    ))
    .await;
    created.key.expose().to_owned()
}

async fn key(ak: &AgentKey) -> String {
    ak.create(CreateKey::new("other").budget_cents(1_000_000)).await.unwrap().key.expose().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_one_key_keeps_no_other_waiting() {
    let db = TestDatabase::create().await;
    let _ = db.client().await;
    let clients = db.fleet(2, AgentKey::builder).await;
    let (full, other) = (key_with_backlog(&db, &clients[0]).await, key(&clients[0]).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let longest = clients.iter().map(|ak| {
        let (ak, other, is_over) = (ak.clone(), other.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            while !is_over.load(Relaxed) {
                let began = Instant::now();
                let held = ak.reserve(&other, 1).await.unwrap().unwrap();
                assert!(ak.settle(&held.id, 1).await.unwrap().is_ok());
                longest = longest.max(began.elapsed());
            }
            longest
        })
    });
    let longest: Vec<_> = longest.collect();
    // As much room is made as it needs, slice by slice.
    let held = clients[0].reserve(&full, BACKLOG - 10).await.unwrap().unwrap();
    assert!(clients[0].settle(&held.id, 0).await.unwrap().is_ok());
    let swept = clients[1].sweep_reservations().await.unwrap();
    is_over.store(true, Relaxed);
    for longest in longest {
        let longest = longest.await.unwrap();
        println!("the longest reserve and settle of another key beside the sweeps: {longest:?}");
        assert!(longest < Duration::from_secs(2), "{longest:?}");
    }
    let pending = db.number("SELECT count(*) FROM sdk_api_keys_reservations WHERE state = 'pending'").await;
    assert_eq!((pending, swept < BACKLOG as u64), (0, true), "the reserve had made some of the room");
    assert_eq!(clients[0].verify_ledger(None).await.unwrap(), []);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_leaves_out_what_somebody_has_locked() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let (_, other) = (key_with_backlog(&db, &ak).await, key(&ak).await);
    let held = ak.reserve(&other, 1).await.unwrap().unwrap();
    db.run("UPDATE sdk_api_keys_reservations SET expires_at = now() WHERE amount_microcents = 1000000").await;
    let mut session = db.session().await;
    sqlx::raw_sql("BEGIN; SELECT FROM sdk_api_keys WHERE account_id = 'backlog' FOR UPDATE")
        .execute(&mut session)
        .await
        .unwrap();
    assert_eq!(ak.sweep_reservations().await.unwrap(), 1, "only that of the key that nobody has locked");
    assert!(!ak.release(&held.id).await.unwrap().unwrap(), "it is over");
    sqlx::raw_sql("ROLLBACK").execute(&mut session).await.unwrap();
    assert_eq!(ak.sweep_reservations().await.unwrap(), BACKLOG as u64);
    db.drop().await;
}
