//! Random sequences of all that is done to keys, by several processes, on a real Postgres, while others spend: each answer is
//! what a model of it says, and in the end every cent is where it belongs.
//!
//! `AGENTKEY_SEQUENCES`: how many sequences (default 40). `AGENTKEY_SEQUENCE_SEED`: the first one's seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "../support/mod.rs"]
mod support;

mod change;
mod model;
mod spend;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentkey::AgentKey;
use support::{TestDatabase, random};
use tokio::task::JoinSet;

use crate::change::Sequence;
use crate::model::CENT;
use crate::spend::{Purse, spend};

const SEQUENCES: u64 = 40;
/// Sequences at a time: they share statements.
const AT_ONCE: u64 = 4;
const CHANGES: usize = 40;
const SPENDERS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_keys_the_ledger_adds_up() {
    let db = Arc::new(TestDatabase::create().await);
    let clients = db.fleet(2, || AgentKey::builder().ledger(true)).await;
    clients[0].migrate().await.unwrap();
    let count = number("AGENTKEY_SEQUENCES").unwrap_or(SEQUENCES);
    let first = number("AGENTKEY_SEQUENCE_SEED").unwrap_or_else(random);
    let mut running = JoinSet::new();
    let mut done: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut ended = 0;
    for seed in (0..count).map(|n| first.wrapping_add(n)) {
        if running.len() as u64 == AT_ONCE {
            add(&mut done, running.join_next().await.unwrap());
            ended += 1;
            if ended % 100 == 0 {
                println!("{ended} sequences");
            }
        }
        running.spawn(sequence(Arc::clone(&db), clients.clone(), seed));
    }
    while let Some(sequence) = running.join_next().await {
        add(&mut done, sequence);
    }
    println!("{count} sequences from seed {first}: {done:?}");
    assert_eq!(clients[0].verify_ledger(None).await.unwrap(), []);
    for client in clients {
        client.close().await;
    }
    Arc::into_inner(db).unwrap().drop().await;
}

fn add(
    done: &mut BTreeMap<&'static str, usize>,
    sequence: Result<BTreeMap<&'static str, usize>, tokio::task::JoinError>,
) {
    for (what, times) in sequence.unwrap() {
        *done.entry(what).or_default() += times;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// One sequence; how often each thing was done. Whatever fails names the seed.
async fn sequence(db: Arc<TestDatabase>, clients: Vec<AgentKey>, seed: u64) -> BTreeMap<&'static str, usize> {
    let named = Named(seed);
    let purse = Arc::new(Purse::default());
    let mut sequence = Sequence::begin(clients.clone(), Arc::clone(&purse), seed).await;
    let mut spenders = JoinSet::new();
    for n in 0..SPENDERS {
        let (ak, other) = (clients[n as usize % 2].clone(), clients[(n as usize + 1) % 2].clone());
        spenders.spawn(spend(ak, other, Arc::clone(&purse), seed.wrapping_mul(31).wrapping_add(n)));
    }
    for _ in 0..CHANGES {
        sequence.step().await;
    }
    purse.is_over.store(true, Ordering::Relaxed);
    while let Some(spender) = spenders.join_next().await {
        spender.unwrap();
    }
    sequence.check_keys().await;
    check_money(&db, &sequence, &purse).await;
    drop(named);
    sequence.done
}

/// Says which seed failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("AGENTKEY_SEQUENCE_SEED={} failed", self.0);
        }
    }
}

/// Every row has what was spent with its key and those below it, and holds what they hold; so has every limit, of which the
/// model knows nothing but that it is above its key.
async fn check_money(db: &TestDatabase, sequence: &Sequence, purse: &Purse) {
    let mut expected: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (key, known) in sequence.model.keys.iter().enumerate() {
        let book = purse.book(key);
        let ids = format!(
            "SELECT array_to_string(id || ancestor_ids, ' ') FROM sdk_api_keys WHERE id = {}",
            known.id
        );
        let ids = db.text(&ids).await;
        let ids: Vec<i64> = ids.split(' ').map(|id| id.parse().unwrap()).collect();
        for ancestor in sequence.model.chain(key) {
            assert!(ids.contains(&sequence.model.keys[ancestor].id.to_string().parse().unwrap()));
        }
        for id in ids {
            let (used, reserved) = expected.entry(id).or_default();
            *used += book.spent;
            *reserved += book.held;
        }
    }
    for (id, money) in expected {
        let row = db
            .text(&format!(
                "SELECT format('%s %s', budget_used_cents * {CENT} + budget_used_microcents,
                    budget_reserved_cents * {CENT} + budget_reserved_microcents) FROM sdk_api_keys WHERE id = {id}"
            ))
            .await;
        assert_eq!(row, format!("{} {}", money.0, money.1), "key {id}");
        let ledger = format!(
            "SELECT coalesce(sum(amount_microcents), 0) FROM sdk_api_keys_events WHERE key_id = {id} AND kind IN ('charge', 'settle', 'refund', 'reset')"
        );
        assert_eq!(db.number(&ledger).await, money.0, "the ledger of key {id}");
        let known = sequence.model.keys.iter().find(|key| key.id.to_string() == id.to_string());
        if let Some(most) = known.and_then(|key| key.most_cents) {
            assert!(
                money.0 + money.1 <= most * CENT,
                "key {id} passed its budget: {money:?} of {most} cents"
            );
        }
    }
    for key in &sequence.model.keys {
        for (kind, count) in key.entries.counts() {
            let entries = format!(
                "SELECT count(*) FROM sdk_api_keys_events WHERE key_id = {} AND kind = '{kind}' AND (via_key_id IS NULL OR kind <> 'refund')",
                key.id
            );
            assert_eq!(db.number(&entries).await, count, "{kind} of key {}", key.id);
        }
    }
}
