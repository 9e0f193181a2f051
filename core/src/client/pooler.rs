//! Whether a pooler is between client and database: it may give each round trip to another server connection.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, Row};
use tokio::sync::Mutex;

use super::transport::sqlstate_of;

/// A connection that is opened to find out may take so long.
const LIMIT: Duration = Duration::from_secs(2);
/// Between two attempts to find out.
const PAUSE: Duration = Duration::from_secs(2);
/// A setting that nobody else uses, of one session.
const MARK: &str = "agentkey.session";

pub(super) struct PoolerCheck {
    /// What the application says, or the first attempt showed.
    is_there: OnceLock<bool>,
    /// When the last attempt was in vain. Locked during one.
    failed_at: Mutex<Option<Instant>>,
}

impl PoolerCheck {
    pub(super) fn new(said: Option<bool>) -> Self {
        let is_there = said.map_or_else(OnceLock::new, OnceLock::from);
        PoolerCheck { is_there, failed_at: Mutex::new(None) }
    }

    /// Whether statements must travel as through a pooler. While it is not known they do: that is right everywhere, and
    /// only slower.
    pub(super) async fn is_needed(&self, options: impl FnOnce() -> Arc<PgConnectOptions>) -> bool {
        if let Some(is_there) = self.is_there.get() {
            return *is_there;
        }
        let Ok(mut failed_at) = self.failed_at.try_lock() else { return true };
        if failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return true;
        }
        match find_out(&options()).await {
            Some(is_there) => *self.is_there.get_or_init(|| is_there),
            None => {
                *failed_at = Some(Instant::now());
                true
            }
        }
    }
}

/// A server sets what a client asks for when it connects. A pooler, which connects on its own account, refuses that or
/// leaves it out. `None`: no connection was to be had.
async fn find_out(options: &PgConnectOptions) -> Option<bool> {
    let mark = crate::random::uuid().ok()?;
    let options = options.clone().options([(MARK, mark.as_str())]);
    let mut connection = match tokio::time::timeout(LIMIT, options.connect()).await.ok()? {
        Ok(connection) => connection,
        // protocol_violation, feature_not_supported: of the setting.
        Err(error) => {
            let sqlstate = sqlstate_of(&error);
            return matches!(sqlstate.as_deref(), Some("08P01" | "0A000")).then_some(true);
        }
    };
    // In one round trip, whoever serves it.
    let statement = sqlx::raw_sql("SELECT current_setting('agentkey.session', true)");
    let row = tokio::time::timeout(LIMIT, connection.fetch_one(statement)).await.ok()?.ok()?;
    let set: Option<String> = row.try_get(0).ok()?;
    drop(tokio::time::timeout(LIMIT, connection.close()).await);
    Some(set != Some(mark))
}
