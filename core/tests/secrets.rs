//! No raw key is shown or stored anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::error::Error as _;
use std::fmt::Debug;
use std::time::Duration;

use agentkey::engine::{Credential, Engine, KeyHash, Options, Parent, Request};
use agentkey::{AgentKey, Charge, CreateKey, Error};
use sqlx::postgres::PgConnectOptions;
use support::TestDatabase;
use support::server::TestServer;

/// Everything that was shown, to be searched for secrets.
#[derive(Default)]
struct Shown(Vec<String>);

impl Shown {
    fn debug(&mut self, value: &impl Debug) {
        self.0.push(format!("{value:?} {value:#?}"));
    }

    fn error(&mut self, error: &Error) {
        self.debug(error);
        self.0.push(error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            self.0.push(format!("{cause} {cause:?}"));
            source = cause.source();
        }
    }
}

#[tokio::test]
async fn no_raw_key_is_shown_or_stored_anywhere() {
    let server = TestServer::start().await;
    let db = TestDatabase::create_on(&server.url).await;
    for setting in [
        "log_statement = 'all'",
        "log_min_duration_statement = 0",
        "log_min_messages = debug1",
        "log_error_verbosity = verbose",
        "log_parameter_max_length = -1",
        "log_parameter_max_length_on_error = -1",
        "track_activity_query_size = 100000",
    ] {
        db.run(&format!("ALTER SYSTEM SET {setting}")).await;
    }
    db.run("SELECT pg_reload_conf()").await;
    let ak = db.client_with(AgentKey::builder().timeout(Duration::from_secs(1))).await;
    let mut shown = Shown::default();
    let created = ak.create(CreateKey::new("acct").budget_cents(5)).await.unwrap();
    let planted = "ak_PLANTED_0123456789abcdef_never_created".to_owned();
    shown.debug(&created);
    for key in [created.key.expose(), &planted] {
        shown.debug(&ak.validate(key).await);
        shown.debug(&tokio::join!(
            ak.track_usage(key, 3),
            ak.track_usage(key, 3),
            ak.track_usage(key, i64::MAX)
        ));
        shown.debug(&KeyHash::of(key));
        let mut engine = Engine::new(Options::default());
        engine.submit(Duration::ZERO, Request::Charge(Credential::of_key(key), Charge::new(1))).unwrap();
        shown.debug(&engine.poll(Duration::ZERO));
        shown.debug(&engine);
    }
    // A parent is named by its raw key: only the hash goes on.
    let child = CreateKey::child_of(Parent::from(&created.key));
    shown.0.push(serde_json::to_string(&child).unwrap());
    shown.debug(&child);
    let request = format!(r#"{{"op":"create","with":{{"parent":"{}"}}}}"#, created.key.expose());
    shown.debug(&ak.options().read_request(&request));
    shown.debug(&ak.call(Request::Create(child)).await);
    let sleeper = db.text("SELECT string_agg(query, ' ') FROM pg_stat_activity").await;
    shown.0.push(sleeper);

    // Faults of every kind: no permission, no column, no table, no server.
    db.run("CREATE ROLE stranger LOGIN").await;
    let options: PgConnectOptions = db.url.parse().unwrap();
    let stranger = sqlx::PgPool::connect_with(options.username("stranger")).await.unwrap();
    let strangers = AgentKey::builder().pool(stranger).unwrap();
    for breakage in ["SELECT", "ALTER TABLE sdk_api_keys RENAME key_hash TO gone", "DROP TABLE sdk_api_keys"]
    {
        if breakage.starts_with("DROP") {
            let everything = "SELECT string_agg(k::text, ' ') || (SELECT coalesce(string_agg(e::text, ' '), '') FROM sdk_api_keys_events e) FROM sdk_api_keys k";
            shown.0.push(db.text(everything).await);
        }
        db.run(breakage).await;
        let client = if breakage == "SELECT" { &strangers } else { &ak };
        for key in [created.key.expose(), &planted] {
            shown.error(&client.validate(key).await.unwrap_err());
            shown.error(&client.track_usage(key, 1).await.unwrap_err());
            let both = tokio::join!(client.track_usage(key, 1), client.track_usage(key, 1));
            shown.error(&both.0.unwrap_err());
        }
        shown.error(&client.create(CreateKey::new("a")).await.unwrap_err());
    }
    shown.debug(&ak);
    shown.debug(&AgentKey::builder());
    server.crash().await;
    shown.error(&ak.validate(&planted).await.unwrap_err());
    let log = server.log();
    assert!(log.contains("execute") && log.contains(created.key.hash().as_str()), "the log shows parameters");
    shown.0.push(log);
    assert!(shown.0.len() > 25);
    for text in &shown.0 {
        for secret in [&created.key.expose()[11..], &planted[11..]] {
            assert!(
                !text.contains(secret),
                "a raw key is shown: {}",
                text.chars().take(2_000).collect::<String>()
            );
        }
    }
}
