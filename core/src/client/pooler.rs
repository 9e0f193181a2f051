//! Whether a pooler is between client and database: it may give each round trip to another server connection.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, Row};
use tokio::sync::Mutex;

use super::home::Home;
use super::transport::sqlstate_of;

/// A connection that is opened to find out may take so long.
const LIMIT: Duration = Duration::from_secs(2);
/// A statement waits so long for it. Then it goes on as if there were one.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two attempts to find out.
const PAUSE: Duration = Duration::from_secs(2);
/// A setting that nobody else uses, of one session.
const MARK: &str = "agentkey.session";

pub(super) struct PoolerCheck {
    /// What the application says, or the first attempt showed.
    is_there: Arc<OnceLock<bool>>,
    /// When the last attempt was in vain. Locked during one.
    failed_at: Arc<Mutex<Option<Instant>>>,
}

impl PoolerCheck {
    pub(super) fn new(said: Option<bool>) -> Self {
        let is_there = said.map_or_else(OnceLock::new, OnceLock::from);
        PoolerCheck { is_there: Arc::new(is_there), failed_at: Arc::default() }
    }

    /// Whether statements must travel as through a pooler. While it is not known they do: that is right everywhere, and
    /// only slower. An attempt to find out is a task of its own, for it may take longer than a caller would wait.
    pub(super) async fn is_needed(
        &self,
        home: &Home,
        options: impl FnOnce() -> Arc<PgConnectOptions>,
    ) -> bool {
        if let Some(is_there) = self.is_there.get() {
            return *is_there;
        }
        let Ok(mut failed_at) = Arc::clone(&self.failed_at).try_lock_owned() else { return true };
        if failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return true;
        }
        let (options, is_there) = (options(), Arc::clone(&self.is_there));
        let attempt = home.spawn(async move {
            match find_out(&options).await {
                Some(found) => drop(is_there.set(found)),
                None => *failed_at = Some(Instant::now()),
            }
        });
        drop(tokio::time::timeout(PATIENCE, attempt).await);
        self.is_there.get().copied().unwrap_or(true)
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
