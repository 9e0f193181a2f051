//! What tests on a real Postgres share: a database of their own, and keys tables as they are found in the wild.
#![allow(dead_code, reason = "every test file uses a part of it")]

use agentkey::{AgentKey, Builder};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

/// The server's URL. `make test` starts a server and sets it.
pub fn server_url() -> String {
    std::env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run the tests with `make test`, or `tests/postgres.sh run -- cargo test`")
}

/// A database of one test, dropped at the end.
pub struct TestDatabase {
    name: String,
    pub url: String,
    pub pool: PgPool,
}

impl TestDatabase {
    pub async fn create() -> Self {
        let name = format!("agentkey_test_{:016x}", random());
        let mut server = PgConnection::connect(&server_url()).await.expect("a server at DATABASE_URL");
        server.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        server.close().await.unwrap();
        let url = url_of(&name);
        let pool = PgPoolOptions::new().max_connections(10).connect(&url).await.unwrap();
        TestDatabase { name, url, pool }
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

    /// Runs SQL of any number of statements.
    pub async fn run(&self, sql: &str) {
        self.pool.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// The first column of the first row, as an integer.
    pub async fn number(&self, sql: &str) -> i64 {
        self.text(sql).await.parse().unwrap()
    }

    /// The first column of the first row, as text; empty if it is NULL.
    pub async fn text(&self, sql: &str) -> String {
        let sql = format!("SELECT (q.value)::text FROM ({sql}) AS q(value)");
        let row = self.pool.fetch_one(AssertSqlSafe(sql.clone())).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        row.get::<Option<String>, _>(0).unwrap_or_default()
    }

    /// Every row of the keys table as text: two equal snapshots mean that nothing was written.
    pub async fn snapshot(&self) -> String {
        self.text("SELECT coalesce(string_agg(k::text || k.ctid::text, E'\\n' ORDER BY k::text), '') FROM sdk_api_keys k").await
    }

    pub async fn drop(self) {
        self.pool.close().await;
        let mut server = PgConnection::connect(&server_url()).await.unwrap();
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

pub fn url_of(database: &str) -> String {
    let options: PgConnectOptions = server_url().parse().unwrap();
    let password = server_url().split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(user, _)| user.to_owned());
    let user = password.unwrap_or_else(|| options.get_username().to_owned());
    format!("postgresql://{user}@{}:{}/{database}", options.get_host(), options.get_port())
}

pub fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_ne_bytes(bytes)
}
