//! Faults of the database and of the way to it. What is acknowledged is recorded, and nothing is recorded twice:
//! acknowledged <= used <= acknowledged + unknown. Every call ends within its time, and no client needs a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant, SystemTime};

use agentkey::{AgentKey, ChargeRefusal, CreateKey, DenialReason, ErrorCode, Period};
use chrono::{DateTime, Utc};
use sqlx::Executor;
use sqlx::postgres::PgPoolOptions;
use support::load::{GRACE, LIMIT, Load, client};
use support::server::TestServer;
use support::{TestDatabase, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_server_loses_and_doubles_nothing() {
    let server = TestServer::start().await;
    let db = TestDatabase::create_on(&server.url).await;
    let (ak, key) = client(&db, &db.url).await;
    let load = Load::start(&ak, &key);
    for _ in 0..3 {
        load.flows(500).await;
        server.crash().await;
        server.restart().await;
    }
    load.flows(500).await;
    let (_, _, unknown) = load.check(&db).await;
    assert!(unknown > 0, "no call met a fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_backends_lose_and_double_nothing() {
    let db = TestDatabase::create().await;
    let (ak, key) = client(&db, &db.url).await;
    let mut admin = db.session().await;
    let load = Load::start(&ak, &key);
    for _ in 0..20 {
        load.flows(200).await;
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        admin.execute(terminate).await.unwrap();
    }
    load.flows(200).await;
    let (_, _, unknown) = load.check(&db).await;
    assert!(unknown > 0, "no call met a fault");
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_are_not_charged_again() {
    let db = TestDatabase::create().await;
    let proxy = Proxy::start(&db.url).await;
    let (ak, key) = client(&db, &proxy.url).await;
    let load = Load::start(&ak, &key);
    for _ in 0..20 {
        load.flows(200).await;
        proxy.lose.store(1, Relaxed);
        eventually("a reply is lost", async || proxy.lose.load(Relaxed) == 0).await;
    }
    load.flows(200).await;
    let (acknowledged, used, unknown) = load.check(&db).await;
    assert!(
        unknown > 0 && used > acknowledged,
        "no reply was lost after its charge: {acknowledged} {used} {unknown}"
    );
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_server_that_hangs_end_in_time() {
    let server = TestServer::start().await;
    let db = TestDatabase::create_on(&server.url).await;
    let (ak, key) = client(&db, &db.url).await;
    let load = Load::start(&ak, &key);
    for _ in 0..2 {
        load.flows(500).await;
        server.signal("STOP");
        let began = Instant::now();
        let calls = tokio::join!(
            ak.validate(&key),
            ak.track_usage(&key, 1),
            ak.revoke(0),
            ak.create(CreateKey::new("a"))
        );
        let codes = [
            calls.0.map(|_| ()).unwrap_err().code(),
            calls.1.map(|_| ()).unwrap_err().code(),
            calls.2.map(|_| ()).unwrap_err().code(),
            calls.3.map(|_| ()).unwrap_err().code(),
        ];
        assert!(
            codes.iter().all(|code| matches!(code, ErrorCode::Timeout | ErrorCode::Database)),
            "{codes:?}"
        );
        assert!(began.elapsed() < LIMIT + GRACE, "{:?}", began.elapsed());
        // Longer than the client leaves a statement its connection: it must find others.
        let waited = load.told.failed.load(Relaxed);
        eventually("callers are told", async || load.told.failed.load(Relaxed) > waited).await;
        server.signal("CONT");
    }
    load.flows(500).await;
    // The two charges that are not the load's.
    load.told.unknown.fetch_add(2, Relaxed);
    load.check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_a_revocation_is_acknowledged_nothing_succeeds() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let clients = db.fleet(3, AgentKey::builder).await;
    for _ in 0..20 {
        let created = ak.create(CreateKey::new("acct")).await.unwrap();
        let (revoked, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for caller in 0..60 {
            let (ak, key) = (clients[caller % clients.len()].clone(), created.key.expose().to_owned());
            let (revoked, calls) = (Arc::clone(&revoked), Arc::clone(&calls));
            tasks.spawn(async move {
                loop {
                    let too_late = revoked.load(Relaxed);
                    let refused = if caller % 2 == 0 {
                        ak.track_usage(&key, 1).await.unwrap() == Err(ChargeRefusal::InvalidKey)
                    } else {
                        ak.validate(&key)
                            .await
                            .unwrap()
                            .is_err_and(|denial| denial.reason == DenialReason::Revoked)
                    };
                    calls.fetch_add(1, Relaxed);
                    match (too_late, refused) {
                        (true, refused) => {
                            return assert!(refused, "a call that began after the revocation succeeded");
                        }
                        (false, _) => continue,
                    }
                }
            });
        }
        eventually("calls are under way", async || calls.load(Relaxed) > 200).await;
        assert!(ak.revoke(created.id).await.unwrap());
        let used = db.number("SELECT budget_used_cents FROM sdk_api_keys ORDER BY id DESC LIMIT 1").await;
        revoked.store(true, Relaxed);
        tasks.join_all().await;
        assert_eq!(
            db.number("SELECT budget_used_cents FROM sdk_api_keys ORDER BY id DESC LIMIT 1").await,
            used
        );
    }
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_isolation_keeps_every_cent() {
    for isolation in ["repeatable read", "serializable"] {
        let db = TestDatabase::create().await;
        db.run(&format!("ALTER DATABASE {} SET default_transaction_isolation = '{isolation}'", db.name))
            .await;
        let clients = db.fleet(2, AgentKey::builder).await;
        clients[0].migrate().await.unwrap();
        let key = clients[0].create(CreateKey::new("acct").budget_cents(3_000)).await.unwrap().key;
        let mut tasks = JoinSet::new();
        for n in 0..4_000 {
            let (ak, key) = (clients[n % clients.len()].clone(), key.expose().to_owned());
            tasks.spawn(async move { ak.track_usage(&key, 1).await.map(|usage| i64::from(usage.is_ok())) });
        }
        let mut acknowledged = 0;
        for result in tasks.join_all().await {
            // What lost against others too often had no effect, and says so.
            acknowledged += result.unwrap_or_else(|e| panic!("{isolation}: {e}"));
        }
        assert_eq!(acknowledged, 3_000);
        assert_eq!(db.number("SELECT budget_used_cents FROM sdk_api_keys").await, 3_000);
        db.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_settings_change_no_reset_and_no_expiry() {
    let db = TestDatabase::create().await;
    let utc = db.client().await;
    let settings = [
        "SET timezone = 'Pacific/Kiritimati'; SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'",
        "SET timezone = 'America/New_York'; SET standard_conforming_strings = off; SET extra_float_digits = -15",
        "SET timezone = 'Asia/Kolkata'; SET datestyle = 'German'; SET bytea_output = 'escape'",
        "SET timezone = 'Australia/Lord_Howe'; SET datestyle = 'Postgres, MDY'; SET backslash_quote = on",
        "SET timezone = 'Etc/GMT+12'; SET intervalstyle = 'sql_standard'; SET lc_messages = 'C'; SET lc_numeric = 'C'",
    ];
    for settings in settings {
        db.run("DELETE FROM sdk_api_keys").await;
        // Rows that are due, with an anchor and without, around the ends of months, days and summer times.
        db.run(
            "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, budget_cents, budget_used_cents, budget_period,
                 budget_anchor_at, budget_reset_at, expires_at)
             SELECT 'acct', encode(sha256(('ak_' || row_number() OVER ())::bytea), 'hex'), 'ak_', 9, 9, period,
                 CASE WHEN anchored THEN at::timestamptz END, at::timestamptz, '2222-02-02 00:30+00'
             FROM unnest(ARRAY['hour', 'day', 'week', 'month', 'year']) period,
                  unnest(ARRAY['2024-01-31 00:00+00', '2024-02-29 23:30+00', '2024-03-31 01:30+00', '2024-10-31 14:15:16.123456+00']) at,
                  unnest(ARRAY[true, false]) anchored",
        )
        .await;
        let pool = PgPoolOptions::new().after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(settings).await.map(|_| ()) })
        });
        let ak = AgentKey::builder().pool(pool.connect(&db.url).await.unwrap()).unwrap();
        // Twice in UTC, for a period may end meanwhile.
        let (before, seen, after) = (grants(&utc).await, grants(&ak).await, grants(&utc).await);
        for (n, seen) in seen.iter().enumerate() {
            let (before, after) = (&before[n], &after[n]);
            assert!(seen == before || seen == after, "{settings}: key {n}: {seen:?}, not {before:?}");
            assert!(
                ak.track_usage(&format!("ak_{}", n + 1), 5).await.unwrap().is_ok(),
                "{settings}: key {n}"
            );
        }
        // The charges wrote what the look-ups computed, but where a period ended meanwhile.
        let charged = grants(&ak).await;
        let now = DateTime::<Utc>::from(SystemTime::now());
        for (charged, seen) in charged.iter().zip(&seen) {
            assert_eq!(charged.1, seen.1, "{settings}");
            assert!(
                (charged.0, charged.2) == (seen.0, 5) || seen.0 <= now,
                "{settings}: {charged:?}, not {seen:?}"
            );
        }
        for (period, first_reset) in [
            (Period::Day, "(created_at + interval '24 h')"),
            (
                Period::Month,
                "((date_trunc('day', created_at AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')",
            ),
        ] {
            let created = ak
                .create(
                    CreateKey::new("new")
                        .budget_cents(1)
                        .budget_period(period)
                        .expires_in(Duration::from_secs(3600)),
                )
                .await
                .unwrap();
            let off = format!(
                "SELECT (abs(extract(epoch FROM budget_reset_at - {first_reset}))
                     + abs(extract(epoch FROM expires_at - created_at - interval '1 h')))::bigint FROM sdk_api_keys WHERE id = {}",
                created.id
            );
            assert_eq!(db.number(&off).await, 0, "{settings}: {period}");
        }
        ak.close().await;
    }
    db.drop().await;
}

/// Of each of the keys above: reset, expiry, used.
async fn grants(ak: &AgentKey) -> Vec<(DateTime<Utc>, DateTime<Utc>, i64)> {
    let mut grants = Vec::new();
    for id in 1..=40 {
        let grant = ak.validate(&format!("ak_{id}")).await.unwrap().unwrap();
        grants.push((grant.budget_reset_at.unwrap(), grant.expires_at.unwrap(), grant.budget_used_cents));
    }
    grants
}

/// Passes bytes on, but when told to lose a reply, throws the next one away and hangs up: the server has done its work.
struct Proxy {
    url: String,
    lose: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(url: &str) -> Proxy {
        let (before_port, rest) = url.rsplit_once(':').unwrap();
        let (port, database) = rest.split_once('/').unwrap();
        let server = format!("{}:{port}", before_port.rsplit_once('@').unwrap().1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let user = url.split_once("://").unwrap().1.rsplit_once('@').unwrap().0;
        let url = format!("postgresql://{user}@{}/{database}", listener.local_addr().unwrap());
        let lose = Arc::new(AtomicUsize::new(0));
        let lost = Arc::clone(&lose);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { return };
                tokio::spawn(carry(client, server, Arc::clone(&lost)));
            }
        });
        Proxy { url, lose }
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, lose: Arc<AtomicUsize>) {
    let (mut from_client, mut from_server) = ([0; 16384], [0; 16384]);
    loop {
        let passed = tokio::select! {
            read = client.read(&mut from_client) => match read {
                Ok(1..) => server.write_all(&from_client[..read.unwrap()]).await,
                _ => return,
            },
            read = server.read(&mut from_server) => match read {
                Ok(1..) if lose.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok() => return,
                Ok(1..) => client.write_all(&from_server[..read.unwrap()]).await,
                _ => return,
            },
        };
        if passed.is_err() {
            return;
        }
    }
}
