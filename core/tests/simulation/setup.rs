//! What differs from schedule to schedule: drawn once, from the seed.

use std::time::Duration;

use agentkey::engine::{Credential, KeyHash, MICROCENTS_PER_CENT, Options};

use crate::database::{Companions, Database, Key, Period};
use crate::random::Random;

/// The model's clock begins here, in seconds.
const START: i64 = 1_764_000_000;

pub const SUBJECT: &str = "robot";

/// A key that clients know of, whether it exists or not.
#[derive(Debug, Clone)]
pub struct Name {
    pub lookup: String,
    pub credential: Credential,
}

impl Name {
    pub fn of_hash(hash: KeyHash) -> Self {
        Name { lookup: hash.as_str().to_owned(), credential: Credential::Key(hash) }
    }

    fn of_subject(subject: &str) -> Self {
        Name { lookup: subject.to_owned(), credential: Credential::Subject(subject.to_owned()) }
    }
}

pub struct Setup {
    pub engines: usize,
    pub steps: usize,
    pub fault_percent: u64,
    /// How often a row is locked by somebody else while a statement runs.
    pub locked_percent: u64,
    /// Whether statements have to wait for connections.
    pub has_small_pool: bool,
    /// The id of a row that the database refuses to change.
    pub poisoned: Option<i64>,
    /// Whether others charge the same keys with statements of their own. They know whole cents only.
    pub has_foreign_clients: bool,
    /// Whether costs have fractions of a cent.
    pub has_fractions: bool,
    pub options: Options,
}

impl Setup {
    pub fn draw(random: &mut Random) -> (Self, Database, Vec<Name>) {
        let has_foreign_clients = random.chance(40);
        let migrated = random.chance(80);
        let mut options = Options::default();
        options.max_batch = random.pick(&[1, 2, 3, 8, 512]);
        options.max_in_flight = random.pick(&[1, 2, 2, 3]);
        options.max_waiting = random.pick(&[4, 1_000, 1_000]);
        options.max_attempts = random.pick(&[2, 5]);
        options.timeout = Duration::from_secs(random.pick(&[2, 10]));
        options.settle_timeout = Duration::from_secs(random.pick(&[2, 10, 20]));
        let mut setup = Setup {
            engines: random.pick(&[1, 1, 2, 2, 3, 4]),
            steps: random.pick(&[15, 40, 40, 100]),
            fault_percent: random.pick(&[0, 3, 10, 40]),
            locked_percent: random.pick(&[0, 10, 60]),
            has_small_pool: random.chance(40),
            poisoned: None,
            has_foreign_clients,
            has_fractions: migrated && !has_foreign_clients && random.chance(50),
            options,
        };
        let mut names: Vec<Name> = (0..random.pick(&[1, 1, 2, 4, 5]))
            .map(|n| Name::of_hash(KeyHash::of(&format!("ak_{n}"))))
            .collect();
        let mut keys: Vec<Key> =
            names.iter().zip(1..).map(|(name, id)| key(random, id, &name.lookup)).collect();
        for key in &mut keys {
            // Not by reservations that the model knows.
            key.reserved_before =
                key.budget_cents.unwrap_or(0) / 10 * random.between(0, 1) * MICROCENTS_PER_CENT;
            key.reserved = key.reserved_before;
        }
        if migrated && random.chance(30) {
            limit(random, &mut keys);
        }
        if migrated && random.chance(50) {
            grow(random, &mut keys, names.len());
        }
        setup.poisoned = random.chance(25).then(|| random.between(1, keys.len() as i64));
        for (name, key) in names.iter_mut().zip(&keys) {
            if random.chance(25) {
                name.credential = Credential::Id(key.id.into());
            }
        }
        names.push(Name::of_subject(SUBJECT));
        (
            setup,
            Database { now: START, keys, migrated, companions: Companions::default(), locked: None },
            names,
        )
    }
}

/// Gives some keys limits beside their budgets: rows that no client knows.
fn limit(random: &mut Random, keys: &mut Vec<Key>) {
    for at in 0..keys.len() {
        for _ in 0..random.pick(&[0, 1, 2]) {
            let id = keys.len() as i64 + 1;
            let limit = key(random, id, &format!("limit {id}")).into_limit();
            keys[at].ancestors.push(id);
            keys.push(limit);
        }
    }
}

/// Makes some keys the children of earlier ones.
fn grow(random: &mut Random, keys: &mut [Key], count: usize) {
    for at in 1..count {
        if random.chance(70) {
            let parent = &keys[random.below(at)];
            let above: Vec<i64> =
                std::iter::once(parent.id).chain(parent.ancestors.iter().copied()).collect();
            keys[at].ancestors.extend(above);
        }
    }
}

fn key(random: &mut Random, id: i64, lookup: &str) -> Key {
    let anchor = START - random.between(0, 900_000);
    let period = Period::named(random.pick(&["", "", "hour", "day", "week", "5m"]), anchor);
    let budget_cents = random.pick(&[None, Some(0), Some(40), Some(300), Some(300), Some(1_000)]);
    // A reset may be due, and more than one may have been missed.
    let reset_at = period.map(|period| period.next_reset(START) - period.seconds * random.between(0, 2));
    Key {
        id,
        lookup: lookup.to_owned(),
        name: format!("key {id}"),
        scope: random.pick(&[None, None, Some("read"), Some("admin")]),
        budget_cents,
        boost: None,
        used: random.between(0, budget_cents.unwrap_or(100)) / 2 * MICROCENTS_PER_CENT,
        is_stale: false,
        reserved: 0,
        reserved_before: 0,
        ancestors: Vec::new(),
        when_exceeded: None,
        period,
        reset_at,
        expires_at: random.chance(20).then(|| START + random.between(-10, 5_000)),
        revoked: random.chance(3),
        last_used_at: random.chance(50).then_some(START - 30),
    }
}
