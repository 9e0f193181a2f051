//! Keys that are changed while they are in use, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentkey::{AgentKey, Cost, CreateKey, DenialReason, KeyFilter, KeyId, KeyUpdate, Period};
use support::{Dice, TestDatabase, random};
use tokio::task::JoinSet;

const CHANGES: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_budget_holds_from_the_next_call_on_in_every_process() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, AgentKey::builder).await;
    clients[0].migrate().await.unwrap();
    let created = clients[0].create(CreateKey::new("acct").budget_cents(1_000_000)).await.unwrap();
    let key: Arc<str> = Arc::from(created.key.expose());
    for budget in [500, 900, 100] {
        let stop = Arc::new(AtomicBool::new(false));
        let mut spending = JoinSet::new();
        for n in 0..16 {
            let (ak, key, stop) = (clients[n % 2].clone(), Arc::clone(&key), Arc::clone(&stop));
            spending.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let _ = ak.track_usage(&key, 1).await.unwrap();
                }
            });
        }
        let changes = KeyUpdate::new().budget_cents(budget);
        let record = clients[0].update(created.id.clone(), changes).await.unwrap().unwrap();
        assert_eq!(record.grant.budget_cents, Some(budget));
        let most = budget.max(record.grant.budget_used_cents);
        for _ in 0..50 {
            let _ = clients[1].track_usage(&key, 1).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        spending.join_all().await;
        let used = db.number("SELECT budget_used_cents FROM sdk_api_keys").await;
        assert!(used <= most, "{used} cents of {most}");
    }
    db.drop().await;
}

/// What was acknowledged, by key, in micro-cents.
type Spent = BTreeMap<String, i64>;

async fn spend(ak: AgentKey, keys: Arc<Vec<(KeyId, String)>>, stop: Arc<AtomicBool>) -> Spent {
    let mut dice = Dice(random());
    let mut spent = Spent::new();
    while !stop.load(Ordering::Relaxed) {
        let (id, key) = &keys[dice.roll(keys.len())];
        let cost = 1 + dice.roll(3_000_000) as i64;
        let is_done = match dice.roll(2) {
            0 => ak.track_usage(key, Cost::microcents(cost)).await.unwrap().is_ok(),
            _ => match ak.reserve(key, Cost::microcents(cost + 5)).await.unwrap() {
                Ok(held) => ak.settle(&held.id, Cost::microcents(cost)).await.unwrap().is_ok(),
                Err(_) => false,
            },
        };
        if is_done {
            *spent.entry(id.to_string()).or_default() += cost;
        }
    }
    spent
}

fn change(dice: &mut Dice) -> KeyUpdate {
    let changes = KeyUpdate::new();
    match dice.roll(6) {
        0 => changes.budget_cents(dice.roll(100_000) as i64),
        1 => changes.budget_period([Period::Day, Period::Week, Period::Year][dice.roll(3)]),
        2 => changes.scopes([["a", "b", "c"][dice.roll(3)]]),
        3 => changes.name("another").budget_cents(50_000),
        4 => changes.disabled(true),
        _ => changes.disabled(false),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_under_way_the_ledger_adds_up() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, || AgentKey::builder().ledger(true)).await;
    let ak = &clients[0];
    ak.migrate().await.unwrap();
    let mut keys = Vec::new();
    let root = ak.create(CreateKey::new("acct")).await.unwrap();
    for n in 0..6 {
        let spec = CreateKey::new("acct").budget_cents(20_000);
        let spec = if n % 2 == 0 { spec.parent(root.id.clone()) } else { spec.budget_period(Period::Hour) };
        let created = ak.create(spec).await.unwrap();
        keys.push((created.id, created.key.expose().to_owned()));
    }
    let keys = Arc::new(keys);
    let stop = Arc::new(AtomicBool::new(false));
    let mut spending = JoinSet::new();
    for n in 0..12 {
        spending.spawn(spend(clients[n % 2].clone(), Arc::clone(&keys), Arc::clone(&stop)));
    }
    let mut changing = JoinSet::new();
    for n in 0..4 {
        let (ak, keys) = (clients[n % 2].clone(), Arc::clone(&keys));
        changing.spawn(async move {
            let mut dice = Dice(random());
            for _ in 0..CHANGES / 4 {
                let (id, _) = &keys[dice.roll(keys.len())];
                assert!(ak.update(id.clone(), change(&mut dice)).await.unwrap().is_some());
            }
        });
    }
    changing.join_all().await;
    stop.store(true, Ordering::Relaxed);
    let mut spent = Spent::new();
    for (id, amount) in spending.join_all().await.into_iter().flatten() {
        *spent.entry(id).or_default() += amount;
    }
    assert!(spent.values().all(|amount| *amount > 0));
    for (id, _) in keys.iter() {
        let used = "SELECT budget_used_cents * 1000000 + budget_used_microcents FROM sdk_api_keys WHERE id =";
        assert_eq!(
            db.number(&format!("{used} {id}")).await,
            spent.get(&id.to_string()).copied().unwrap_or(0)
        );
    }
    let held = "SELECT sum(budget_reserved_cents + budget_reserved_microcents)::bigint FROM sdk_api_keys";
    assert_eq!(db.number(held).await, 0);
    assert_eq!(ak.verify_ledger(None).await.unwrap(), []);
    db.drop().await;
}

#[tokio::test]
async fn a_new_period_after_one_that_is_over_is_in_the_ledger() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(AgentKey::builder().ledger(true)).await;
    let created = ak.create(CreateKey::new("acct").budget_cents(9).budget_period(Period::Day)).await.unwrap();
    let _ = ak.track_usage(created.key.expose(), 7).await.unwrap();
    db.run("UPDATE sdk_api_keys SET budget_reset_at = budget_reset_at - interval '2 days', budget_anchor_at = budget_anchor_at - interval '2 days', budget_microcents_reset_at = budget_reset_at - interval '2 days'")
        .await;
    let changes = KeyUpdate::new().budget_period(Period::Month);
    let record = ak.update(created.id.clone(), changes).await.unwrap().unwrap();
    assert_eq!((record.grant.budget_used_cents, record.reason), (0, None));
    assert_eq!(ak.verify_ledger(None).await.unwrap(), []);
    let record = ak.disable(created.id.clone()).await.unwrap().unwrap();
    assert_eq!(record.reason, Some(DenialReason::Disabled));
    assert_eq!(ak.list(KeyFilter::new().account_id("acct")).await.unwrap(), [record]);
    db.drop().await;
}
