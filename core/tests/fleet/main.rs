//! A mixed fleet on one table: statements as the original package issues them, our clients in several languages, an
//! application that moves resets, revocations, everything settled and charged twice. At every isolation level, directly
//! and through a pooler, it adds up to the cent, and fails no more calls than statements one by one do.
//!
//! `AGENTKEY_FLEET_SECONDS`: for how long each way (default 2). `AGENTKEY_FLEET_WORKERS`: programs for other languages,
//! one a line; `make fleet` gives those of `tests/fleet`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentkey::engine::KeyHash;
use agentkey::{AgentKey, Charge, CreateKey, Error, Period};
use serde_json::json;
use sqlx::postgres::{PgPool, PgPoolOptions};
use support::pooler::Pooler;
use support::{Dice, TestDatabase, random, server_url, url_on};
use tokio::process::Command;
use tokio::task::JoinSet;

const FLAT: usize = 6;
const CHILDREN: usize = 6;
/// Of each member of the fleet.
const CALLERS: usize = 12;
const LEVELS: [&str; 3] = ["read committed", "repeatable read", "serializable"];

/// What a member of the fleet did: cents by raw key.
#[derive(Debug, Default, serde::Deserialize)]
struct Report {
    done: BTreeMap<String, i64>,
    /// At most so much more.
    unknown: BTreeMap<String, i64>,
    calls: u64,
    failed: u64,
}

impl Report {
    fn add(&mut self, other: Report) {
        for (mine, theirs) in [(&mut self.done, other.done), (&mut self.unknown, other.unknown)] {
            theirs.into_iter().for_each(|(key, cents)| *mine.entry(key).or_default() += cents);
        }
        self.calls += other.calls;
        self.failed += other.failed;
    }

    fn note(&mut self, key: &str, most: i64, outcome: Result<i64, Error>) {
        self.calls += 1;
        match outcome {
            Ok(cents) => *self.done.entry(key.to_owned()).or_default() += cents,
            Err(error) => {
                self.failed += 1;
                if error.may_have_been_recorded() {
                    *self.unknown.entry(key.to_owned()).or_default() += most;
                }
            }
        }
    }

    fn failed_share(&self) -> String {
        format!("{} of {}", self.failed, self.calls)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_fleet_adds_up() {
    let pooler = Pooler::start(&server_url()).await;
    for level in LEVELS {
        for through in std::iter::once(None).chain(pooler.as_ref().map(Some)) {
            run(level, through).await;
        }
    }
}

async fn run(level: &str, pooler: Option<&Pooler>) {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let spec = || CreateKey::new("fleet").budget_cents(1_000_000_000).budget_period(Period::Month);
    let (mut keys, mut flat) = (Vec::new(), Vec::new());
    for _ in 0..FLAT {
        let key = ak.create(spec()).await.unwrap().key.expose().to_owned();
        flat.push(key.clone());
        keys.push(key);
    }
    let parent = ak.create(spec()).await.unwrap();
    for _ in 0..CHILDREN {
        keys.push(ak.create(spec().parent(parent.id.clone())).await.unwrap().key.expose().to_owned());
    }
    db.run(&format!("ALTER DATABASE {} SET default_transaction_isolation = '{level}'", db.name)).await;
    let url = pooler.map_or_else(|| db.url.clone(), |pooler| url_on(&pooler.url, &db.name));
    let seconds: f64 = std::env::var("AGENTKEY_FLEET_SECONDS").map_or(2.0, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs_f64(seconds);

    let (keys, flat): (Arc<[String]>, Arc<[String]>) = (keys.into(), flat.into());
    let workers = workers(&url, &keys, seconds, pooler.is_some());
    let one_by_one = PgPoolOptions::new().max_connections(CALLERS as u32).connect(&db.url).await.unwrap();
    let mut ours = JoinSet::new();
    let mut theirs = JoinSet::new();
    let client = AgentKey::builder().pool_size(4).pooler(pooler.is_some()).connect(&url).await.unwrap();
    for _ in 0..CALLERS {
        ours.spawn(spend(client.clone(), Arc::clone(&keys), until));
        theirs.spawn(charge_as_original(one_by_one.clone(), Arc::clone(&flat), until));
    }
    let mut others = JoinSet::new();
    others.spawn(move_resets(one_by_one.clone(), until));
    others.spawn(revoke(client.clone(), until));

    let (mut total, mut single) = (Report::default(), Report::default());
    while let Some(report) = theirs.join_next().await {
        single.add(report.unwrap());
    }
    while let Some(report) = ours.join_next().await {
        total.add(report.unwrap());
    }
    for report in workers.await {
        total.add(report);
    }
    let _: Vec<()> = others.join_all().await;
    client.close().await;
    one_by_one.close().await;

    let way = if pooler.is_some() { "through PgBouncer" } else { "directly" };
    println!("{level}, {way}: failed {} of ours, {} one by one", total.failed_share(), single.failed_share());
    assert!(total.calls > 0 && single.calls > 0);
    assert!(
        u128::from(total.failed) * u128::from(single.calls)
            <= u128::from(single.failed) * u128::from(total.calls),
        "{level}, {way}: more failed than one by one"
    );
    total.add(single);
    check(&db, &keys, &total).await;
    db.drop().await;
}

/// Every key was charged what was acknowledged, a parent the sum of its children, and nothing is held that has no end.
async fn check(db: &TestDatabase, keys: &[String], report: &Report) {
    for key in keys {
        let hash = KeyHash::of(key);
        let used = db
            .number(&format!(
                "SELECT budget_used_cents FROM sdk_api_keys WHERE key_hash = '{}'",
                hash.as_str()
            ))
            .await;
        let of = |cents: &BTreeMap<String, i64>| cents.get(key).copied().unwrap_or(0);
        let (done, unknown) = (of(&report.done), of(&report.unknown));
        assert!(
            (done..=done + unknown).contains(&used),
            "{used} recorded, {done} acknowledged, {unknown} open"
        );
    }
    let parents = "SELECT coalesce(sum(abs(p.budget_used_cents - c.used) + abs(p.budget_reserved_cents - c.reserved)), 0)
        FROM sdk_api_keys p CROSS JOIN LATERAL (
            SELECT sum(budget_used_cents) AS used, sum(budget_reserved_cents) AS reserved
            FROM sdk_api_keys WHERE parent_id = p.id
        ) c WHERE c.used IS NOT NULL";
    assert_eq!(db.number(parents).await, 0);
    let held = "SELECT count(*) FROM sdk_api_keys k WHERE k.parent_id IS NULL AND k.account_id = 'fleet' AND k.budget_reserved_cents <> (
        SELECT coalesce(sum(r.amount_microcents), 0) / 1000000 FROM sdk_api_keys_reservations r JOIN sdk_api_keys o ON o.id = r.key_id
        WHERE r.state = 'pending' AND (r.key_id = k.id OR o.parent_id = k.id))";
    assert_eq!(db.number(held).await, 0);
}

/// Charges, charges repeated under one idempotency key, reserves that are settled twice.
async fn spend(ak: AgentKey, keys: Arc<[String]>, until: Instant) -> Report {
    let mut report = Report::default();
    let mut dice = Dice(random());
    while Instant::now() < until {
        let key = &keys[dice.roll(keys.len())];
        let outcome = match dice.roll(3) {
            0 => ak.track_usage(key, 1).await.map(|charged| i64::from(charged.is_ok())),
            1 => {
                let name = format!("{:016x}", random());
                let charge = || ak.track_usage(key, Charge::new(2).idempotency_key(&*name));
                let (one, other) = tokio::join!(charge(), charge());
                either(one.map(|charged| charged.is_ok()), other.map(|charged| charged.is_ok()))
            }
            _ => match ak.reserve(key, 3).await {
                Ok(Ok(held)) => {
                    let (one, other) = tokio::join!(ak.settle(&held.id, 2), ak.settle(&held.id, 2));
                    either(one.map(|settled| settled.is_ok()), other.map(|settled| settled.is_ok()))
                }
                Ok(Err(_)) => Ok(0),
                Err(error) => Err(error),
            },
        };
        report.note(key, 3, outcome);
    }
    report
}

/// Two calls asked for the same two cents.
fn either(one: Result<bool, Error>, other: Result<bool, Error>) -> Result<i64, Error> {
    match (one, other) {
        (Ok(true), _) | (_, Ok(true)) => Ok(2),
        (Err(error), _) | (_, Err(error)) => Err(error),
        _ => Ok(0),
    }
}

/// A look-up and a guarded UPDATE a call, each in a transaction of its own.
async fn charge_as_original(pool: PgPool, keys: Arc<[String]>, until: Instant) -> Report {
    let mut report = Report::default();
    let mut dice = Dice(random());
    while Instant::now() < until {
        let key = &keys[dice.roll(keys.len())];
        report.calls += 1;
        let charge = sqlx::query(
            "UPDATE sdk_api_keys SET budget_used_cents = budget_used_cents + 1
             WHERE key_hash = $1 AND revoked_at IS NULL AND budget_used_cents + 1 <= budget_cents RETURNING id",
        );
        match charge.bind(KeyHash::of(key).as_str()).fetch_optional(&pool).await {
            Ok(row) => *report.done.entry(key.clone()).or_default() += i64::from(row.is_some()),
            Err(_) => report.failed += 1,
        }
        let touch = sqlx::query("UPDATE sdk_api_keys SET last_used_at = now() WHERE key_hash = $1");
        // As the original does it: whether it worked is nobody's affair.
        let _ = touch.bind(KeyHash::of(key).as_str()).execute(&pool).await;
    }
    report
}

/// The application sets another day for the end of a period that runs.
async fn move_resets(pool: PgPool, until: Instant) {
    while Instant::now() < until {
        let moved = sqlx::query(
            "UPDATE sdk_api_keys SET budget_reset_at = now() + interval '20 days' + random() * interval '9 days'
             WHERE id = (SELECT id FROM sdk_api_keys WHERE account_id = 'fleet' ORDER BY random() LIMIT 1)",
        );
        // It may meet a conflict as any other.
        let _ = moved.execute(&pool).await;
        tokio::task::yield_now().await;
    }
}

/// Keys that come and go beside the others.
async fn revoke(ak: AgentKey, until: Instant) {
    while Instant::now() < until {
        let Ok(created) = ak.create(CreateKey::new("gone").budget_cents(5)).await else { continue };
        let _ = ak.track_usage(created.key.expose(), 1).await;
        if ak.revoke(created.id.clone()).await.is_ok() {
            let after = ak.track_usage(created.key.expose(), 1).await;
            assert!(
                after.is_err() || after.is_ok_and(|charged| charged.is_err()),
                "a revoked key was charged"
            );
        }
    }
}

/// The programs of other languages.
fn workers(
    url: &str,
    keys: &[String],
    seconds: f64,
    is_pooled: bool,
) -> impl Future<Output = Vec<Report>> + use<> {
    let given =
        json!({ "url": url, "keys": keys, "seconds": seconds, "callers": CALLERS, "pooler": is_pooled });
    let programs = std::env::var("AGENTKEY_FLEET_WORKERS").unwrap_or_default();
    let start = |line: &str| {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env("AGENTKEY_FLEET", given.to_string()).stdout(Stdio::piped());
        command.kill_on_drop(true).spawn().unwrap_or_else(|e| panic!("{line}: {e}"))
    };
    let children: Vec<_> = programs.lines().filter(|line| !line.trim().is_empty()).map(start).collect();
    async move {
        let mut reports = Vec::new();
        for child in children {
            let output = child.wait_with_output().await.unwrap();
            assert!(output.status.success(), "a worker failed");
            let report: Report = serde_json::from_slice(&output.stdout).unwrap();
            println!("a worker: {} failed", report.failed_share());
            reports.push(report);
        }
        reports
    }
}
