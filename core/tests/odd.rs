//! Many random calls at once through one client, on a hundred keys of which two are odd at any time: no good key ever hears of
//! them, and what the good ones used adds up to the micro-cent.
//!
//! `AGENTKEY_ODD_CALLS=n` sets how many calls there are, `AGENTKEY_ODD_SEED=n` which.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use agentkey::{
    AgentKey, Charge, ChargeRefusal, Cost, CreateKey, Error, ErrorCode, EventFilter, KeyId, ReservationId,
    ReservationRefusal, Reserve, Settlement,
};
use support::{Dice, TestDatabase, server_url};
use tokio::task::JoinSet;

const CALLS: usize = 20_000;
const GOOD: usize = 98;
const ODD: usize = 2;
/// So many calls are made before the odd keys are others.
const CALLS_OF_A_ROUND: usize = 800;
const WORKERS: usize = 80;
const EMOJI: &str = "🔑";

/// What is odd about a key: values of its row. `{id}` is the key itself, `{parent}` its parent, a good key. Those with a parent
/// are its children.
const VALUES: &[&str] = &[
    "budget_cents = 9223372036854775807, budget_used_cents = 9223372036854775807",
    "budget_cents = -9223372036854775808",
    "budget_used_cents = -9223372036854775808, budget_used_microcents = -999999",
    "budget_reserved_cents = 9223372036854775807, budget_reserved_microcents = 2147483647",
    "budget_reserved_cents = -9223372036854775808, budget_used_microcents = 2147483647",
    "budget_used_cents = 4000000000000, budget_cents = NULL",
    "expires_at = 'infinity', last_used_at = 'infinity', created_at = '-infinity'",
    "expires_at = '294276-12-31 23:59:59.999999+00', last_used_at = '294276-12-31+00'",
    "expires_at = '4713-01-02+00 BC'",
    "revoked_at = 'infinity'",
    "budget_period = 'month', budget_reset_at = '4713-01-02+00 BC', budget_anchor_at = '294276-12-31+00'",
    "budget_period = 'year', budget_reset_at = now(), budget_anchor_at = '4713-01-02+00 BC'",
    "budget_period = 'week', budget_reset_at = '-infinity', budget_anchor_at = 'infinity'",
    "budget_period = 'fortnight', budget_reset_at = now()",
    "budget_period = repeat('day', 30000), name = repeat('\"\\,(', 30000), delegated_by = repeat('é', 50000)",
    "scopes = '{NULL}'",
    "scopes = '{{a,b},{c,d}}'",
    "scopes = ARRAY[repeat('x', 100000), '\"', '']",
    "ancestor_ids = ARRAY[{id}]",
    "ancestor_ids = ARRAY[{parent}, {id}]",
    "ancestor_ids = ARRAY[{parent}, {parent}]",
    "ancestor_ids = ARRAY[{parent}, NULL]",
    "ancestor_ids = ARRAY[ARRAY[{parent}, {parent}]]",
    "ancestor_ids = array_fill({parent}, ARRAY[5000])",
    "ancestor_ids = ARRAY[{parent}, 987654321]",
    "budget_used_cents = 9223372036854775807, parent_id = {parent}",
    "budget_cents = -5, budget_period = 'hour', budget_reset_at = '0001-01-01', parent_id = {parent}",
    // A trigger raises for it.
    "account_id = 'raises'",
    "account_id = 'raises', parent_id = {parent}",
];

/// A key, and the good ones whose budgets a call of it draws on.
struct Key {
    id: KeyId,
    secret: String,
    is_subject: bool,
    chain: Vec<usize>,
    odd: Option<&'static str>,
}

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

/// Roots, their children and grandchildren; some are found by subjects.
async fn good_keys(ak: &AgentKey, db: &TestDatabase, is_utf8: bool) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for n in 0..GOOD {
        let parent = (n % 5 > 2).then(|| &keys[n - 3]);
        let mut chain = vec![n];
        chain.extend(parent.iter().flat_map(|parent| &parent.chain));
        let mut spec = CreateKey::new("good").budget_cents(if n % 4 == 0 { 2_000 } else { 1_000_000_000 });
        spec = match parent {
            Some(parent) => spec.parent(parent.id.clone()),
            None => spec,
        };
        let key = if n % 7 == 0 {
            let secret = format!("größe {n}{}", if is_utf8 { EMOJI } else { "" });
            ak.ensure_subject(&secret, spec).await.unwrap();
            let id = format!("SELECT id FROM sdk_api_keys WHERE external_subject = '{secret}'");
            Key { id: db.number(&id).await.into(), secret, is_subject: true, chain, odd: None }
        } else {
            let created = ak.create(spec).await.unwrap();
            let secret = created.key.expose().to_owned();
            Key { id: created.id, secret, is_subject: false, chain, odd: None }
        };
        keys.push(key);
    }
    keys
}

async fn odd_key(world: &World, db: &TestDatabase, values: &'static str, parent: usize) -> Key {
    let parent = &world.good[parent];
    let is_child = values.contains("{parent}");
    let spec = CreateKey::new("odd");
    let created = match is_child {
        true => world.ak.create(spec.parent(parent.id.clone())).await.unwrap(),
        false => world.ak.create(spec).await.unwrap(),
    };
    let set = values.replace("{id}", &created.id.to_string()).replace("{parent}", &parent.id.to_string());
    db.run(&format!("UPDATE sdk_api_keys SET {set} WHERE id = {}", created.id)).await;
    // An entry that nobody can read, at a time that nobody knows.
    db.run(&format!(
        "INSERT INTO sdk_api_keys_events (key_id, kind, at, metadata)
         VALUES ({}, 'charge', 'infinity', (repeat('[', 500) || repeat(']', 500))::jsonb)",
        created.id
    ))
    .await;
    let chain = if is_child { parent.chain.clone() } else { Vec::new() };
    let secret = created.key.expose().to_owned();
    Key { id: created.id, secret, is_subject: false, chain, odd: Some(values) }
}

impl World {
    /// What a call of a key answered. A good key has no errors, except for a text that the database cannot store.
    fn heard<T>(&self, key: &Key, text: &str, answer: Result<T, Error>) -> Option<T> {
        let is_foreign = !self.is_utf8 && text.contains(EMOJI);
        let error = match answer {
            Ok(_) if is_foreign => panic!("{text} cannot be stored"),
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        let sqlstate = error.sqlstate().unwrap_or_default().to_owned();
        match (is_foreign, key.odd) {
            (true, _) => assert_eq!((error.code(), sqlstate.as_str()), (ErrorCode::Database, "22P05")),
            (false, None) => panic!("a good key has an error: {error:?}"),
            (false, Some(values)) => {
                assert_eq!(error.code(), ErrorCode::Database, "{values}: {error}");
                assert!(["22", "P0"].contains(&&sqlstate[..2]), "{values}: {error:?}");
            }
        }
        assert!(!error.may_have_been_recorded(), "{error:?}");
        *self.heard.lock().unwrap().entry(format!("error {sqlstate}")).or_default() += 1;
        None
    }

    /// What a call of a key was refused for. A good key may have no room, and that is all.
    fn refused(&self, key: &Key, reason: &str) {
        assert!(key.odd.is_some() || reason == "budget_exceeded", "a good key was refused: {reason}");
        if key.odd.is_some() {
            *self.heard.lock().unwrap().entry(format!("refused {reason}")).or_default() += 1;
        }
    }

    fn note(&self, key: &Key, used: i64, held: i64) {
        for n in &key.chain {
            self.books[*n].used.fetch_add(used, Relaxed);
            self.books[*n].held.fetch_add(held, Relaxed);
        }
    }

    async fn charge(&self, key: &Key, charge: Charge, text: &str, cost: i64) -> bool {
        let charged = match key.is_subject {
            true => self.ak.track_usage_by_subject(&key.secret, charge).await,
            false => self.ak.track_usage(&key.secret, charge).await,
        };
        match self.heard(key, text, charged) {
            Some(Ok(charged)) if !charged.replayed => {
                self.note(key, cost, 0);
                true
            }
            Some(Err(refusal)) => {
                self.refused(key, &refusal.to_string());
                false
            }
            Some(Ok(_)) | None => false,
        }
    }

    async fn reserve(&self, key: &Key, reserve: Reserve, text: &str, amount: i64) -> Option<ReservationId> {
        let held = match key.is_subject {
            true => self.ak.reserve_by_subject(&key.secret, reserve).await,
            false => self.ak.reserve(&key.secret, reserve).await,
        };
        match self.heard(key, text, held)? {
            Ok(held) => {
                assert!(!held.replayed);
                self.note(key, 0, amount);
                Some(held.id)
            }
            Err(refusal) => {
                self.refused(key, refusal.reason.as_str());
                None
            }
        }
    }

    async fn settle(&self, key: &Key, id: &ReservationId, held: i64, cost: i64) {
        let settled = self.ak.settle(id, Cost::Microcents(cost)).await;
        match self.heard(key, "", settled) {
            Some(Ok(Settlement { replayed, .. })) => {
                assert!(!replayed);
                self.note(key, cost, -held);
            }
            Some(Err(refusal)) => {
                assert!(matches!(refusal, ReservationRefusal::Unrecordable { .. }), "{refusal:?}");
                self.refused(key, "unrecordable");
                self.release(key, id, held).await;
            }
            None => {}
        }
    }

    async fn release(&self, key: &Key, id: &ReservationId, held: i64) {
        if let Some(released) = self.heard(key, "", self.ak.release(id).await) {
            assert_eq!(released, Ok(true));
            self.note(key, 0, -held);
        }
    }

    /// A child lives and dies.
    async fn child(&self, parent: &Key, cost: i64) {
        let spec = CreateKey::child_of(parent.id.clone()).budget_cents(1_000);
        let created = match self.ak.create(spec).await {
            Ok(created) => created,
            Err(error) => {
                assert!(parent.odd.is_some() && error.code() == ErrorCode::InvalidParent, "{error:?}");
                return self.refused(parent, "invalid_parent");
            }
        };
        let secret = created.key.expose().to_owned();
        let child = Key { id: created.id, secret, ..draws_of(parent) };
        self.charge(&child, Charge::new(Cost::Microcents(cost)), "", cost).await;
        assert!(self.ak.revoke(child.id).await.unwrap());
        let late = self.ak.track_usage(&child.secret, 1).await;
        if let Some(late) = self.heard(parent, "", late) {
            assert_eq!(late, Err(ChargeRefusal::InvalidKey));
        }
    }
}

/// A key that draws on the same budgets.
fn draws_of(key: &Key) -> Key {
    let (id, chain) = (key.id.clone(), key.chain.clone());
    Key { id, secret: String::new(), is_subject: false, chain, odd: key.odd }
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
