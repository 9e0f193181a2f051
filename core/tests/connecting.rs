//! Options, and the way to the database: what is refused at once, and why there is no connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentkey::{AgentKey, CreateKey, DenialReason, ErrorCode};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection};
use support::server::TestServer;
use support::{TestDatabase, eventually};

/// Nothing listens there.
const REFUSED: &str = "postgresql://nobody:hunter2@127.0.0.1:1/x";
/// How long a call may take, and more than a slow machine needs to be told no.
const TIMEOUT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn bad_options_are_refused() {
    let db = TestDatabase::create().await;
    for prefix in ["a b", "\n", "a\r", "é", "\0", "\u{7f}", " ", "🔑", &"x".repeat(65), &"x".repeat(1 << 20)]
    {
        let error = AgentKey::builder().key_prefix(prefix).pool(db.pool.clone()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidKeyPrefix, "{prefix:?}");
    }
    for url in ["", "nonsense", "mysql://x", "postgresql://h:99999/x", "postgresql://h/x?nonsense=1"] {
        let error = AgentKey::connect(url).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidDsn, "{url}");
    }
    let shown = format!("{:?}", AgentKey::builder().database_url(REFUSED).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    db.drop().await;
}

#[tokio::test]
async fn a_refused_connection_says_so_at_once() {
    let options: PgConnectOptions = REFUSED.parse().unwrap();
    let theirs = PgPoolOptions::new().connect_lazy_with(options);
    let builder = || AgentKey::builder().timeout(TIMEOUT);
    let own = builder().database_url(REFUSED).unwrap().connect_lazy().unwrap();
    for ak in [own, builder().pool(theirs).unwrap()] {
        let began = Instant::now();
        let error = ak.validate("ak_x").await.unwrap_err();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(error.code(), ErrorCode::Database);
        assert!(error.is_transient() && !error.may_have_been_recorded());
        let message = error.message();
        assert!(message.contains("127.0.0.1:1") && message.contains("refused"), "{message}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert!(std::error::Error::source(&error).is_some());
        // Whoever asks next does not wait again.
        assert_eq!(ak.track_usage("ak_x", 1).await.unwrap_err().code(), ErrorCode::Database);
    }
    let began = Instant::now();
    let error = builder().connect(REFUSED).await.unwrap_err();
    assert!(error.message().contains("refused") && began.elapsed() < SOON, "{error}");
    let error = AgentKey::connect("host=/nonexistent user=u dbname=d").await.unwrap_err();
    assert!(error.message().contains("/nonexistent"), "{error}");
    assert!(error.message().contains("No such file"), "{error}");
}

#[tokio::test]
async fn other_causes_are_told_too() {
    let db = TestDatabase::create().await;
    let nowhere = db.url.replace(&db.name, "nowhere");
    let error = AgentKey::connect(&nowhere).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("3D000"), "{error}");
    let error = AgentKey::connect(&format!("{}?sslmode=require", db.url)).await.unwrap_err();
    assert!(error.message().contains("TLS"), "{error}");
    let certificate = format!("{}?sslmode=require&sslrootcert=/nonexistent.pem", db.url);
    assert!(AgentKey::connect(&certificate).await.is_err());
    db.drop().await;
}

#[tokio::test]
async fn a_database_that_comes_back_is_found_without_a_restart() {
    let server = TestServer::start().await;
    let db = TestDatabase::create_on(&server.url).await;
    let ak = AgentKey::builder().timeout(TIMEOUT).connect(&db.url).await.unwrap();
    ak.migrate().await.unwrap();
    server.crash().await;
    let began = Instant::now();
    assert!(ak.validate("ak_x").await.is_err());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    server.restart().await;
    eventually("it is found", async || ak.validate("ak_x").await.is_ok()).await;
}

#[tokio::test]
async fn every_form_of_a_name_reaches_the_database() {
    let db = TestDatabase::create().await;
    let options: PgConnectOptions = db.url.parse().unwrap();
    let (port, name, user) = (options.get_port(), &db.name, options.get_username());
    let socket = db.text("SELECT split_part(current_setting('unix_socket_directories'), ',', 1)").await;
    let mut dsns = vec![
        format!("host={} port={port} user={user} dbname={name}", options.get_host()),
        format!("postgresql+asyncpg://{user}@{}:{port}/{name}?ssl=disable", options.get_host()),
        format!("postgresql://{user}@127.0.0.1:1,{}:{port}/{name}", options.get_host()),
    ];
    if std::path::Path::new(&format!("{socket}/.s.PGSQL.{port}")).exists() {
        dsns.push(format!("postgresql://{user}@/{name}?host={socket}&port={port}"));
    }
    if std::net::TcpStream::connect(("::1", port)).is_ok() {
        dsns.push(format!("postgresql://{user}@[::1]:{port}/{name}"));
    }
    for dsn in dsns {
        let ak = AgentKey::connect(&dsn).await.unwrap_or_else(|e| panic!("{dsn}: {e}"));
        ak.migrate().await.unwrap();
        assert_eq!(ak.validate("ak_x").await.unwrap().unwrap_err().reason, DenialReason::Invalid);
        ak.close().await;
    }
    db.drop().await;
}

#[tokio::test]
async fn a_password_that_changes_is_asked_for_each_connection() {
    let server = TestServer::start().await;
    let mut admin = PgConnection::connect(&server.url).await.unwrap();
    admin.execute("CREATE ROLE rotating LOGIN SUPERUSER PASSWORD 'first'").await.unwrap();
    let hba: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut admin).await.unwrap();
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host all rotating 127.0.0.1/32 scram-sha-256\n{rules}")).unwrap();
    admin.execute("SELECT pg_reload_conf()").await.unwrap();
    let options: PgConnectOptions = server.url.parse().unwrap();
    let url = format!("postgresql://rotating@127.0.0.1:{}/postgres", options.get_port());
    eventually("passwords are asked for", async || PgConnection::connect(&url).await.is_err()).await;

    let password = Arc::new(Mutex::new("first".to_owned()));
    let current = Arc::clone(&password);
    let ak =
        AgentKey::builder().password(move || current.lock().unwrap().clone()).connect(&url).await.unwrap();
    ak.migrate().await.unwrap();
    admin.execute("ALTER ROLE rotating PASSWORD 'second'").await.unwrap();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'";
    admin.execute(terminate).await.unwrap();
    let refused = async || {
        let sqlstate = ak.validate("ak_x").await.map_err(|error| error.sqlstate().map(str::to_owned));
        matches!(sqlstate, Err(Some(state)) if state == "28P01")
    };
    eventually("the old password is refused", refused).await;
    "second".clone_into(&mut password.lock().unwrap());
    eventually("the new one is asked for", async || ak.validate("ak_x").await.is_ok()).await;
}

/// What a standby is to its clients.
async fn read_only(server: &TestServer, is: bool) {
    let mut session = PgConnection::connect(&server.url).await.unwrap();
    let setting = if is { "on" } else { "off" };
    session.execute("SET default_transaction_read_only = off").await.unwrap();
    let set = format!("ALTER SYSTEM SET default_transaction_read_only = {setting}");
    session.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
    session.execute("SELECT pg_reload_conf()").await.unwrap();
    eventually("it is reloaded", async || {
        let mut other = PgConnection::connect(&server.url).await.unwrap();
        let shown: String =
            sqlx::query_scalar("SHOW default_transaction_read_only").fetch_one(&mut other).await.unwrap();
        shown == setting
    })
    .await;
}

#[tokio::test]
async fn of_several_servers_the_first_that_takes_writes_is_used() {
    let (one, other) = (TestServer::start().await, TestServer::start().await);
    let options: [PgConnectOptions; 2] = [one.url.parse().unwrap(), other.url.parse().unwrap()];
    let dsn = format!(
        "postgresql://{}@127.0.0.1:{},127.0.0.1:{}/{}",
        options[0].get_username(),
        options[0].get_port(),
        options[1].get_port(),
        options[0].get_database().unwrap()
    );
    AgentKey::connect(&one.url).await.unwrap().migrate().await.unwrap();
    read_only(&one, true).await;
    let ak = AgentKey::connect(&dsn).await.unwrap();
    ak.migrate().await.unwrap();
    assert_eq!(ak.create(CreateKey::new("of the second")).await.unwrap().budget_cents, None);
    // They change roles: the next calls may fail, later ones find the other.
    read_only(&one, false).await;
    read_only(&other, true).await;
    eventually("the first is found", async || ak.create(CreateKey::new("of the first")).await.is_ok()).await;
    other.crash().await;
    assert!(ak.create(CreateKey::new("of the first")).await.is_ok());
    one.crash().await;
    let error = ak.validate("ak_x").await.unwrap_err();
    for options in options {
        assert!(error.message().contains(&format!("127.0.0.1:{}", options.get_port())), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_everybody_dropped_gives_its_connections_back() {
    let db = TestDatabase::create().await;
    let url = format!("{}{}application_name=dropped", db.url, if db.url.contains('?') { "&" } else { "?" });
    let ak = AgentKey::builder().timeout(Duration::from_secs(3_600)).connect(&url).await.unwrap();
    ak.migrate().await.unwrap();
    let key = ak.create(CreateKey::new("acct")).await.unwrap().key;
    assert!(ak.track_usage(key.expose(), 1).await.unwrap().is_ok());
    let its = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dropped'";
    assert!(db.number(its).await > 0);
    drop(ak);
    eventually("its connections are gone", async || db.number(its).await == 0).await;
    db.drop().await;
}
