//! A database of the bench's own, and the keys in it.

use std::time::Duration;

use agentkey::{AgentKey, CreateKey, Period};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::Result;
use crate::load::Contender;

/// More than any bench spends, in cents.
const LARGE_BUDGET: i64 = 1_000_000_000_000;

/// A database, reached through the server's socket if it is on this machine.
pub struct Database {
    name: String,
    pub server_url: String,
    /// For the client, the baseline and pgbench alike.
    pub url: String,
    by_socket: bool,
}

impl Database {
    pub async fn create() -> Result<Self> {
        let server_url = std::env::var("DATABASE_URL")
            .map_err(|_| "DATABASE_URL is not set: run `make bench`, or set it to a Postgres for tests")?;
        let name = format!("agentkey_bench_{}", std::process::id());
        let mut server = PgConnection::connect(&server_url).await?;
        server.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
        let socket = socket_url(&mut server, &url_of(&server_url, &name)).await?;
        server.close().await?;
        let by_socket = socket.is_some();
        let url = socket.unwrap_or_else(|| url_of(&server_url, &name));
        Ok(Database { name, server_url, url, by_socket })
    }

    /// Runs SQL of any number of statements.
    pub async fn run(&self, sql: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url).await?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
        Ok(connection.close().await?)
    }

    /// The only column of the only row, as text.
    pub async fn text(&self, sql: &str) -> Result<String> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let row = connection
            .fetch_one(AssertSqlSafe(format!("SELECT (q.value)::text FROM ({sql}) AS q(value)")))
            .await?;
        connection.close().await?;
        Ok(row.try_get(0)?)
    }

    /// The server and the way to it, in one line.
    pub async fn description(&self) -> Result<String> {
        let settings =
            "SELECT format('Postgres %s, fsync %s, synchronous_commit %s', current_setting('server_version'),
            current_setting('fsync'), current_setting('synchronous_commit'))";
        let way = if self.by_socket { "a Unix socket" } else { "TCP" };
        Ok(format!("{}; everything through {way}", self.text(settings).await?))
    }

    pub async fn drop(self) -> Result<()> {
        let mut server = PgConnection::connect(&self.server_url).await?;
        server.execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name))).await?;
        Ok(server.close().await?)
    }
}

/// Raw keys that are in the table.
pub struct Keys {
    pub raw: Vec<String>,
}

impl Keys {
    /// Keys as an application would make them, with a budget that is never used up.
    pub async fn create(client: &AgentKey, count: usize) -> Result<Self> {
        let mut raw = Vec::with_capacity(count);
        for _ in 0..count {
            raw.push(client.create(spec(LARGE_BUDGET)).await?.key.expose().to_owned());
        }
        Ok(Keys { raw })
    }

    /// One key with nothing left.
    pub async fn exhausted(client: &AgentKey) -> Result<Self> {
        let key = client.create(spec(1)).await?.key.expose().to_owned();
        let spent = crate::Ours(client.clone()).charge(&key).await?;
        if spent {
            Ok(Keys { raw: vec![key] })
        } else {
            Err("a budget of one cent has no room for a cent".into())
        }
    }
}

fn spec(budget_cents: i64) -> CreateKey {
    CreateKey::new("acct_bench")
        .scopes(["read", "write"])
        .budget_cents(budget_cents)
        .budget_period(Period::Month)
        .expires_in(Duration::from_secs(30 * 86_400))
        .delegated_by("alice@example.com")
}

/// The URL with another database.
fn url_of(server_url: &str, database: &str) -> String {
    let (before, query) = server_url.split_once('?').unwrap_or((server_url, ""));
    let server = match before.split_once("://") {
        Some((_, rest)) if rest.contains('/') => before.rsplit_once('/').map_or(before, |(server, _)| server),
        _ => before,
    };
    let divider = if query.is_empty() { "" } else { "?" };
    format!("{server}/{database}{divider}{query}")
}

/// The same URL through the server's Unix socket, if there is one that works.
async fn socket_url(server: &mut PgConnection, url: &str) -> Result<Option<String>> {
    let options: PgConnectOptions = url.parse()?;
    if !["127.0.0.1", "localhost", "::1"].contains(&options.get_host()) {
        return Ok(None);
    }
    let directories: String = server.fetch_one("SHOW unix_socket_directories").await?.try_get(0)?;
    for directory in directories.split(',').map(str::trim).filter(|directory| directory.starts_with('/')) {
        let divider = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{divider}host={directory}");
        if let Ok(connection) = PgConnection::connect(&url).await {
            connection.close().await?;
            return Ok(Some(url));
        }
    }
    Ok(None)
}
