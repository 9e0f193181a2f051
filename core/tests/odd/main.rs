//! Many random calls at once through one client, on a hundred keys of which two are odd at any time: no good key ever hears of
//! them, and what the good ones used adds up to the micro-cent.
//!
//! `AGENTKEY_ODD_CALLS=n` sets how many calls there are, `AGENTKEY_ODD_SEED=n` which.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod calls;
mod keys;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use agentkey::{AgentKey, Charge, Cost, EventFilter, Reserve};
use calls::draws_of;
use keys::{EMOJI, Key, VALUES, good_keys, odd_key};
use support::{Dice, TestDatabase, server_url};
use tokio::task::JoinSet;

const CALLS: usize = 20_000;
const GOOD: usize = 98;
const ODD: usize = 2;
/// So many calls are made before the odd keys are others.
const CALLS_OF_A_ROUND: usize = 800;
const WORKERS: usize = 80;
/// What a good key must have in the end, in micro-cents.
#[derive(Default)]
struct Book {
    used: AtomicI64,
    held: AtomicI64,
}

struct World {
    ak: AgentKey,
    good: Vec<Key>,
    odd: Vec<Key>,
    books: Arc<Vec<Book>>,
    /// Whether the database can store every text.
    is_utf8: bool,
    heard: Arc<Mutex<BTreeMap<String, usize>>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_harm_no_other_in_utf8() {
    soak("ENCODING 'UTF8'", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_harm_no_other_in_latin1() {
    soak("ENCODING 'LATIN1'", 2).await;
}

async fn soak(encoding: &str, number: u64) {
    let calls = variable("AGENTKEY_ODD_CALLS").map_or(CALLS, |calls| calls as usize) / 2;
    let seed = variable("AGENTKEY_ODD_SEED").unwrap_or(7) * 2 + number;
    let options = format!("{encoding} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    let db = TestDatabase::create_with(&server_url(), &options).await;
    let ak = db.client().await;
    db.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF OLD.account_id = 'raises' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON sdk_api_keys FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let is_utf8 = encoding.contains("UTF8");
    let mut world = World {
        good: good_keys(&ak, &db, is_utf8).await,
        odd: Vec::new(),
        books: Arc::new((0..GOOD).map(|_| Book::default()).collect()),
        heard: Arc::default(),
        is_utf8,
        ak,
    };
    let mut dice = Dice(seed);
    let rounds = calls.div_ceil(CALLS_OF_A_ROUND);
    let began = Instant::now();
    for round in 0..rounds {
        world.odd.clear();
        for n in 0..ODD {
            let values = VALUES[(number as usize * VALUES.len() / 2 + round * ODD + n) % VALUES.len()];
            world.odd.push(odd_key(&world, &db, values, dice.roll(GOOD)).await);
        }
        let shared = Arc::new(world);
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let dice = Dice(seed ^ ((round * WORKERS + worker) as u64) << 20);
            workers.spawn(work(Arc::clone(&shared), dice, CALLS_OF_A_ROUND / WORKERS));
        }
        let _: Vec<()> = workers.join_all().await;
        world = Arc::into_inner(shared).expect("all workers are gone");
    }
    let took = began.elapsed();
    check_books(&world, &db).await;
    let events = world.ak.events(EventFilter::new().limit(1_000)).await.unwrap();
    assert!(!events.is_empty());
    let heard = world.heard.lock().unwrap().clone();
    let made = rounds * CALLS_OF_A_ROUND;
    println!(
        "{encoding}: {made} calls in {took:.1?}, {} a second",
        made as u128 * 1_000 / took.as_millis().max(1)
    );
    println!("{encoding}: what odd keys and odd texts heard: {heard:#?}");
    println!("{encoding}: {:?}", world.ak.stats());
    assert!(heard.len() > 3, "the odd were never called: {heard:?}");
    world.ak.close().await;
    db.drop().await;
}

/// Random calls, one after the other. What is held in the end is given back.
async fn work(world: Arc<World>, mut dice: Dice, calls: usize) {
    let mut holds = Vec::new();
    // What this worker spent on a key and may give back.
    let mut spent: HashMap<usize, i64> = HashMap::new();
    for call in 0..calls {
        let n = dice.roll(GOOD + ODD);
        let key = world.good.get(n).unwrap_or_else(|| &world.odd[n - GOOD]);
        let cost = 1 + dice.roll(3_000_000) as i64;
        let text = if dice.roll(40) == 0 { EMOJI } else { "é" };
        match dice.roll(100) {
            0..25 => {
                let verdict = match key.is_subject {
                    true => world.ak.validate_by_subject(&key.secret).await,
                    false => world.ak.validate(&key.secret).await,
                };
                if let Some(Err(denial)) = world.heard(key, "", verdict) {
                    world.refused(key, denial.reason.as_str());
                }
            }
            25..55 => {
                if world.charge(key, Charge::new(Cost::Microcents(cost)), "", cost).await {
                    *spent.entry(n).or_default() += cost;
                }
            }
            55..70 => {
                // Whoever uses this idempotency key charges the same.
                let name = dice.roll(50) as i64;
                let charge =
                    Charge::new(Cost::Microcents(name + 1)).idempotency_key(format!("{text} {name}"));
                world.charge(key, charge, text, name + 1).await;
            }
            70..80 => {
                let reserve = Reserve::new(Cost::Microcents(cost));
                let (reserve, text) = match dice.roll(8) {
                    0..4 => (reserve.idempotency_key(format!("{text} {:016x}", support::random())), text),
                    4 if key.odd.is_some() => (reserve.scope("read"), ""),
                    _ => (reserve, ""),
                };
                if let Some(id) = world.reserve(key, reserve, text, cost).await {
                    holds.push((n, id, cost));
                }
            }
            80..94 => {
                if !holds.is_empty() {
                    let (n, id, held) = holds.swap_remove(dice.roll(holds.len()));
                    let key = world.good.get(n).unwrap_or_else(|| &world.odd[n - GOOD]);
                    match dice.roll(3) {
                        0 => world.release(key, &id, held).await,
                        _ => world.settle(key, &id, held, cost).await,
                    }
                }
            }
            94..97 => {
                let most = spent.get(&n).copied().unwrap_or_default();
                if most > 0 && key.odd.is_none() {
                    let refunded = world.ak.refund(key.id.clone(), Cost::Microcents(most)).await;
                    assert!(world.heard(key, "", refunded).unwrap().is_ok());
                    world.note(key, -most, 0);
                    spent.remove(&n);
                }
            }
            97 => world.child(key, cost).await,
            98 => {
                // A subject that nobody has, and that not every database can store.
                let nobody = Key { odd: Some("nobody"), ..draws_of(key) };
                let subject = format!("{text} nobody {call}");
                let verdict = world.ak.validate_by_subject(&subject).await;
                if let Some(verdict) = world.heard(&nobody, &subject, verdict) {
                    world.refused(&nobody, verdict.unwrap_err().reason.as_str());
                }
            }
            _ => {
                let filter = EventFilter::new().limit(20);
                let of = if dice.roll(2) == 0 { filter } else { filter.key_id(key.id.clone()) };
                world.ak.events(of).await.unwrap();
            }
        }
    }
    for (n, id, held) in holds {
        let key = world.good.get(n).unwrap_or_else(|| &world.odd[n - GOOD]);
        world.release(key, &id, held).await;
    }
}

async fn check_books(world: &World, db: &TestDatabase) {
    for (key, book) in world.good.iter().zip(world.books.iter()) {
        let row = format!(
            "SELECT budget_used_cents * 1000000 + budget_used_microcents || ' ' ||
                budget_reserved_cents * 1000000 + budget_reserved_microcents
             FROM sdk_api_keys WHERE id = {}",
            key.id
        );
        let expected = format!("{} {}", book.used.load(Relaxed), book.held.load(Relaxed));
        assert_eq!(db.text(&row).await, expected, "used and held of the good key {}", key.id);
        assert_eq!(book.held.load(Relaxed), 0);
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
