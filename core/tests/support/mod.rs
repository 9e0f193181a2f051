//! What tests on a real Postgres share: a database of their own, and keys tables as they are found in the wild.
#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

pub mod load;
pub mod pooler;
pub mod process;
pub mod server;

use std::time::{Duration, Instant};

use agentkey::engine::KeyHash;
use agentkey::{AgentKey, Builder};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

/// The server's URL. `make test` starts a server and sets it.
pub fn server_url() -> String {
    std::env::var("DATABASE_URL").expect(
        "DATABASE_URL is not set: run the tests with `make test`, or `tests/postgres.sh run -- cargo test`",
    )
}

/// A database of one test, dropped at the end.
pub struct TestDatabase {
    server: String,
    pub name: String,
    pub url: String,
    pub pool: PgPool,
}

impl TestDatabase {
    pub async fn create() -> Self {
        Self::create_on(&server_url()).await
    }

    pub async fn create_on(server_url: &str) -> Self {
        Self::create_with(server_url, "").await
    }

    /// With these options of `CREATE DATABASE`.
    pub async fn create_with(server_url: &str, options: &str) -> Self {
        let name = format!("agentkey_test_{:016x}", random());
        let mut server = PgConnection::connect(server_url).await.expect("a server at DATABASE_URL");
        server.execute(AssertSqlSafe(format!("CREATE DATABASE {name} {options}"))).await.unwrap();
        server.close().await.unwrap();
        let url = url_on(server_url, &name);
        let pool = PgPoolOptions::new().max_connections(10).connect(&url).await.unwrap();
        TestDatabase { server: server_url.to_owned(), name, url, pool }
    }

    /// A client with default options on a migrated table.
    pub async fn client(&self) -> AgentKey {
        self.client_with(AgentKey::builder()).await
    }

    pub async fn client_with(&self, builder: Builder) -> AgentKey {
        let ak = builder.pool(self.pool.clone()).unwrap();
        ak.migrate().await.unwrap();
        ak
    }

    /// Clients with a pool each: like processes, they share nothing but the database.
    pub async fn fleet(&self, clients: usize, builder: impl Fn() -> Builder) -> Vec<AgentKey> {
        let mut fleet = Vec::new();
        for _ in 0..clients {
            fleet.push(builder().pool_size(4).connect(&self.url).await.unwrap());
        }
        fleet
    }

    /// A session of its own, for what must not go back to a pool: locks, settings.
    pub async fn session(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// How many sessions wait for a lock.
    pub async fn waiting_sessions(&self) -> i64 {
        self.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            .await
    }

    /// Runs SQL of any number of statements.
    pub async fn run(&self, sql: &str) {
        self.pool
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// The first column of the first row, as an integer.
    pub async fn number(&self, sql: &str) -> i64 {
        self.text(sql).await.parse().unwrap()
    }

    /// The first column of the first row, as text; empty if it is NULL.
    pub async fn text(&self, sql: &str) -> String {
        let sql = format!("SELECT (q.value)::text FROM ({sql}) AS q(value)");
        let row =
            self.pool.fetch_one(AssertSqlSafe(sql.clone())).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        row.get::<Option<String>, _>(0).unwrap_or_default()
    }

    /// A number that sessions report at the latest when they end, once all of them are over.
    pub async fn at_rest(&self, sql: &str) -> i64 {
        const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let ask = async |sql: &str| {
            let mut session = self.session().await;
            let row = session.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap();
            let number: i64 = row.get(0);
            session.close().await.unwrap();
            number
        };
        self.pool.close().await;
        eventually("all sessions are over", async || ask(OTHERS).await == 0).await;
        ask(sql).await
    }

    /// Every row of the keys table as text: two equal snapshots mean that nothing was written.
    pub async fn snapshot(&self) -> String {
        self.text("SELECT coalesce(string_agg(k::text || k.ctid::text, E'\\n' ORDER BY k::text), '') FROM sdk_api_keys k").await
    }

    pub async fn drop(self) {
        self.pool.close().await;
        let mut server = PgConnection::connect(&self.server).await.unwrap();
        server.execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name))).await.unwrap();
    }
}

/// A keys table as the original package leaves it.
pub fn original_table(id: &str, account: &str) -> String {
    format!(
        "CREATE TABLE sdk_api_keys (
            id {id} PRIMARY KEY, account_id {account} NOT NULL, key_hash TEXT NOT NULL UNIQUE, key_prefix TEXT NOT NULL,
            name TEXT, created_at TIMESTAMPTZ DEFAULT now(), last_used_at TIMESTAMPTZ, revoked_at TIMESTAMPTZ,
            user_id TEXT, scopes TEXT[], budget_cents INTEGER, budget_used_cents INTEGER DEFAULT 0, budget_period TEXT,
            budget_reset_at TIMESTAMPTZ, expires_at TIMESTAMPTZ, delegated_by TEXT, external_subject TEXT);
        CREATE UNIQUE INDEX idx_subject ON sdk_api_keys (external_subject) WHERE external_subject IS NOT NULL;"
    )
}

/// A charge as the original package issues it: whether it was recorded.
pub async fn plain_charge(pool: &PgPool, key: &str, cost: i64) -> bool {
    let charge = sqlx::query(
        "UPDATE sdk_api_keys SET budget_used_cents = budget_used_cents + $2
         WHERE key_hash = $1 AND revoked_at IS NULL AND (budget_cents IS NULL OR budget_used_cents + $2 <= budget_cents)
         RETURNING budget_used_cents",
    );
    let row = charge.bind(KeyHash::of(key).as_str()).bind(cost).fetch_optional(pool).await.unwrap();
    row.is_some()
}

pub fn url_of(database: &str) -> String {
    url_on(&server_url(), database)
}

pub fn url_on(server_url: &str, database: &str) -> String {
    let options: PgConnectOptions = server_url.parse().unwrap();
    let user = server_url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'))
        .map(|(user, _)| user.to_owned());
    let user = user.unwrap_or_else(|| options.get_username().to_owned());
    format!("postgresql://{user}@{}:{}/{database}", options.get_host(), options.get_port())
}

/// Waits for a condition of the world, up to a bound that no healthy machine reaches.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < end, "still not the case: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Numbers that look random and can be had again from the seed.
pub struct Dice(pub u64);

impl Dice {
    /// Below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) as usize % sides
    }
}

pub fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_ne_bytes(bytes)
}
