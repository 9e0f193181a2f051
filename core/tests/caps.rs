//! Caps that are real: reservations, trees and retries under load, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use agentkey::{AgentKey, Charge, Cost, CreateKey, EventFilter, Period, ReservationId};
use support::{Dice, TestDatabase, random};
use tokio::task::JoinSet;

/// Three levels of keys with budgets of several periods: a root, its children, and theirs.
struct Tree {
    keys: Vec<String>,
}

impl Tree {
    async fn grow(ak: &AgentKey, budget: i64) -> Self {
        let root =
            ak.create(CreateKey::new("acct").budget_cents(budget).budget_period(Period::Week)).await.unwrap();
        let mut keys = vec![root.key.expose().to_owned()];
        for (n, period) in [Some(Period::Day), None, Some(Period::Month)].into_iter().enumerate() {
            let mut spec = CreateKey::new("acct").parent(root.id.clone()).budget_cents(budget / 2);
            spec.budget_period = period;
            let child = ak.create(spec).await.unwrap();
            keys.push(child.key.expose().to_owned());
            for m in 0..3 {
                let spec = CreateKey::new("acct").parent(child.id.clone());
                let spec =
                    if m == n { spec } else { spec.budget_cents(budget / 4).budget_period(Period::Hour) };
                keys.push(ak.create(spec).await.unwrap().key.expose().to_owned());
            }
        }
        Tree { keys }
    }

    fn any(&self, dice: &mut Dice) -> &str {
        &self.keys[dice.roll(self.keys.len())]
    }
}

/// Every row within its budget, in one snapshot: used + reserved, and no parent below the sum of its children.
const BROKEN: &str = "
    SELECT count(*) FROM sdk_api_keys k
    WHERE budget_used_cents * 1000000 + budget_used_microcents + budget_reserved_cents * 1000000 + budget_reserved_microcents > budget_cents * 1000000
       OR budget_used_cents * 1000000 + budget_used_microcents
            < (SELECT sum(c.budget_used_cents * 1000000 + c.budget_used_microcents) FROM sdk_api_keys c WHERE c.parent_id = k.id)
       OR budget_reserved_cents * 1000000 + budget_reserved_microcents
            < (SELECT sum(c.budget_reserved_cents * 1000000 + c.budget_reserved_microcents) FROM sdk_api_keys c WHERE c.parent_id = k.id)
       OR budget_reserved_cents < 0";

const SNAPSHOTS: usize = 5_000;
const OPERATIONS: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_shows_a_cap_passed_or_a_partial_draw() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(AgentKey::builder().ledger(true)).await;
    let tree = Arc::new(Tree::grow(&ak, 40_000).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let operations = Arc::new(AtomicUsize::new(0));
    let fleet = db.fleet(4, || AgentKey::builder().ledger(true)).await;
    let mut tasks = JoinSet::new();
    for n in 0..64 {
        let (ak, tree) = (fleet[n % fleet.len()].clone(), Arc::clone(&tree));
        let (is_over, operations) = (Arc::clone(&is_over), Arc::clone(&operations));
        tasks.spawn(async move {
            let mut dice = Dice(random());
            let mut held: Vec<(ReservationId, i64)> = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                // In micro-cents.
                let most = 1 + dice.roll(60_000_000) as i64;
                let cost = Cost::microcents(most);
                match dice.roll(10) {
                    0..3 => drop(ak.track_usage(tree.any(&mut dice), cost).await.unwrap()),
                    3..7 => {
                        if let Ok(reservation) = ak.reserve(tree.any(&mut dice), cost).await.unwrap() {
                            held.push((reservation.id, most));
                        }
                    }
                    _ => {
                        let Some((id, most)) = held.pop() else { continue };
                        // Never more than was held: what is spent beyond is recorded, whatever the cap.
                        match dice.roll(3) {
                            0 => drop(ak.release(&id).await.unwrap()),
                            _ => drop(
                                ak.settle(&id, Cost::microcents(1 + dice.roll(most as usize) as i64))
                                    .await
                                    .unwrap(),
                            ),
                        }
                    }
                }
                operations.fetch_add(1, Ordering::Relaxed);
            }
            for (id, most) in held {
                assert!(ak.settle(&id, Cost::microcents(most)).await.unwrap().is_ok());
            }
        });
    }
    let mut session = db.session().await;
    // On a loaded machine looks are cheaper than operations: enough of both.
    let mut snapshots = 0;
    while snapshots < SNAPSHOTS || operations.load(Ordering::Relaxed) < OPERATIONS {
        snapshots += 1;
        let broken: i64 = sqlx::query_scalar(BROKEN).fetch_one(&mut session).await.unwrap();
        assert_eq!(broken, 0, "a snapshot shows a cap passed, or a draw on a part of a chain");
    }
    is_over.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    assert_eq!(
        db.number(
            "SELECT sum(budget_reserved_cents * 1000000 + budget_reserved_microcents) FROM sdk_api_keys"
        )
        .await,
        0
    );
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys_reservations WHERE state = 'pending'").await, 0);
    assert_eq!(ak.verify_ledger(None).await.unwrap(), []);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(db.number(deadlocks).await, 0, "statements of ours met a deadlock");
    // What the parent's ledger has of its children is what theirs says.
    let sums = "
        SELECT count(*) FROM sdk_api_keys p JOIN sdk_api_keys c ON c.parent_id = p.id
        WHERE (SELECT sum(amount_microcents) FROM sdk_api_keys_events e WHERE e.key_id = c.id AND kind IN ('charge', 'settle'))
           <> (SELECT sum(amount_microcents) FROM sdk_api_keys_events e WHERE e.key_id = p.id AND kind IN ('charge', 'settle')
                 AND (e.via_key_id = c.id OR e.via_key_id IN (SELECT id FROM sdk_api_keys g WHERE c.id = ANY (g.ancestor_ids))))";
    assert_eq!(db.number(sums).await, 0, "parent = sum of children");
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_of_one_idempotency_key_from_many_clients_moves_money_once() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let parent = ak.create(CreateKey::new("acct").budget_cents(1_000_000)).await.unwrap();
    let child = ak.create(CreateKey::new("acct").parent(parent.id)).await.unwrap();
    let key = child.key.expose().to_owned();
    let fleet = db.fleet(8, AgentKey::builder).await;
    for round in 0..30 {
        let mut tasks = JoinSet::new();
        for ak in &fleet {
            for n in 0..4 {
                let (ak, key) = (ak.clone(), key.clone());
                tasks.spawn(async move {
                    let charge = Charge::new(5 + n).idempotency_key(format!("{round}-{n}"));
                    ak.track_usage(&key, charge).await.unwrap().expect("recorded, once or again")
                });
            }
        }
        let answers = tasks.join_all().await;
        assert_eq!(answers.iter().filter(|recorded| !recorded.replayed).count(), 4, "round {round}");
        let used = db.number("SELECT min(budget_used_cents) FROM sdk_api_keys").await;
        assert_eq!(used, (round + 1) * (5 + 6 + 7 + 8), "round {round}");
    }
    let charges = EventFilter::new().kind("charge").limit(1_000);
    assert_eq!(ak.events(charges).await.unwrap().len(), 120);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_sweep_at_once_and_nothing_comes_back_twice() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(AgentKey::builder().ledger(true)).await;
    let tree = Tree::grow(&ak, 1_000_000).await;
    let mut held = Vec::new();
    for n in 0..1_500 {
        let key = &tree.keys[n % tree.keys.len()];
        held.push(ak.reserve(key, 3).await.unwrap().unwrap().id);
    }
    db.run("UPDATE sdk_api_keys_reservations SET expires_at = now() WHERE random() < 0.8").await;
    let fleet = db.fleet(4, || AgentKey::builder().ledger(true)).await;
    let mut tasks = JoinSet::new();
    for (n, id) in held.into_iter().enumerate() {
        let ak = fleet[n % fleet.len()].clone();
        tasks.spawn(async move {
            match n % 3 {
                0 => drop(ak.settle(&id, 2).await.unwrap().unwrap()),
                1 => drop(ak.release(&id).await.unwrap().unwrap()),
                _ => drop(ak.sweep_reservations().await.unwrap()),
            }
        });
    }
    tasks.join_all().await;
    ak.sweep_reservations().await.unwrap();
    let pending = db.number("SELECT count(*) FROM sdk_api_keys_reservations WHERE state = 'pending'").await;
    let still_held = db.number("SELECT (coalesce(sum(amount_microcents), 0) / 1000000)::bigint FROM sdk_api_keys_reservations WHERE state = 'pending'").await;
    assert_eq!(still_held, pending * 3);
    assert_eq!(
        db.number("SELECT budget_reserved_cents FROM sdk_api_keys WHERE parent_id IS NULL").await,
        still_held
    );
    assert_eq!(db.number("SELECT budget_used_cents FROM sdk_api_keys WHERE parent_id IS NULL").await, 1_000);
    assert_eq!(ak.verify_ledger(None).await.unwrap(), []);
    db.drop().await;
}

/// Nobody has counted the rows of a new ledger yet: what Postgres takes for small it reads from end to end.
#[tokio::test]
async fn a_charge_with_an_idempotency_key_does_not_read_a_young_ledger_from_end_to_end() {
    const CHARGES: i64 = 200;
    let db = TestDatabase::create().await;
    db.client().await.close().await;
    db.run("ALTER TABLE sdk_api_keys_events SET (autovacuum_enabled = off)").await;
    let ak = AgentKey::builder().connect(&db.url).await.unwrap();
    let created = ak.create(CreateKey::new("acct").budget_cents(10_000)).await.unwrap();
    for n in 0..CHARGES {
        let charge = Charge::new(1).idempotency_key(n.to_string());
        let _ = ak.track_usage(created.key.expose(), charge).await.unwrap().unwrap();
    }
    ak.close().await;
    let read = db
        .at_rest("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'sdk_api_keys_events'")
        .await;
    assert!(read <= CHARGES, "{read} entries are read");
    db.drop().await;
}
