//! Many charges at once, of several clients and of the original package: the cap holds, and every cent is accounted for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentkey::{AgentKey, CreateKey, ErrorCode};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Executor, PgConnection};
use support::load::GRACE;
use support::{Dice, TestDatabase, eventually, plain_charge, process, random};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const CLIENTS: usize = 8;
const CHARGES: usize = 10_000;
const PLAIN_POOLS: usize = 2;
const PLAIN_CHARGES: usize = 50;
const ROUNDS: usize = 20;

/// What became of a charge.
struct Charge {
    key: usize,
    cost: i64,
    recorded: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hot_key_never_passes_its_cap() {
    mixed_rounds(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_keys_never_pass_their_caps() {
    mixed_rounds(200).await;
}

/// Rounds of charges by our clients and by plain statements, of which about two thirds fit.
async fn mixed_rounds(count: usize) {
    let db = TestDatabase::create().await;
    let clients = db.client().await;
    let keys = keys(&clients, count, (CHARGES * 7 * 2 / 3 / count) as i64).await;
    let clients = db.fleet(CLIENTS, AgentKey::builder).await;
    let mut pools = Vec::new();
    for _ in 0..PLAIN_POOLS {
        pools.push(PgPoolOptions::new().max_connections(1).connect(&db.url).await.unwrap());
    }
    let watch = Watch::start(&db);
    for _ in 0..ROUNDS {
        db.run("UPDATE sdk_api_keys SET budget_used_cents = 0").await;
        let seed = random();
        let mut tasks = JoinSet::new();
        for (n, pool) in pools.iter().enumerate() {
            tasks.spawn(charge_plainly(pool.clone(), Arc::clone(&keys), Dice(seed + n as u64)));
        }
        let mut charges = charge_by(&clients, &keys, CHARGES, seed).await;
        charges.extend(tasks.join_all().await.into_iter().flatten());
        check(&db, &keys, &charges, seed).await;
    }
    for client in &clients {
        assert_eq!(client.stats().retries, 0, "statements of ours met a deadlock");
        client.close().await;
    }
    assert!(watch.end().await > ROUNDS, "the sampler looked too rarely to see anything");
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn separate_processes_never_pass_the_caps() {
    const PROCESSES: usize = 4;
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let keys = keys(&ak, 5, 4_000).await;
    let watch = Watch::start(&db);
    let input = format!("{} {}", db.url, keys.join(" "));
    let workers = process::start(&db, PROCESSES, "worker", &input).await;
    let mut charges = charge_plainly(db.pool.clone(), Arc::clone(&keys), Dice(random())).await;
    for worker in workers {
        let answer = process::finish(worker).await;
        charges.extend(answer.split_whitespace().map(|charge| {
            let fields: Vec<i64> = charge.split(':').map(|field| field.parse().unwrap()).collect();
            Charge { key: fields[0] as usize, cost: fields[1], recorded: fields[2] == 1 }
        }));
    }
    assert_eq!(charges.len(), PROCESSES * 2_000 + PLAIN_CHARGES);
    check(&db, &keys, &charges, 0).await;
    watch.end().await;
    db.drop().await;
}

/// A process of the test above.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Some(input) = process::input() else { return };
    let mut words = input.split_whitespace().map(str::to_owned);
    let url = words.next().unwrap();
    let ak = AgentKey::connect(&url).await.unwrap();
    let keys = Arc::new(words.collect());
    process::started(&url).await;
    let charges = charge_by(std::slice::from_ref(&ak), &keys, 2_000, random()).await;
    assert_eq!(ak.stats().retries, 0);
    ak.close().await;
    let shown: Vec<_> =
        charges.iter().map(|c| format!("{}:{}:{}", c.key, c.cost, u8::from(c.recorded))).collect();
    process::answer(&shown.join(" "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_that_go_away_harm_nobody() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let keys = keys(&ak, 10, 1_000_000).await;
    let mut dice = Dice(random());
    let mut tasks = JoinSet::new();
    let mut costs = HashMap::new();
    let mut handles = Vec::new();
    // All keys are locked meanwhile, so that statements are under way and most charges wait.
    let mut blocker = db.session().await;
    blocker.execute("BEGIN; SELECT FROM sdk_api_keys FOR UPDATE").await.unwrap();
    for _ in 0..CHARGES {
        let (ak, key, cost) = (ak.clone(), keys[dice.roll(keys.len())].clone(), 1 + dice.roll(9) as i64);
        let handle = tasks.spawn(async move { ak.track_usage(&key, cost).await.unwrap().is_ok() });
        costs.insert(handle.id(), cost);
        handles.push(handle);
    }
    eventually("all have called", async || ak.stats().pending == CHARGES).await;
    // Half of the thousand leave while all are blocked, the others while the charges run.
    handles.iter().step_by(20).for_each(|handle| handle.abort());
    blocker.execute("COMMIT").await.unwrap();
    handles.iter().skip(1).step_by(20).for_each(|handle| handle.abort());

    let (mut acknowledged, mut dropped, mut gone) = (0, 0, 0);
    while let Some(result) = tasks.join_next_with_id().await {
        match result {
            Ok((id, recorded)) => {
                acknowledged += if recorded { costs[&id] } else { panic!("no cap was near") }
            }
            Err(error) => {
                assert!(error.is_cancelled(), "{error}");
                dropped += costs[&error.id()];
                gone += 1;
            }
        }
    }
    assert!((500..=1_000).contains(&gone), "{gone}");
    ak.close().await;
    assert_eq!(ak.stats().pending, 0);
    let used = db.number("SELECT sum(budget_used_cents) FROM sdk_api_keys").await;
    assert!(
        acknowledged <= used && used <= acknowledged + dropped,
        "{acknowledged} <= {used} <= {acknowledged} + {dropped}"
    );
    assert!(used < acknowledged + dropped, "a charge whose caller left before it was sent is not sent");
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_behind_many_that_went_away_are_answered() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let keys = keys(&ak, 1, 1_000_000).await;
    let mut blocker = db.session().await;
    blocker.execute("BEGIN; SELECT FROM sdk_api_keys FOR UPDATE").await.unwrap();
    let call = |cost: i64| {
        let (ak, key) = (ak.clone(), keys[0].clone());
        async move { ak.track_usage(&key, cost).await.unwrap().is_ok() }
    };
    let mut under_way = JoinSet::new();
    for _ in 0..2 {
        under_way.spawn(call(1));
    }
    eventually("a statement waits for the lock", async || db.waiting_sessions().await == 1).await;
    // More than the batch that the statement makes room for.
    let mut gone = JoinSet::new();
    for _ in 0..3_000 {
        gone.spawn(call(100));
    }
    eventually("they wait", async || ak.stats().pending == 3_002).await;
    gone.shutdown().await;
    let behind = tokio::spawn(call(1));
    eventually("one waits behind them", async || ak.stats().pending == 3_003).await;
    blocker.execute("COMMIT").await.unwrap();
    assert!(under_way.join_all().await.iter().all(|recorded| *recorded));
    assert!(tokio::time::timeout(GRACE, behind).await.expect("the one behind them is answered").unwrap());
    tokio::time::timeout(GRACE, ak.close()).await.expect("the client comes to rest");
    assert_eq!(db.number("SELECT budget_used_cents FROM sdk_api_keys").await, 3);
    db.drop().await;
}

const LIMIT: Duration = Duration::from_secs(3);

/// A client whose statements under way belong to a runtime that is going to stop, and wait for a lock until then.
struct TwoRuntimes {
    doomed: Runtime,
    lasting: Runtime,
    db: TestDatabase,
    ak: AgentKey,
    key: String,
    blocker: PgConnection,
}

impl TwoRuntimes {
    fn start() -> Self {
        let runtime = || Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (doomed, lasting) = (runtime(), runtime());
        let (db, ak, key, blocker) = lasting.block_on(async {
            let db = TestDatabase::create().await;
            let ak = db.client_with(AgentKey::builder().timeout(LIMIT)).await;
            let key = keys(&ak, 1, 1_000_000).await[0].clone();
            let mut blocker = db.session().await;
            blocker.execute("BEGIN; SELECT FROM sdk_api_keys FOR UPDATE").await.unwrap();
            for _ in 0..50 {
                let (ak, key) = (ak.clone(), key.clone());
                doomed.spawn(async move { ak.track_usage(&key, 1).await });
            }
            let blocked = async || ak.stats().pending == 50 && db.waiting_sessions().await > 0;
            eventually("a statement waits for the lock", blocked).await;
            (db, ak, key, blocker)
        });
        TwoRuntimes { doomed, lasting, db, ak, key, blocker }
    }
}

#[test]
fn a_runtime_that_stops_leaves_no_caller_hanging_on_another() {
    let TwoRuntimes { doomed, lasting, db, ak, key, mut blocker } = TwoRuntimes::start();
    let call = || {
        let (ak, key) = (ak.clone(), key.clone());
        async move { ak.track_usage(&key, 100).await }
    };
    let behind = lasting.block_on(async {
        let behind: Vec<_> = (0..50).map(|_| tokio::spawn(call())).collect();
        eventually("all have called", async || ak.stats().pending == 100).await;
        behind
    });
    doomed.shutdown_background();
    lasting.block_on(async {
        blocker.execute("COMMIT").await.unwrap();
        let mut acknowledged = 0;
        for caller in behind {
            let answer = tokio::time::timeout(LIMIT + GRACE, caller).await.expect("nobody hangs").unwrap();
            match answer {
                Ok(usage) => acknowledged += if usage.is_ok() { 100 } else { panic!("no cap was near") },
                Err(error) => {
                    assert!(matches!(error.code(), ErrorCode::Timeout | ErrorCode::Database), "{error}")
                }
            }
        }
        eventually("the client works again", async || call().await.is_ok()).await;
        let used = db.number("SELECT budget_used_cents FROM sdk_api_keys").await;
        assert!(acknowledged + 100 <= used, "{acknowledged} {used}");
        tokio::time::timeout(LIMIT + GRACE, ak.close()).await.expect("the client comes to rest");
        db.drop().await;
    });
}

#[test]
fn a_runtime_that_stops_leaves_no_close_hanging_on_another() {
    let TwoRuntimes { doomed, lasting, db, ak, blocker, .. } = TwoRuntimes::start();
    let closing = lasting.spawn(async move { ak.close().await });
    doomed.shutdown_background();
    lasting.block_on(async {
        let closed = tokio::time::timeout(LIMIT + GRACE, closing).await;
        drop(blocker);
        closed.expect("the client comes to rest").unwrap();
        db.drop().await;
    });
}

async fn keys(ak: &AgentKey, count: usize, budget_cents: i64) -> Arc<Vec<String>> {
    let mut keys = Vec::new();
    for _ in 0..count {
        let created = ak.create(CreateKey::new("acct").budget_cents(budget_cents)).await.unwrap();
        keys.push(created.key.expose().to_owned());
    }
    Arc::new(keys)
}

/// Charges of 1 to 13 cents, all at once, dealt to the clients in turn.
async fn charge_by(clients: &[AgentKey], keys: &Arc<Vec<String>>, count: usize, seed: u64) -> Vec<Charge> {
    let mut dice = Dice(seed);
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let (client, keys) = (clients[n % clients.len()].clone(), Arc::clone(keys));
        let (key, cost) = (dice.roll(keys.len()), 1 + dice.roll(13) as i64);
        tasks.spawn(async move {
            let usage = client.track_usage(&keys[key], cost).await?;
            Ok::<_, agentkey::Error>(Charge { key, cost, recorded: usage.is_ok() })
        });
    }
    tasks.join_all().await.into_iter().map(Result::unwrap).collect()
}

async fn charge_plainly(pool: PgPool, keys: Arc<Vec<String>>, mut dice: Dice) -> Vec<Charge> {
    let mut charges = Vec::new();
    for _ in 0..PLAIN_CHARGES {
        let (key, cost) = (dice.roll(keys.len()), 1 + dice.roll(13) as i64);
        charges.push(Charge { key, cost, recorded: plain_charge(&pool, &keys[key], cost).await });
    }
    charges
}

/// What was acknowledged is what is recorded, within the cap; and what was refused did not fit.
async fn check(db: &TestDatabase, keys: &[String], charges: &[Charge], seed: u64) {
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT key_hash, budget_used_cents, budget_cents FROM sdk_api_keys")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    let rows: HashMap<_, _> = rows.into_iter().map(|(hash, used, cap)| (hash, (used, cap))).collect();
    let mut acknowledged = vec![0; keys.len()];
    let mut least_refused = vec![i64::MAX; keys.len()];
    for charge in charges {
        match charge.recorded {
            true => acknowledged[charge.key] += charge.cost,
            false => least_refused[charge.key] = charge.cost.min(least_refused[charge.key]),
        }
    }
    assert!(least_refused.iter().any(|cost| *cost < i64::MAX), "no cap was reached");
    for (n, key) in keys.iter().enumerate() {
        let (used, cap) = rows[agentkey::engine::KeyHash::of(key).as_str()];
        assert_eq!(acknowledged[n], used, "key {n}, seed {seed}");
        assert!(used <= cap, "{used} of {cap}, seed {seed}");
        assert!(
            least_refused[n] > cap - used,
            "refused {} with {} left, seed {seed}",
            least_refused[n],
            cap - used
        );
    }
}

/// Looks at the rows all the time: no snapshot may show a key past its cap.
struct Watch {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Watch {
    fn start(db: &TestDatabase) -> Watch {
        let (stop, pool) = (Arc::new(AtomicBool::new(false)), db.pool.clone());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut samples = 0;
            while !stopped.load(Ordering::Relaxed) {
                let query = sqlx::query(
                    "SELECT FROM sdk_api_keys WHERE budget_used_cents NOT BETWEEN 0 AND budget_cents",
                );
                assert!(
                    query.fetch_optional(&pool).await.unwrap().is_none(),
                    "a snapshot shows a key past its cap"
                );
                samples += 1;
            }
            samples
        });
        Watch { stop, task }
    }

    /// How often it looked.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
