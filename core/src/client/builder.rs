//! Options of the client.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::AgentKey;
use super::connect::{Connector, Password};
use super::driver::Driver;
use super::dsn::{self, Servers};
#[cfg(feature = "tower")]
use super::ends::Ends;
use super::home::Home;
use super::kept::Kept;
use super::pooler::PoolerCheck;
use super::report::{OnError, Reporter};
use crate::duration;
use crate::engine::{AcceptedPeriods, Align, KeyFormat, KeyPrefix, Options, Rounding, TableName, Thresholds};
use crate::error::{Error, ErrorCode};

/// Connections of a pool of our own. Calls share statements, so few are needed.
const POOL_SIZE: u32 = 10;
/// A connection that rested for longer is asked whether it still lives before it is used.
const IDLE_BEFORE_PING: Duration = Duration::from_secs(1);

/// Options of an [`AgentKey`]; every one has a default.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    table_name: Option<String>,
    key_prefix: Option<String>,
    thresholds: Vec<f64>,
    options: Options,
    is_behind_pooler: Option<bool>,
    pool_size: Option<u32>,
    servers: Servers,
    password: Option<Password>,
    #[cfg(feature = "tower")]
    close_timeout: Option<Duration>,
    on_error: Option<OnError>,
}

impl Builder {
    /// The keys table: `table` or `schema.table`, in double quotes where a part needs them. Default `sdk_api_keys`.
    pub fn table_name(mut self, name: impl Into<String>) -> Self {
        self.table_name = Some(name.into());
        self
    }

    /// What new keys start with. Default `ak_`.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = Some(prefix.into());
        self
    }

    /// The scopes that new keys may have. Default any.
    pub fn valid_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.options.valid_scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// What new keys look like: with [`KeyFormat::Checksum`] scanners know one when they see it, and a mistyped one costs no
    /// query. Keys of either form always work. Default [`KeyFormat::Plain`].
    pub fn key_format(mut self, format: KeyFormat) -> Self {
        self.options.key_format = format;
        self
    }

    /// How long keys live that are created without a lifetime; of a child the parent's end comes first. Default for ever.
    pub fn default_expires_in(mut self, lifetime: Duration) -> Self {
        self.options.default_expires_in = Some(lifetime);
        self
    }

    /// Whether a scope such as `files:*` grants all that begins with `files:`. All clients of a table should agree. Default
    /// false: it is a scope as any other.
    pub fn wildcards(mut self, are_meant: bool) -> Self {
        self.options.wildcards = are_meant;
        self
    }

    /// The budget periods that new keys may have. Default all.
    pub fn accepted_periods(mut self, periods: AcceptedPeriods) -> Self {
        self.options.accepted_periods = periods;
        self
    }

    /// Where budget periods of new keys begin: at their creation, which is the default, or with the calendar in UTC.
    pub fn align(mut self, align: Align) -> Self {
        self.options.align = align;
        self
    }

    /// How long a call may take, waiting included. Default 10 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// How long `settle` and `release` are repeated through faults, a database that is restarted included. Never shorter
    /// than the timeout. Default 60 seconds.
    pub fn settle_timeout(mut self, timeout: Duration) -> Self {
        self.options.settle_timeout = timeout;
        self
    }

    /// How many calls may wait at once; more are refused with `overloaded`. Default 100,000.
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.options.max_waiting = calls;
        self
    }

    /// Writes every charge and reservation into the ledger, not only those with an idempotency key. All clients of a
    /// table should agree. Costs throughput: an entry is a row. Default false.
    pub fn ledger(mut self, whole: bool) -> Self {
        self.options.ledger = whole;
        self
    }

    /// The shares of a budget at which an alarm is written into the ledger, such as `[0.5, 0.8, 1.0]`: once for each key,
    /// budget, period and threshold, in the statement that crosses it. All clients of a table should agree. Default none.
    pub fn thresholds(mut self, shares: impl IntoIterator<Item = f64>) -> Self {
        self.thresholds = shares.into_iter().collect();
        self
    }

    /// Raises an alarm this many seconds before a key expires, once for each key and expiry. It is raised by whoever reads
    /// alarms ([`AgentKey::follow`], [`AgentKey::deliver`], the cursor). Default none.
    pub fn expiry_notice_seconds(mut self, seconds: u32) -> Self {
        self.options.expiry_notice_seconds = Some(seconds);
        self
    }

    /// Raises an alarm when a reservation is still open after this many seconds, once for each; as
    /// [`Builder::expiry_notice_seconds`] does. Default none.
    pub fn stale_hold_seconds(mut self, seconds: u32) -> Self {
        self.options.stale_hold_seconds = Some(seconds);
        self
    }

    /// How costs with a fraction of a cent are meant. [`Cost`](crate::Cost)s are exact in any case; this is for bindings,
    /// which read numbers of cents. Default rounded up.
    pub fn rounding(mut self, rounding: Rounding) -> Self {
        self.options.rounding = rounding;
        self
    }

    /// The most that one charge, reserve or settle may cost, in cents: more is an `invalid_cost`. Default no limit.
    pub fn max_cost_cents(mut self, cents: i64) -> Self {
        self.options.max_cost_cents = Some(cents);
        self
    }

    /// `last_used_at` is written at most once per key and this many seconds; `None`: never. Default 60.
    pub fn touch_interval_seconds(mut self, seconds: impl Into<Option<u32>>) -> Self {
        self.options.touch_interval_seconds = seconds.into();
        self
    }

    /// So many rows of keys are remembered (about 300 bytes each): look-ups of several keys then ask the database only which
    /// of them changed. 0 is none. Default 10,000.
    pub fn remembered_keys(mut self, keys: usize) -> Self {
        self.options.remembered_keys = keys;
        self
    }

    /// How long `close` waits for requests that [`tower`](crate::tower) let pass, and for what they cost to be recorded.
    /// Default 10 seconds.
    #[cfg(feature = "tower")]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = Some(timeout);
        self
    }

    /// Gets each message about a fault that nobody waits for: what a request cost could not be recorded, `last_used_at` could
    /// not be written. With the feature `tracing` it is logged before. It is called from a task of the client: it must not
    /// block.
    pub fn on_error(mut self, on_error: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_error = Some(OnError(Arc::new(on_error)));
        self
    }

    /// Connections of the pool that `connect` makes. Default 10.
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.pool_size = Some(connections);
        self
    }

    /// Whether a pooler in transaction mode (PgBouncer, Supavisor) is between client and database. Behind
    /// one, each statement costs two more round trips: otherwise the pooler may change servers within a statement. By default
    /// the client finds out before its first statement, with one more connection. With `false` **results are
    /// silently wrong** behind a pooler in transaction mode; it is right for one in session mode.
    pub fn pooler(mut self, is_there: bool) -> Self {
        self.is_behind_pooler = Some(is_there);
        self
    }

    /// A client on the caller's pool, which `close` leaves open. Its statements run on the tokio runtimes of its callers: use
    /// such a client within the runtime that the pool belongs to.
    ///
    /// # Errors
    /// `invalid_table_name`, `invalid_key_prefix`, `invalid_duration`, `invalid_budget` (thresholds).
    pub fn pool(self, pool: PgPool) -> Result<AgentKey, Error> {
        let home = Arc::new(Home::Callers);
        self.build(Connector::new(&home, pool, Kept::none(), Vec::new(), None), false, home)
    }

    /// Answers the password of each connection that `connect` or `connect_lazy` opens, for servers whose passwords change
    /// (tokens of RDS or Cloud SQL). It must not wait: whoever has to fetch a password keeps one at hand.
    pub fn password(mut self, password: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.password = Some(Password(Arc::new(password)));
        self
    }

    /// Where `connect_lazy` connects to:
    ///
    /// | form | |
    /// |---|---|
    /// | `postgresql://user:password@host:port/database?sslmode=require` | also `postgres://` and, as SQLAlchemy writes it, `postgresql+asyncpg://` |
    /// | `host=... port=... dbname=... user=... password='...'` | as libpq writes it |
    /// | `[::1]:5432`, `?host=/run/postgresql`, `host1:5432,host2:5432` | IPv6, sockets, several servers: the first that takes writes is used |
    ///
    /// Parameters are `sslmode`, `sslrootcert` (a file, or `system`), `sslcert`, `sslkey`, `application_name`,
    /// `options`; others of libpq that change nothing here are ignored, unknown ones are refused. What is not said is as
    /// `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGSSLMODE` and the password file say.
    ///
    /// # Errors
    /// `invalid_dsn`. It repeats no value.
    pub fn database_url(mut self, url: &str) -> Result<Self, Error> {
        self.servers = dsn::read(url)?;
        Ok(self)
    }

    /// A client with a pool of its own. Its calls may come from any tokio runtime: its statements run in the one that it
    /// was made in, or on a thread of their own if that is a current-thread runtime or has shut down.
    ///
    /// # Errors
    /// As `database_url` and `pool`, and `database` if nothing answers there.
    pub async fn connect(self, database_url: &str) -> Result<AgentKey, Error> {
        // Bad options are refused before anything is connected to.
        let home = Arc::new(Home::of_client()?);
        let builder = self.database_url(database_url)?;
        let connector = {
            let _guard = home.enter();
            builder.connector(&home)
        };
        let ak = builder.build(connector, true, home)?;
        let driver = Arc::clone(&ak.driver);
        let connected = ak.driver.spawn(async move { driver.connector().acquire().await.map(drop) });
        let is_over = |_| Error::new(ErrorCode::Closed, "the client stopped");
        connected.await.map_err(is_over)?.map_err(|fault| fault.error())?;
        Ok(ak)
    }

    /// A client with a pool of its own, which connects when the first call needs it: to `database_url`, or to where
    /// the environment says. Must be called within a tokio runtime, and its calls, too: in the same one, as connections end with
    /// the runtime that opened them. A client of `connect` may be used from any.
    ///
    /// # Errors
    /// As `pool`.
    pub fn connect_lazy(self) -> Result<AgentKey, Error> {
        let home = Arc::new(Home::Callers);
        let connector = self.connector(&home);
        self.build(connector, true, home)
    }

    fn connector(&self, home: &Arc<Home>) -> Connector {
        let first = self.servers.0.first().cloned().unwrap_or_default();
        let pool = self.pool_options().connect_lazy_with(first);
        let kept = Kept::of_pool(pool.options().get_max_connections());
        Connector::new(home, pool, kept, self.servers.0.clone(), self.password.clone())
    }

    fn pool_options(&self) -> PgPoolOptions {
        PgPoolOptions::new()
            .max_connections(self.pool_size.unwrap_or(POOL_SIZE))
            .acquire_timeout(self.options.timeout)
            // A ping before each use would double the round trips; none at all would fail the first calls after a
            // restart of the database.
            .test_before_acquire(false)
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    if state.idle_for > IDLE_BEFORE_PING {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
    }

    fn build(self, connector: Connector, owns_pool: bool, home: Arc<Home>) -> Result<AgentKey, Error> {
        let mut options = self.options;
        if let Some(name) = &self.table_name {
            options.table = TableName::new(name)?;
        }
        if let Some(prefix) = &self.key_prefix {
            options.key_prefix = KeyPrefix::new(prefix)?;
        }
        options.thresholds = Thresholds::new(self.thresholds)?;
        let notices = [
            ("expiry_notice_seconds", options.expiry_notice_seconds),
            ("stale_hold_seconds", options.stale_hold_seconds),
        ];
        for (name, seconds) in notices {
            if seconds == Some(0) {
                let message = format!("Invalid {name}: 0; give a number of seconds, at least 1");
                return Err(Error::new(ErrorCode::InvalidDuration, message));
            }
        }
        if let Some(lifetime) = options.default_expires_in {
            duration::check(lifetime)?;
        }
        options.seed = u64::from_ne_bytes(crate::random::bytes()?);
        let pooler = PoolerCheck::new(self.is_behind_pooler);
        let reporter = Reporter(self.on_error);
        Ok(AgentKey {
            #[cfg(feature = "tower")]
            ends: Arc::new(Ends::new(self.close_timeout, reporter.clone())),
            driver: Driver::new(options, connector, owns_pool, pooler, home, reporter),
        })
    }
}
