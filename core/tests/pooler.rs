//! Behind a real PgBouncer in transaction mode, where a driver that sends a statement in two round trips may get the
//! answer to somebody else's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentkey::engine::AccountId;
use agentkey::{AgentKey, CreateKey};
use sqlx::Row;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use support::load::{LIMIT, Load};
use support::pooler::Pooler;
use support::server::TestServer;
use support::{Dice, TestDatabase, eventually, random, server_url, url_on};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const KEYS: usize = 40;
const CLIENTS: usize = 10;
/// Of each client, in a round.
const CALLS: usize = 100;
const ROUNDS: usize = 20;
/// Tells a key's row from every other row.
const FIRST_BUDGET: i64 = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_the_right_one_in_pooler_mode() {
    let Some(pooler) = Pooler::start(&server_url()).await else { return };
    let db = TestDatabase::create().await;
    let keys = keys(&db).await;
    let clients = clients(&pooler, &db, Some(true)).await;
    let mut recorded = [vec![0; KEYS], vec![0; KEYS]];
    for _ in 0..ROUNDS {
        let result = load(&clients, &keys).await;
        assert_eq!((result.errors, result.wrong), (vec![], 0));
        for (sum, cents) in recorded.iter_mut().flatten().zip(result.recorded.iter().flatten()) {
            *sum += cents;
        }
    }
    // Every table got its own charges, every key's to the cent.
    for (table, recorded) in ["sdk_api_keys", "other_keys"].iter().zip(&recorded) {
        let rows: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT budget_used_cents FROM {table} ORDER BY budget_cents"
        )))
        .fetch_all(&db.pool)
        .await
        .unwrap();
        assert_eq!(rows, *recorded, "{table}");
    }
    drop(pooler);
    db.drop().await;
}

/// Nobody says that there is a pooler. It refuses what shows it, or ignores that.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_noticed() {
    for ignored in ["extra_float_digits", "extra_float_digits, options"] {
        let Some(pooler) = Pooler::start_ignoring(&server_url(), ignored).await else { return };
        let db = TestDatabase::create().await;
        let keys = keys(&db).await;
        let clients = clients(&pooler, &db, None).await;
        for _ in 0..ROUNDS {
            let result = load(&clients, &keys).await;
            assert_eq!((result.errors, result.wrong), (vec![], 0), "{ignored}");
        }
        drop(pooler);
        db.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_noticed_and_its_statements_are_prepared() {
    let db = TestDatabase::create().await;
    db.client().await;
    for said in [None, Some(true)] {
        let pool = PgPoolOptions::new().max_connections(1).connect(&db.url).await.unwrap();
        let builder = AgentKey::builder();
        let builder = if let Some(said) = said { builder.pooler(said) } else { builder };
        let ak = builder.pool(pool.clone()).unwrap();
        for _ in 0..3 {
            assert!(ak.validate("ak_none").await.unwrap().is_err());
        }
        let ours = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%agentkey%'";
        let prepared: i64 = sqlx::raw_sql(ours).fetch_one(&pool).await.unwrap().try_get(0).unwrap();
        assert_eq!(prepared > 0, said.is_none(), "{prepared}");
        ak.close().await;
        pool.close().await;
    }
    db.drop().await;
}

/// A proxy whose first connection works. Each further one, while it is closed, is accepted and never answered.
async fn proxy(server: &str, is_open: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options: PgConnectOptions = server.parse().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        for place in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            if place > 0 && !is_open.load(Ordering::SeqCst) {
                silent.push(client);
                continue;
            }
            let mut server = TcpStream::connect((options.get_host(), options.get_port())).await.unwrap();
            tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut client, &mut server).await) });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_look_that_is_never_answered_and_a_later_one_is() {
    let db = TestDatabase::create().await;
    let created = db.client().await.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let is_open = Arc::new(AtomicBool::new(false));
    let port = proxy(&server_url(), Arc::clone(&is_open)).await;
    let options: PgConnectOptions = db.url.parse().unwrap();
    let options = options.host("127.0.0.1").port(port);
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    // The look takes two seconds; the callers have one.
    let ak = AgentKey::builder().timeout(Duration::from_secs(1)).pool(pool.clone()).unwrap();
    for _ in 0..3 {
        assert!(ak.track_usage(created.key.expose(), 1).await.unwrap().is_ok());
    }
    let prepared = async || {
        let ours = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%agentkey%'";
        let count: i64 = sqlx::raw_sql(ours).fetch_one(&pool).await.unwrap().try_get(0).unwrap();
        count > 0
    };
    assert!(!prepared().await);
    is_open.store(true, Ordering::SeqCst);
    eventually("it is known to be a server", async || {
        assert!(ak.validate(created.key.expose()).await.unwrap().is_ok());
        prepared().await
    })
    .await;
    ak.close().await;
    pool.close().await;
    db.drop().await;
}

/// Without this the tests above could pass because their load is harmless.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_load_goes_wrong_without_pooler_mode() {
    let Some(pooler) = Pooler::start(&server_url()).await else { return };
    let db = TestDatabase::create().await;
    let keys = keys(&db).await;
    let clients = clients(&pooler, &db, Some(false)).await;
    let mut wrong = 0;
    for _ in 0..ROUNDS {
        wrong += load(&clients, &keys).await.wrong;
        if wrong > 0 {
            break;
        }
    }
    assert!(wrong > 0, "the load is too light to show anything");
    drop(pooler);
    db.drop().await;
}

/// PgBouncer answers with an SQLSTATE when its server dies in the middle of a statement, which may be committed by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_behind_a_pooler_loses_and_doubles_nothing() {
    let server = TestServer::start().await;
    let Some(pooler) = Pooler::start(&server.url).await else { return };
    let db = TestDatabase::create_on(&server.url).await;
    let mut loads = Vec::new();
    for kind in ["plain", "idempotent"] {
        let created = db.client().await.create(CreateKey::new(kind)).await.unwrap();
        let builder = AgentKey::builder().pooler(true).pool_size(4).timeout(LIMIT);
        let ak = builder.connect(&url_on(&pooler.url, &db.name)).await.unwrap();
        let key = created.key.expose();
        loads.push(if kind == "plain" { Load::start(&ak, key) } else { Load::start_idempotent(&ak, key) });
    }
    for _ in 0..ROUNDS {
        for load in &loads {
            load.flows(200).await;
        }
        server.crash().await;
        server.restart().await;
    }
    let (idempotent, plain) = (loads.pop().unwrap(), loads.pop().unwrap());
    plain.flows(200).await;
    plain.stop();
    idempotent.stop();
    let (_, _, unknown) = plain.check_key(&db, "account_id = 'plain'").await;
    assert!(unknown > 0, "no call met a fault");
    // What is repeated under its idempotency key until it is acknowledged is recorded exactly once.
    let (acknowledged, used, _) = idempotent.check_key(&db, "account_id = 'idempotent'").await;
    assert_eq!(acknowledged, used);
}

/// The clients take turns with two tables, so that a statement mistaken for another can still give a plausible answer.
async fn clients(pooler: &Pooler, db: &TestDatabase, said: Option<bool>) -> Vec<AgentKey> {
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let table = if n % 2 == 0 { "sdk_api_keys" } else { "other_keys" };
        let builder = AgentKey::builder().pool_size(4).table_name(table);
        let builder = if let Some(said) = said { builder.pooler(said) } else { builder };
        let ak = builder.connect(&url_on(&pooler.url, &db.name)).await.unwrap();
        // The table is known before the load; without pooler mode not even a lone call succeeds at once.
        eventually("a first answer", async || ak.validate("ak_none").await.is_ok()).await;
        clients.push(ak);
    }
    clients
}

/// The same keys in two tables, each with an account and a budget that tell it from all others.
async fn keys(db: &TestDatabase) -> Vec<String> {
    let ak = db.client().await;
    let mut keys = Vec::new();
    for n in 0..KEYS {
        let spec = CreateKey::new(format!("sdk_api_keys {n}")).budget_cents(FIRST_BUDGET + n as i64);
        keys.push(ak.create(spec).await.unwrap().key.expose().to_owned());
    }
    db.client_with(AgentKey::builder().table_name("other_keys")).await;
    db.run(
        "INSERT INTO other_keys (account_id, key_hash, key_prefix, budget_cents)
         SELECT replace(account_id, 'sdk_api_keys', 'other_keys'), key_hash, key_prefix, budget_cents + 1000 FROM sdk_api_keys",
    )
    .await;
    keys
}

struct Round {
    wrong: usize,
    errors: Vec<String>,
    /// By table and key, in cents.
    recorded: [Vec<i64>; 2],
}

enum Called {
    Right(usize, usize, i64),
    Wrong,
    Failed(String),
}

/// Every client validates and charges, many calls at once.
async fn load(clients: &[AgentKey], keys: &[String]) -> Round {
    let mut dice = Dice(random());
    let mut tasks = JoinSet::new();
    for call in 0..CALLS * clients.len() {
        let (client, ak) = (call % clients.len(), clients[call % clients.len()].clone());
        let key = dice.roll(keys.len());
        let raw = keys[key].clone();
        let cost = dice.roll(2) as i64 * (1 + dice.roll(9) as i64);
        tasks.spawn(async move {
            let (table, table_name) = [(0, "sdk_api_keys"), (1, "other_keys")][client % 2];
            let budget = FIRST_BUDGET + key as i64 + table as i64 * 1000;
            let right = if cost == 0 {
                match ak.validate(&raw).await {
                    Ok(Ok(grant)) => {
                        grant.account_id == Some(AccountId::Text(format!("{table_name} {key}")))
                            && grant.budget_cents == Some(budget)
                    }
                    Ok(Err(_)) => false,
                    Err(error) => return Called::Failed(error.to_string()),
                }
            } else {
                match ak.track_usage(&raw, cost).await {
                    Ok(Ok(charged)) => {
                        let amounts = charged.budget_used_cents().zip(charged.budget_remaining_cents());
                        amounts.is_some_and(|(used, left)| used + left == budget)
                    }
                    Ok(Err(_)) => false,
                    Err(error) => return Called::Failed(error.to_string()),
                }
            };
            if right { Called::Right(table, key, cost) } else { Called::Wrong }
        });
    }
    let mut round =
        Round { wrong: 0, errors: Vec::new(), recorded: [vec![0; keys.len()], vec![0; keys.len()]] };
    for called in tasks.join_all().await {
        match called {
            Called::Right(table, key, cost) => round.recorded[table][key] += cost,
            Called::Wrong => round.wrong += 1,
            Called::Failed(error) => round.errors.push(error),
        }
    }
    round
}
