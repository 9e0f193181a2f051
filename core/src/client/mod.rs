//! The client: the engine over an sqlx pool.

mod alarms;
mod builder;
mod callers;
mod calls;
mod connect;
mod driver;
mod dsn;
#[cfg(feature = "tower")]
mod ends;
mod home;
mod increases;
mod kept;
mod pooler;
mod report;
mod running;
mod traces;
mod transport;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgPool;

pub use self::builder::Builder;
use self::driver::Driver;
#[cfg(feature = "tower")]
pub(crate) use self::ends::{EndTicket, Ends, OpenRequest};
use crate::engine::{Answer, Options, Request, Sink, Stats, Ticket};
use crate::error::Error;

/// Keys on a Postgres table. Cheap to clone; clones share the pool and coalesce their calls.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use agentkey::{AgentKey, CreateKey, Period};
///
/// let ak = AgentKey::connect(&std::env::var("DATABASE_URL")?).await?;
/// ak.migrate().await?;
/// let created = ak.create(CreateKey::new("acct_1").budget_cents(500).budget_period(Period::Day)).await?;
///
/// match ak.validate(created.key.expose()).await? {
///     Ok(grant) => println!("{:?} cents remain", grant.budget_remaining_cents),
///     Err(denial) => println!("{denial}"),
/// }
/// let charged = ak.track_usage(created.key.expose(), 12).await??;
/// assert_eq!(charged.budget_remaining_cents(), Some(488));
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Statements run in tasks of their own, so that dropping a call's future harms no other call. What it means for the
/// call itself depends on how far it was: a request that was not sent yet never will be; one that was sent takes effect
/// as if somebody still waited for it. A charge that must not be recorded twice needs an idempotency key when it is
/// repeated, and a reserve whose future was dropped gives its amount back when its time is over.
#[derive(Clone)]
pub struct AgentKey {
    driver: Arc<Driver>,
    #[cfg(feature = "tower")]
    ends: Arc<Ends>,
}

impl std::fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentKey")
            .field("table", &self.options().table.quoted())
            .field("pending", &self.driver.stats().pending)
            .finish_non_exhaustive()
    }
}

impl AgentKey {
    /// Options before the first call.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client with default options and a pool of its own. See [`Builder::database_url`] for what a URL may be.
    ///
    /// # Errors
    /// `invalid_dsn` if the URL cannot be read, `database` if nothing answers there. No message holds a secret.
    pub async fn connect(database_url: &str) -> Result<Self, Error> {
        Self::builder().connect(database_url).await
    }

    /// The pool that statements run on.
    pub fn pool(&self) -> &PgPool {
        self.driver.connector().pool()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.driver.stats()
    }

    /// The options it was built with.
    pub fn options(&self) -> &Options {
        self.driver.options()
    }

    /// Refuses new calls, waits for those under way and for the noting of last uses. Closes the pool only if
    /// `connect` made it. Calls of all clones are affected.
    ///
    /// With the feature `tower` it first waits for requests that were admitted, and for what they cost to be recorded, up
    /// to `Builder::close_timeout`. What has not ended by then is logged and told to `Builder::on_error`.
    pub async fn close(&self) {
        #[cfg(feature = "tower")]
        self.ends.wait().await;
        self.driver.close().await;
        #[cfg(feature = "tower")]
        self.ends.wait_for_reports().await;
    }

    #[cfg(feature = "tower")]
    pub(crate) fn ends(&self) -> &Arc<Ends> {
        &self.ends
    }

    /// Where tasks of doors run.
    #[cfg(feature = "tower")]
    pub(crate) fn runtime(&self) -> Option<tokio::runtime::Handle> {
        self.driver.home.runtime()
    }

    /// Makes any request. For bindings and doors; the other methods are the same with types.
    ///
    /// # Errors
    /// Those of the request.
    pub async fn call(&self, request: Request) -> Result<Answer, Error> {
        Driver::call(&self.driver, request).await
    }

    /// Submits a request whose answer goes to a sink with `token`. For bindings; must be called within a tokio runtime.
    ///
    /// # Errors
    /// `overloaded`, `closed`, and the errors of bad input: the sink hears nothing.
    pub fn submit(&self, request: Request, sink: Arc<dyn Sink>, token: u64) -> Result<Ticket, Error> {
        Driver::submit(&self.driver, request, sink, token)
    }

    /// Forgets a submitted request. If it is not sent yet it never will be, and its sink hears no more of it.
    pub fn cancel(&self, ticket: Ticket) {
        self.driver.cancel(ticket);
    }
}

/// A statement without an answer for longer than this many call timeouts is given up with its connection.
const STATEMENT_TIMEOUTS: u32 = 2;

fn statement_timeout(call_timeout: Duration) -> Duration {
    call_timeout.saturating_mul(STATEMENT_TIMEOUTS)
}
