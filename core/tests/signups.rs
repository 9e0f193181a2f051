//! Signups, counted for all processes in the database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::time::Duration;

use agentkey::engine::{Answer, Request, Revocation, SignupCount};
use agentkey::http::RateLimit;
use agentkey::tower::KeyRoutes;
use agentkey::{AgentKey, CreateKey, Error, ErrorCode};
use axum::Router;
use axum::body::Body;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, Executor};
use support::pooler::Pooler;
use support::{Dice, TestDatabase, process, random, server_url, url_on};
use tokio::task::JoinSet;
use tower::ServiceExt;

const PROCESSES: usize = 3;
const CALLS: usize = 60;
const MAX: u32 = 40;
const ROWS: &str = "SELECT count(*) FROM sdk_api_keys_signups";
const OVER: &str = "UPDATE sdk_api_keys_signups SET ends_at = now() - interval '1 second'";

/// A client's hash, as far as the table knows: 64 hexadecimal digits.
fn client(number: usize) -> String {
    format!("{number:064x}")
}

async fn count(ak: &AgentKey, signup: SignupCount) -> Result<Result<(), u32>, Error> {
    match ak.call(Request::CountSignup(signup)).await? {
        Answer::SignupCounted(counted) => Ok(counted),
        other => panic!("{other:?}"),
    }
}

async fn one(ak: &AgentKey, number: usize, max: u32) -> Result<(), u32> {
    count(ak, SignupCount::new(client(number), max, 60)).await.unwrap()
}

/// All at once; how many were counted.
async fn flood(clients: &[AgentKey], calls: usize, signup: SignupCount) -> usize {
    let mut tasks = JoinSet::new();
    for n in 0..calls {
        let (ak, signup) = (clients[n % clients.len()].clone(), signup.clone());
        tasks.spawn(async move { count(&ak, signup).await.unwrap() });
    }
    let longest = signup.window_seconds;
    let results = tasks.join_all().await;
    assert!(
        results.iter().all(|counted| counted.is_ok() || counted.is_err_and(|s| (1..=longest).contains(&s)))
    );
    results.iter().filter(|counted| counted.is_ok()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_one_limit() {
    let db = TestDatabase::create().await;
    db.client().await;
    let workers = process::start(&db, PROCESSES, "worker", &db.url).await;
    let mut counted = 0;
    for worker in workers {
        counted += process::finish(worker).await.parse::<u32>().unwrap();
    }
    assert_eq!(counted, MAX);
    assert_eq!(db.number("SELECT count FROM sdk_api_keys_signups").await, i64::from(MAX));
    // They are gone, and the count is there.
    assert!(one(&db.client().await, 1, MAX).await.is_err());
    db.drop().await;
}

/// A process of the test above.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Some(url) = process::input() else { return };
    let clients = [AgentKey::builder().pool_size(4).connect(&url).await.unwrap()];
    process::started(&url).await;
    let counted = flood(&clients, CALLS, SignupCount::new(client(1), MAX, 60)).await;
    process::answer(&counted.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_exact_under_strict_isolation_and_behind_a_pooler() {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let db = TestDatabase::create().await;
        db.run(&format!("ALTER DATABASE {} SET default_transaction_isolation = '{isolation}'", db.name))
            .await;
        let clients = db.fleet(2, AgentKey::builder).await;
        clients[0].migrate().await.unwrap();
        assert_eq!(flood(&clients, 24, SignupCount::new(client(1), 7, 60)).await, 7, "{isolation}");
        db.drop().await;
    }
    let Some(pooler) = Pooler::start(&server_url()).await else { return };
    let db = TestDatabase::create().await;
    db.client().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let pool = PgPoolOptions::new().max_connections(4).connect(&url_on(&pooler.url, &db.name)).await;
        clients.push(AgentKey::builder().pooler(true).pool(pool.unwrap()).unwrap());
    }
    assert_eq!(flood(&clients, 60, SignupCount::new(client(1), 7, 60)).await, 7);
    drop(pooler);
    db.drop().await;
}

#[tokio::test]
async fn a_client_has_so_many_in_a_window_and_then_again() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    assert_eq!([one(&ak, 1, 2).await, one(&ak, 1, 2).await], [Ok(()), Ok(())]);
    assert!(one(&ak, 1, 2).await.is_err_and(|seconds| (55..=60).contains(&seconds)));
    assert_eq!(one(&ak, 2, 2).await, Ok(()), "another client's");
    // A lower limit counts at once, none is none.
    assert!(one(&ak, 2, 1).await.is_err());
    assert_eq!(one(&ak, 3, 0).await, Err(60));
    db.run(OVER).await;
    assert_eq!([one(&ak, 1, 2).await, one(&ak, 1, 2).await], [Ok(()), Ok(())]);
    assert!(one(&ak, 1, 2).await.is_err());
    // The window is of a clock that was put back since.
    db.run("UPDATE sdk_api_keys_signups SET ends_at = now() + interval '10 days'").await;
    assert_eq!(one(&ak, 1, 2).await, Ok(()));
    assert_eq!(
        db.number("SELECT count(*) FROM sdk_api_keys_signups WHERE ends_at > now() + interval '60 seconds'")
            .await,
        0
    );
    // The longest window that there is.
    let longest = SignupCount::new(client(4), 1, u32::MAX);
    assert_eq!(count(&ak, longest.clone()).await.unwrap(), Ok(()));
    assert!(count(&ak, longest).await.unwrap().is_err_and(|seconds| seconds > u32::MAX - 100));
    db.drop().await;
}

#[tokio::test]
async fn the_table_is_bounded_and_windows_that_are_over_go() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    // A shard is full: 400 clients whose hashes begin with 00.
    let full = "INSERT INTO sdk_api_keys_signups SELECT lpad(to_hex(n), 64, '0'), now() + interval '30 seconds', 1 FROM generate_series(1, 400) n";
    db.run(full).await;
    assert_eq!(one(&ak, 401, 2).await, Ok(()));
    assert_eq!(one(&ak, 402, 2).await, Ok(()));
    assert!(one(&ak, 403, 2).await.is_err(), "those without a row share one");
    assert_eq!(one(&ak, 400, 2).await, Ok(()), "who has one keeps it");
    assert_eq!(db.number(ROWS).await, 401);
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys_signups WHERE client = '00'").await, 1);
    let other = SignupCount::new("f".repeat(64), 1, 60);
    assert_eq!(count(&ak, other).await.unwrap(), Ok(()), "of another shard");
    db.run(OVER).await;
    assert_eq!(one(&ak, 500, 2).await, Ok(()));
    assert_eq!(one(&ak, 500, 2).await, Ok(()));
    // A refusal writes nothing.
    assert!(one(&ak, 500, 2).await.is_err());
    assert_eq!(db.number(ROWS).await, 402 + 1 - 200);
    for n in 501..510 {
        assert_eq!(one(&ak, n, 2).await, Ok(()));
    }
    assert_eq!(db.number(ROWS).await, 10);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_end_under_load_make_no_deadlock() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(3, AgentKey::builder).await;
    clients[0].migrate().await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..24 {
        let ak = clients[n % 3].clone();
        tasks.spawn(async move {
            let mut dice = Dice(random());
            for _ in 0..40 {
                let signup = SignupCount::new(client(dice.roll(12)), 2, 60);
                _ = count(&ak, signup).await.unwrap();
            }
        });
    }
    let mut ended = 0;
    while !tasks.is_empty() {
        tokio::select! {
            result = tasks.join_next() => result.unwrap().unwrap(),
            () = db.run(OVER), if ended < 300 => ended += 1,
        }
    }
    assert!(ended > 10, "{ended}");
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_lets_nobody_through_and_holds_nobody_else_up() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(AgentKey::builder().timeout(Duration::from_secs(2))).await;
    let created = ak.create(CreateKey::new("acct")).await.unwrap();
    assert_eq!(one(&ak, 1, 100).await, Ok(()));
    let mut holder = db.session().await;
    holder.execute("BEGIN; SELECT FROM sdk_api_keys_signups FOR UPDATE").await.unwrap();
    let mut waiting = JoinSet::new();
    for _ in 0..20 {
        let ak = ak.clone();
        waiting.spawn(async move { count(&ak, SignupCount::new(client(1), 100, 60)).await });
    }
    // They have all taken the way that they take.
    support::eventually("somebody waits for it", async || db.waiting_sessions().await > 0).await;
    assert_eq!(one(&ak, 2, 1).await, Ok(()));
    assert!(matches!(
        ak.call(Request::Revoke(Revocation::of_key(created.id))).await.unwrap(),
        Answer::Revoked(true)
    ));
    for result in waiting.join_all().await {
        assert_eq!(result.unwrap_err().code(), ErrorCode::Timeout);
    }
    holder.close().await.unwrap();
    support::eventually("it is counted again", async || one(&ak, 1, 100).await.is_ok()).await;
    db.drop().await;
}

async fn sign_up(app: &Router, address: &str) -> (u16, String) {
    let request = axum::http::Request::post("/signup").header("x-forwarded-for", address);
    let response =
        app.clone().oneshot(request.body(Body::from(r#"{"email":"a@b.c"}"#)).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn app(ak: &AgentKey, max: u32) -> Router {
    let forwarded = |parts: &axum::http::request::Parts| {
        let header = parts.headers.get("x-forwarded-for");
        header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let routes = KeyRoutes::new(ak.clone()).signup(true).signup_rate_limit(RateLimit::new(max, 60));
    routes.client_address(forwarded).router().unwrap()
}

#[tokio::test]
async fn doors_share_the_count_and_no_address_is_stored() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, AgentKey::builder).await;
    clients[0].migrate().await.unwrap();
    let apps = [app(&clients[0], 2), app(&clients[1], 2)];
    let long = "9".repeat(5000);
    let odd = "'; DROP TABLE sdk_api_keys; --";
    // Of the last two the process says the same: whoever shows no usable address.
    for addresses in [
        ["1.2.3.4", "1.2.3.4", "::ffff:1.2.3.4"],
        ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"],
        [odd, odd, odd],
        [&long, "", &long],
    ] {
        let mut statuses = Vec::new();
        for (n, address) in addresses.iter().enumerate() {
            statuses.push(sign_up(&apps[n % 2], address).await.0);
        }
        assert_eq!(statuses, [201, 201, 429], "{addresses:?}");
    }
    assert_eq!(db.number(ROWS).await, 4);
    let hashes =
        "SELECT count(*) FROM sdk_api_keys_signups s WHERE s.client ~ '^[0-9a-f]{64}$' AND s.count = 2";
    assert_eq!(db.number(hashes).await, 4);
    assert_eq!(sign_up(&app(&clients[0], 0), "5.5.5.5").await.0, 429);
    db.drop().await;
}

#[tokio::test]
async fn a_table_that_is_not_migrated_is_counted_by_each_process() {
    let db = TestDatabase::create().await;
    db.run(&support::original_table("SERIAL", "TEXT")).await;
    let ak = AgentKey::builder().connect(&db.url).await.unwrap();
    let error = count(&ak, SignupCount::new(client(1), 1, 60)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MigrationRequired);
    assert!(error.to_string().contains("there is no table sdk_api_keys_signups"), "{error}");
    let apps = [app(&ak, 1), app(&ak, 1)];
    let mut statuses = Vec::new();
    for app in apps.iter().chain(&apps) {
        statuses.push(sign_up(app, "1.2.3.4").await.0);
    }
    assert_eq!(statuses, [201, 201, 429, 429]);
    ak.migrate().await.unwrap();
    let app = app(&ak, 1);
    assert_eq!([sign_up(&app, "1.2.3.4").await.0, sign_up(&app, "1.2.3.4").await.0], [201, 429]);
    assert_eq!(db.number(ROWS).await, 1);
    db.drop().await;
}

#[tokio::test]
async fn a_fault_lets_nobody_through() {
    let db = TestDatabase::create().await;
    db.client().await;
    let role = format!("{}_app", db.name);
    db.run(&format!(
        "CREATE ROLE {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
    ))
    .await;
    let become_it = format!("SET ROLE {role}");
    let pool = PgPoolOptions::new().after_connect(move |session, _| {
        let become_it = become_it.clone();
        Box::pin(async move { session.execute(sqlx::AssertSqlSafe(become_it)).await.map(drop) })
    });
    let pool = pool.connect(&db.url).await.unwrap();
    let ak = AgentKey::builder().pool(pool.clone()).unwrap();
    let app = app(&ak, 100);
    assert_eq!(sign_up(&app, "1.2.3.4").await.0, 201);
    for right in ["INSERT", "UPDATE", "DELETE", "SELECT"] {
        db.run(&format!("REVOKE {right} ON sdk_api_keys_signups FROM {role}")).await;
        let keys = db.number("SELECT count(*) FROM sdk_api_keys").await;
        for address in ["1.2.3.4", "1.2.3.5"] {
            let refused = sign_up(&app, address).await;
            assert_eq!(refused, (500, r#"{"error":"auth_unavailable"}"#.to_owned()), "{right}");
        }
        assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys").await, keys);
        db.run(&format!("GRANT {right} ON sdk_api_keys_signups TO {role}")).await;
        assert_eq!(sign_up(&app, "1.2.3.4").await.0, 201);
    }
    pool.close().await;
    db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    db.drop().await;
}
