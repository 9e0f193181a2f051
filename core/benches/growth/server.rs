//! The server: its settings, which need a restart, and its counters.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio::process::Command;

use crate::database::Database;
use crate::{Bench, Result};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/postgres.sh");

pub struct Server {
    /// Where the server is, if it was started for us: only then its settings are ours to change.
    directory: Option<PathBuf>,
    url: String,
}

#[derive(Debug)]
pub struct Counters {
    wal_bytes: i64,
    full_pages: i64,
    blocks_read: i64,
}

/// What a call cost the server, on average.
#[derive(Debug)]
pub struct Costs {
    pub wal_bytes: f64,
    pub full_pages: f64,
    pub blocks_read: f64,
}

impl Server {
    pub async fn of(database: &Database) -> Result<Self> {
        let directory = std::env::var_os("AGENTKEY_PG_RUN").map(PathBuf::from);
        let port = directory.as_ref().and_then(|at| std::fs::read_to_string(at.join("port")).ok());
        let is_ours = port.is_some_and(|port| database.server_url.contains(&format!(":{}/", port.trim())));
        Ok(Server { directory: directory.filter(|_| is_ours), url: database.server_url.clone() })
    }

    /// Starts the server with other settings. Whether they could be changed.
    pub async fn restart_with(&self, settings: &[(&str, &str)]) -> Result<bool> {
        let Some(directory) = &self.directory else { return Ok(false) };
        let mut connection = PgConnection::connect(&self.url).await?;
        connection.execute("ALTER SYSTEM RESET ALL").await?;
        for (name, value) in settings {
            connection.execute(AssertSqlSafe(format!("ALTER SYSTEM SET {name} = '{value}'"))).await?;
        }
        connection.close().await?;
        let output = Command::new(SCRIPT).arg("restart").arg(directory).output().await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("the server did not start with {settings:?}: {said}").into());
        }
        Ok(true)
    }

    pub async fn reset(&self) -> Result<()> {
        self.restart_with(&[]).await.map(drop)
    }

    pub async fn counters(bench: &Bench) -> Result<Counters> {
        let mut connection = PgConnection::connect(&bench.database.url).await?;
        let counters =
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, (SELECT wal_fpi FROM pg_stat_wal),
            (SELECT blks_read FROM pg_stat_database WHERE datname = current_database())";
        let row = connection.fetch_one(counters).await?;
        connection.close().await?;
        Ok(Counters { wal_bytes: row.try_get(0)?, full_pages: row.try_get(1)?, blocks_read: row.try_get(2)? })
    }

    /// Until nobody else is connected to the database.
    pub async fn wait_for_backends(bench: &Bench) -> Result<()> {
        let others = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        for _ in 0..500 {
            if bench.database.text(others).await? == "0" {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("a client is still connected".into())
    }
}

impl Counters {
    pub fn since(&self, before: &Counters, calls: u64) -> Costs {
        let each = |after: i64, before: i64| (after - before) as f64 / calls.max(1) as f64;
        Costs {
            wal_bytes: each(self.wal_bytes, before.wal_bytes),
            full_pages: each(self.full_pages, before.full_pages),
            blocks_read: each(self.blocks_read, before.blocks_read),
        }
    }
}
