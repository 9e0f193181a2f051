//! Limits of a key beside its budget, and breakers, under load of two clients on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentkey::{AgentKey, Cost, CreateKey, KeyLimit, KeyUpdate, Period};
use support::{Dice, TestDatabase, random};
use tokio::task::JoinSet;

const CALLERS: usize = 64;
const CENT: i64 = 1_000_000;
/// The windows are over.
const OVER: &str = "UPDATE sdk_api_keys SET budget_reset_at = now() - interval '1 second',
    budget_microcents_reset_at = now() - interval '1 second' WHERE budget_period IN ('5m', 'hour')";

/// Charges, or reserves and settles, at random: what was acknowledged, in micro-cents.
async fn spend(ak: AgentKey, key: Arc<str>, calls: usize) -> i64 {
    let mut dice = Dice(random());
    let mut spent = 0;
    for _ in 0..calls {
        let cost = 1 + dice.roll(3 * CENT as usize) as i64;
        match dice.roll(3) {
            0 => match ak.reserve(&key, Cost::microcents(cost)).await.unwrap() {
                Ok(held) if dice.roll(3) == 0 => _ = ak.release(&held.id).await.unwrap().unwrap(),
                Ok(held) => {
                    let cost = cost / 2 + 1;
                    let _ = ak.settle(&held.id, Cost::microcents(cost)).await.unwrap().unwrap();
                    spent += cost;
                }
                Err(_) => {}
            },
            _ => {
                if ak.track_usage(&key, Cost::microcents(cost)).await.unwrap().is_ok() {
                    spent += cost;
                }
            }
        }
    }
    spent
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_limits_are_never_passed_singly_or_together() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, || AgentKey::builder().ledger(true)).await;
    let ak = &clients[0];
    ak.migrate().await.unwrap();
    let limits = [KeyLimit::new(150).every(Period::minutes(5)), KeyLimit::new(400).every(Period::Month)];
    let parent = ak.create(CreateKey::new("acct").budget_cents(1_000).limits(limits)).await.unwrap();
    let child = CreateKey::child_of(&parent.id).limits([KeyLimit::new(120).every(Period::Hour)]);
    let child = ak.create(child).await.unwrap();
    // The first window is full, and the second, and then the limit of the month.
    for [window, all] in [[150, 150], [150, 300], [101, 400]] {
        let mut spending = JoinSet::new();
        for n in 0..2 * CALLERS {
            let key = if n % 3 == 0 { &child.key } else { &parent.key };
            spending.spawn(spend(clients[n % 2].clone(), Arc::from(key.expose()), 6));
        }
        let acknowledged: i64 = spending.join_all().await.into_iter().sum();
        let limits = ak.get(parent.id.clone()).await.unwrap().unwrap().limits;
        assert!(limits[0].used_cents <= window && limits[1].used_cents <= all, "{limits:?}");
        // So much was asked for that hardly a cent is left.
        assert!(limits[0].used_cents >= window - 3 || limits[1].used_cents >= all - 3, "{limits:?}");
        let of_child = ak.get(child.id.clone()).await.unwrap().unwrap().limits;
        assert!(of_child[0].used_cents <= 120, "{of_child:?}");
        let used = "SELECT budget_used_cents * 1000000 + budget_used_microcents FROM sdk_api_keys WHERE budget_period = '5m'";
        assert_eq!(
            db.number(used).await,
            acknowledged,
            "what is used of the window is what was acknowledged"
        );
        assert_eq!(ak.verify_ledger(None).await.unwrap(), []);
        db.run(OVER).await;
        let limits = ak.get(parent.id.clone()).await.unwrap().unwrap().limits;
        assert_eq!(limits[0].used_cents, 0, "a window that is over is unused");
    }
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_trips_once_across_clients_until_somebody_enables_the_key() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, AgentKey::builder).await;
    let ak = &clients[0];
    ak.migrate().await.unwrap();
    let breaker = KeyLimit::new(100).every(Period::minutes(5)).disables();
    let created = ak.create(CreateKey::new("acct").limits([breaker])).await.unwrap();
    let key: Arc<str> = Arc::from(created.key.expose());
    for round in 1..=3 {
        let mut charging = JoinSet::new();
        for n in 0..2 * CALLERS {
            let (ak, key) = (clients[n % 2].clone(), Arc::clone(&key));
            charging.spawn(async move {
                let mut done = 0;
                for call in 0..4 {
                    done += match (n + call) % 2 {
                        0 => i64::from(ak.track_usage(&key, 1).await.unwrap().is_ok()),
                        _ => match ak.reserve(&key, Cost::cents(1)).await.unwrap() {
                            Ok(held) => i64::from(ak.settle(&held.id, Cost::cents(1)).await.unwrap().is_ok()),
                            Err(_) => 0,
                        },
                    };
                }
                done
            });
        }
        let done: i64 = charging.join_all().await.into_iter().sum();
        // Once the key is off, nothing is reserved, so that the last cents may be left.
        assert!(done <= 100, "{done} cents of 100");
        let record = ak.get(created.id.clone()).await.unwrap().unwrap();
        assert!(record.disabled_at.is_some() && record.limits[0].used_cents <= 100, "{record:?}");
        let events = "SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'disable'";
        assert_eq!(db.number(events).await, round, "it trips once, with one event");
        db.run(OVER).await;
        let _ = clients[1].enable(created.id.clone()).await.unwrap().unwrap();
        assert!(ak.validate(&key).await.unwrap().is_ok(), "it is on again");
    }
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_given_under_load_count_what_is_held() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, || AgentKey::builder().ledger(true)).await;
    let ak = &clients[0];
    ak.migrate().await.unwrap();
    for _ in 0..8 {
        let created = ak.create(CreateKey::new("acct")).await.unwrap();
        let key: Arc<str> = Arc::from(created.key.expose());
        let stop = Arc::new(AtomicBool::new(false));
        let mut spending = JoinSet::new();
        for n in 0..24 {
            let (ak, key, stop) = (clients[n % 2].clone(), Arc::clone(&key), Arc::clone(&stop));
            spending.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    spend(ak.clone(), Arc::clone(&key), 1).await;
                }
            });
        }
        for limits in [
            vec![KeyLimit::new(1_000_000).every(Period::Day)],
            vec![
                KeyLimit::new(900_000).every(Period::minutes(5)),
                KeyLimit::new(1_000_000).every(Period::Day),
            ],
            vec![],
            vec![KeyLimit::new(800_000), KeyLimit::new(700_000).every(Period::Year)],
        ] {
            let count = limits.len();
            let record =
                clients[1].update(created.id.clone(), KeyUpdate::new().limits(limits)).await.unwrap();
            assert_eq!(record.unwrap().limits.len(), count);
        }
        stop.store(true, Ordering::Relaxed);
        spending.join_all().await;
        assert_eq!(ak.verify_ledger(None).await.unwrap(), [], "what is held is what open reservations hold");
        assert_eq!(db.number("SELECT sum(budget_reserved_cents) FROM sdk_api_keys").await, 0);
    }
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_born_meanwhile_has_its_parents_limits() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, AgentKey::builder).await;
    let ak = &clients[0];
    ak.migrate().await.unwrap();
    let mut limited = 0;
    for _ in 0..60 {
        let parent = ak.create(CreateKey::new("acct")).await.unwrap();
        let children = async {
            for _ in 0..2 {
                let _ = clients[1].create(CreateKey::child_of(&parent.id)).await.unwrap();
            }
        };
        let limits = KeyUpdate::new().limits([KeyLimit::new(5).every(Period::Day)]);
        let (updated, ()) = tokio::join!(ak.update(parent.id.clone(), limits), children);
        limited += u32::from(updated.is_ok());
    }
    let lacking = "SELECT count(*) FROM sdk_api_keys c JOIN sdk_api_keys p ON p.id = c.parent_id
        WHERE c.ancestor_ids IS DISTINCT FROM p.id || p.ancestor_ids";
    assert_eq!(db.number(lacking).await, 0, "a child lacks limits of its parent");
    assert!(limited > 0, "no update was ever first");
    db.drop().await;
}
