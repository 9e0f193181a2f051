//! Random rows and random statements on them.

use agentkey::engine::{KeyHash, MAX_CENTS, MICROCENTS_PER_CENT, StatementKind};
use serde_json::json;

use crate::database::{Companions, Database, Key, Period};
use crate::random::Random;

/// A statement: what it does, and its parameters.
pub type Drawn = (StatementKind, Vec<Option<String>>);

/// Keys, some the children of earlier ones, some with limits; some with budgets and holds at the limits of their columns.
pub fn database(random: &mut Random, now: i64) -> Database {
    let count = random.between(4, 10);
    let mut keys: Vec<Key> = (1..=count).map(|id| key(random, id, now)).collect();
    let mut limits = Vec::new();
    for at in 1..keys.len() {
        if random.chance(20) {
            keys[at] = keys[at].clone().into_limit();
            limits.push(keys[at].id);
            continue;
        }
        if random.chance(70) {
            keys[at].ancestors = limits.split_off(limits.len() - random.below(limits.len() + 1));
        }
        let parent = &keys[random.below(at)];
        if random.chance(60) && parent.when_exceeded.is_none() {
            let above: Vec<i64> =
                std::iter::once(parent.id).chain(parent.ancestors.iter().copied()).collect();
            keys[at].ancestors.extend(above);
        }
    }
    Database { now, keys, migrated: true, companions: Companions::default(), locked: None }
}

fn key(random: &mut Random, id: i64, now: i64) -> Key {
    let is_extreme = random.chance(25);
    let period = Period::named(
        random.pick(&["", "hour", "day", "week", "5m", "36h"]),
        now - random.between(0, 900_000),
    );
    let reset_at = period.map(|period| period.next_reset(now) - period.seconds * random.between(0, 2));
    let budget_cents = match is_extreme {
        true => random.pick(&[
            Some(i64::MAX),
            Some(i64::MIN),
            Some(-1),
            Some(MAX_CENTS),
            Some(MAX_CENTS + 1),
            None,
        ]),
        false => random.pick(&[None, Some(0), Some(40), Some(300), Some(1_000)]),
    };
    let used = match is_extreme {
        true => random.pick(&[-5 * MICROCENTS_PER_CENT - 1, -1, MAX_CENTS * MICROCENTS_PER_CENT, 0]),
        false => {
            random.between(0, 2 * budget_cents.unwrap_or(100).max(20))
                * random.pick(&[1, 333_333, MICROCENTS_PER_CENT])
                / 2
        }
    };
    let boost = random.chance(30).then(|| {
        let cents = if is_extreme {
            random.pick(&[i64::MAX, i64::MIN, 0, MAX_CENTS])
        } else {
            random.between(-20, 400)
        };
        (cents, now + random.between(-50, 5_000))
    });
    Key {
        id,
        lookup: KeyHash::of(&format!("ak_{id}")).as_str().to_owned(),
        name: format!("key {id}"),
        scope: random.pick(&[None, None, Some("read"), Some("admin")]),
        budget_cents,
        boost,
        used,
        is_stale: reset_at.is_some() && random.chance(25),
        reserved: 0,
        reserved_before: 0,
        ancestors: Vec::new(),
        when_exceeded: None,
        period,
        reset_at,
        expires_at: random.chance(20).then(|| now + random.between(-10, 5_000)),
        revoked: random.chance(5),
        last_used_at: random.chance(50).then_some(now - 30),
    }
}

/// A statement that an engine might send.
pub fn statement(random: &mut Random, db: &Database) -> Drawn {
    let one = |random: &mut Random| lookups(random, db, 1).remove(0);
    let some = |random: &mut Random| {
        let most = random.pick(&[1, 2, 6]);
        lookups(random, db, most)
    };
    let costs = |random: &mut Random, lookups: &[String]| -> Vec<Vec<i64>> {
        let of = |lookup: &String| {
            let mut costs: Vec<i64> = (0..random.between(1, 4)).map(|_| cost(random, db, lookup)).collect();
            costs.sort_unstable();
            costs
        };
        lookups.iter().map(of).collect()
    };
    let waits_for = (random.chance(20)).then(|| random.between(1, db.keys.len() as i64).to_string());
    let text = |text: String| Some(text);
    match random.below(16) {
        0 => (StatementKind::ValidateOne, vec![text(one(random))]),
        1 if random.chance(40) => (StatementKind::ValidateMany, vec![text(array(&some(random)))]),
        1 if random.chance(40) => (StatementKind::ValidateVersions, vec![text(array(&some(random)))]),
        1 => {
            let lookups = some(random);
            // What is remembered of each is told when the statement runs: the row as it is, another one, or none.
            let known: Vec<&str> =
                lookups.iter().map(|_| random.pick(&["same", "same", "other", "none"])).collect();
            (StatementKind::ValidateChanged, vec![text(array(&lookups)), text(array(&known))])
        }
        2 => (StatementKind::Validate, vec![text(array(&some(random)))]),
        3 => {
            let lookup = one(random);
            let cost = cost(random, db, &lookup);
            (StatementKind::ChargeOne, vec![text(lookup), text(cost.to_string())])
        }
        4 | 5 => {
            let lookups = some(random);
            let totals: Vec<i64> = lookups.iter().map(|lookup| cost(random, db, lookup)).collect();
            let kind = random.pick(&[StatementKind::ChargeContended, StatementKind::ChargeMany]);
            (kind, vec![text(array(&lookups)), text(array(&totals))])
        }
        6 | 7 => {
            let lookups = some(random);
            let costs = costs(random, &lookups);
            let totals: Vec<i64> =
                costs.iter().map(|costs| costs.iter().fold(0, |a: i64, b| a.saturating_add(*b))).collect();
            let params = vec![text(array(&lookups)), text(array(&totals)), text(groups(&costs)), waits_for];
            (StatementKind::ChargeBatch, params)
        }
        8 | 9 => {
            let lookups = some(random);
            let costs = costs(random, &lookups);
            let params = [text(array(&lookups)), text(groups(&costs)), waits_for];
            match random.chance(50) {
                true => (StatementKind::ChargeTree, params.into_iter().take(2).collect()),
                false => (StatementKind::ChargeTreeContended, params.into()),
            }
        }
        10..13 if random.chance(60) => {
            let kind = random.pick(&[StatementKind::SpendFlat, StatementKind::SpendFresh]);
            (kind, spend(random, db, None).into_iter().take(4).collect())
        }
        10..13 => (StatementKind::Spend, spend(random, db, waits_for)),
        13 if random.chance(50) => {
            (StatementKind::SettleFlat, settle(random, db, None).into_iter().take(3).collect())
        }
        13 => (StatementKind::Settle, settle(random, db, waits_for)),
        14 => {
            let id = id(random, db, 1);
            let amount = random.pick(&[1, 5 * MICROCENTS_PER_CENT, 700_000, i64::MAX]);
            (
                StatementKind::Refund,
                vec![text(id.to_string()), text(amount.to_string()), text(String::new()), None],
            )
        }
        _ => {
            let (limit, skip) = (random.pick(&["100", "100", "1"]), random.pick(&["0", "0", "1"]));
            let bounds = [limit, skip].map(|bound| Some(bound.to_owned()));
            match random.chance(50) {
                true => (StatementKind::ExpiredReservations, bounds.to_vec()),
                false => {
                    let id = id(random, db, 0).to_string();
                    // The order of trees is theirs: all of them.
                    let all = ["100", "0"].map(|bound| Some(bound.to_owned()));
                    (StatementKind::ExpiredOfKey, all.into_iter().chain([Some(id)]).collect())
                }
            }
        }
    }
}

/// Rows that are keys, and no limits.
fn keys(db: &Database) -> impl Iterator<Item = &Key> {
    db.keys.iter().filter(|key| key.when_exceeded.is_none())
}

/// The id of a key, or of one of so many that are none.
fn id(random: &mut Random, db: &Database, none: usize) -> i64 {
    let ids: Vec<i64> =
        keys(db).map(|key| key.id).chain((1..).map(|n| db.keys.len() as i64 + n).take(none)).collect();
    random.pick(&ids)
}

/// Different lookups, of keys that are there and of none.
fn lookups(random: &mut Random, db: &Database, most: usize) -> Vec<String> {
    let mut all: Vec<String> = keys(db).map(|key| key.lookup.clone()).collect();
    all.push(KeyHash::of("nobody").as_str().to_owned());
    let count = random.between(1, most as i64) as usize;
    (0..count.min(all.len())).map(|_| all.swap_remove(random.below(all.len()))).collect()
}

/// Any cost; often about as much as the key, or an ancestor, has left.
fn cost(random: &mut Random, db: &Database, lookup: &str) -> i64 {
    let most = MAX_CENTS * MICROCENTS_PER_CENT;
    let chain = db.find(lookup).map(|key| db.chain_of(key)).unwrap_or_default();
    if random.chance(50) || chain.is_empty() {
        let large = [most, most + 1, i64::MAX / 8];
        return match random.below(20) {
            0 => random.pick(&large),
            n => random.between(1, 40) * [1, 500_000, MICROCENTS_PER_CENT][n % 3],
        };
    }
    let id = chain[random.below(chain.len())];
    let view = db.keys.iter().find(|key| key.id == id).map(|key| key.own_view(db.now));
    let room = view.map_or(0, |view| view.cap() - view.reserved - view.used);
    let part = random.pick(&[1, 1, 2, 3]);
    (room / part + random.between(-1, 1)).max(1)
}

fn spend(random: &mut Random, db: &Database, waits_for: Option<String>) -> Vec<Option<String>> {
    let mut names = std::collections::BTreeSet::new();
    let (mut keys, mut kinds, mut amounts, mut details) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..random.between(1, 5) {
        let lookup = lookups(random, db, 1).remove(0);
        let kind = random.pick(&["c", "c", "o", "a", "r", "r", "r"]);
        let mut more = serde_json::Map::new();
        let mut amount = cost(random, db, &lookup);
        if random.chance(50) {
            // Whoever repeats it asks for the same.
            let n = random.between(1, 3);
            let name = format!("{kind}{n}");
            if !names.insert((lookup.clone(), name.clone())) {
                continue;
            }
            amount = n * 7 * MICROCENTS_PER_CENT + 1;
            more.insert("idempotency_key".to_owned(), name.into());
        }
        if kind == "r" {
            let bytes = random.next();
            more.insert("id".to_owned(), format!("00000000-0000-4000-8000-{:012x}", bytes >> 16).into());
            more.insert("ttl".to_owned(), random.pick(&[1, 60, 600]).into());
            if random.chance(25) {
                more.insert("if_expired".to_owned(), "settle".into());
            }
            if random.chance(30) {
                more.insert("scopes".to_owned(), json!([random.pick(&["read", "write"]), "admin"]));
            }
        }
        keys.push(lookup);
        kinds.push(kind.to_owned());
        amounts.push(amount);
        details.push(if more.is_empty() { String::new() } else { serde_json::Value::from(more).to_string() });
    }
    vec![
        Some(array(&keys)),
        Some(array(&kinds)),
        Some(array(&amounts)),
        Some(quoted_array(&details)),
        waits_for,
    ]
}

fn settle(random: &mut Random, db: &Database, waits_for: Option<String>) -> Vec<Option<String>> {
    let mut ids: Vec<String> = db.companions.reservations.iter().map(|r| r.id.clone()).collect();
    ids.push("00000000-0000-4000-8000-00000000dead".to_owned());
    let count = random.between(1, 4) as usize;
    let ids: Vec<String> =
        (0..count.min(ids.len())).map(|_| ids.swap_remove(random.below(ids.len()))).collect();
    let actions: Vec<&str> =
        ids.iter().map(|_| random.pick(&["settle", "settle", "release", "expire", "extend"])).collect();
    let most = MAX_CENTS * MICROCENTS_PER_CENT;
    let amount = |action: &&str| match *action {
        // What does not fit only beside another is to be tried again: of that the model knows nothing.
        "settle" if actions.len() == 1 && random.chance(20) => most,
        "settle" => random.pick(&[0, 1, 9 * MICROCENTS_PER_CENT, 80 * MICROCENTS_PER_CENT]),
        "extend" => 300,
        _ => 0,
    };
    let amounts: Vec<i64> = actions.iter().map(amount).collect();
    vec![Some(array(&ids)), Some(array(&actions)), Some(array(&amounts)), waits_for]
}

fn array<T: ToString>(items: &[T]) -> String {
    format!("{{{}}}", items.iter().map(T::to_string).collect::<Vec<_>>().join(","))
}

fn quoted_array(items: &[String]) -> String {
    let quoted = |item: &String| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""));
    array(&items.iter().map(quoted).collect::<Vec<_>>())
}

fn groups(costs: &[Vec<i64>]) -> String {
    quoted_array(&costs.iter().map(|costs| array(costs)).collect::<Vec<_>>())
}
