//! The client: the engine over an sqlx pool.

mod builder;
mod driver;
mod ledger;
mod reservations;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgPool;

use crate::engine::{Stats, Ticket};
use crate::error::Error;
use crate::key::{KeyHash, RawKey};
use crate::new_key::{CreateKey, CreatedKey, NewRow};
use crate::options::Options;
use crate::request::{AccountFilter, Credential, Outcome, Request, RevokeFilter, Usage};
use crate::scope;
use crate::spend::Charge;
use crate::verdict::{AccountId, KeyId, Verdict};
pub use builder::Builder;
use driver::Driver;
pub use driver::Sink;

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
///     Err(denial) => println!("refused: {}", denial.reason),
/// }
/// let usage = ak.track_usage(created.key.expose(), 12).await?;
/// assert!(usage.is_success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AgentKey {
    driver: Arc<Driver>,
}

/// A created key with its secret, which is returned only here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Created {
    /// The secret: hand it to its owner.
    pub key: RawKey,
    /// The key's row.
    pub id: KeyId,
    /// What it may do; `None` is everything.
    pub scopes: Option<Vec<String>>,
    /// Its budget in cents; `None` is no budget.
    pub budget_cents: Option<i64>,
    /// Its budget's period; `None` is one budget for life.
    pub budget_period: Option<String>,
    /// When it expires, by the database's clock; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Created {
    /// The same without the secret.
    pub fn row(&self) -> CreatedKey {
        CreatedKey {
            id: self.id.clone(),
            scopes: self.scopes.clone(),
            budget_cents: self.budget_cents,
            budget_period: self.budget_period.clone(),
            expires_at: self.expires_at,
        }
    }
}

impl AgentKey {
    /// Options before the first call.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client with default options and a pool of its own.
    ///
    /// # Errors
    /// `database` if the URL cannot be read or nothing answers there.
    pub async fn connect(database_url: &str) -> Result<Self, Error> {
        Self::builder().connect(database_url).await
    }

    /// Creates the table, or adds the columns and indexes that it lacks. Any number of processes may call it at once.
    /// A table that is complete is not locked.
    pub async fn migrate(&self) -> Result<(), Error> {
        match self.call(Request::Migrate).await? {
            Outcome::Migrated => Ok(()),
            other => Err(mismatch(other)),
        }
    }

    /// Creates a key.
    ///
    /// # Errors
    /// `invalid_scopes`, `invalid_budget_period`, `invalid_duration`, `invalid_budget`, `invalid_account_id`,
    /// `invalid_text`: nothing was written. `migration_required` if the table lacks a column that the key needs.
    pub async fn create(&self, spec: CreateKey) -> Result<Created, Error> {
        let options = self.options();
        let minted = options.key_prefix.mint()?;
        let row = NewRow::for_key(spec, &minted, options)?;
        match self.call(Request::Insert(Box::new(row))).await? {
            Outcome::Inserted(Some(created)) => Ok(Created {
                key: minted.raw,
                id: created.id,
                scopes: created.scopes,
                budget_cents: created.budget_cents,
                budget_period: created.budget_period,
                expires_at: created.expires_at,
            }),
            other => Err(mismatch(other)),
        }
    }

    /// Looks a key up: what it may do and what remains of its budget, or why it is refused. Only reads; that the key
    /// was used is noted in the background.
    pub async fn validate(&self, raw_key: &str) -> Result<Verdict, Error> {
        self.verdict(Credential::Key(KeyHash::of(raw_key))).await
    }

    /// The same for an external subject.
    pub async fn validate_by_subject(&self, subject: &str) -> Result<Verdict, Error> {
        self.verdict(Credential::Subject(subject.to_owned())).await
    }

    /// Records what a call cost, in cents, as a [`Cost`](crate::Cost) or as a [`Charge`], if it fits the budgets of the key and its
    /// ancestors. Concurrent charges never pass them. An expired key can still be charged: the call began before.
    ///
    /// # Errors
    /// `timeout` and `database` leave open whether the charge was recorded: repeat it with an idempotency key to be
    /// sure. `invalid_text` for an idempotency key or metadata that cannot be stored.
    pub async fn track_usage(&self, raw_key: &str, charge: impl Into<Charge>) -> Result<Usage, Error> {
        self.charge(Credential::Key(KeyHash::of(raw_key)), charge.into()).await
    }

    /// The same for an external subject.
    pub async fn track_usage_by_subject(
        &self,
        subject: &str,
        charge: impl Into<Charge>,
    ) -> Result<Usage, Error> {
        self.charge(Credential::Subject(subject.to_owned()), charge.into()).await
    }

    /// Creates, once, the row of an external identity; a second call changes nothing. Its account is the subject
    /// unless `spec` names one.
    ///
    /// # Errors
    /// As `create`, and `invalid_subject`.
    pub async fn ensure_subject(&self, subject: &str, spec: CreateKey) -> Result<(), Error> {
        let row = NewRow::for_subject(subject, spec, self.driver.options())?;
        match self.call(Request::Insert(Box::new(row))).await? {
            Outcome::Inserted(_) => Ok(()),
            other => Err(mismatch(other)),
        }
    }

    /// Revokes a key, and with it all that descend from it; whether a live key was revoked.
    pub async fn revoke(&self, id: impl Into<KeyId>) -> Result<bool, Error> {
        self.revoke_where(id, AccountFilter::Any, None).await
    }

    /// Revokes a key if it is of this account. `None` owns no key.
    pub async fn revoke_of_account(
        &self,
        id: impl Into<KeyId>,
        account: Option<impl Into<AccountId>>,
    ) -> Result<bool, Error> {
        let account = account.map(|account| account.into().to_string());
        self.revoke_where(id, AccountFilter::Only(account), None).await
    }

    /// Revokes a key if it is of this account, and if it is `within` or descends from it.
    pub async fn revoke_where(
        &self,
        id: impl Into<KeyId>,
        account: AccountFilter,
        within: Option<KeyId>,
    ) -> Result<bool, Error> {
        let within = within.map(|id| id.to_string());
        match self.call(Request::Revoke { id: id.into().to_string(), account, within }).await? {
            Outcome::Revoked(revoked) => Ok(revoked),
            other => Err(mismatch(other)),
        }
    }

    /// The panic switch: revokes every live key of an account, below a parent, or that a human authorised. How many
    /// they were; their descendants are stopped with them.
    pub async fn revoke_all(&self, filter: RevokeFilter) -> Result<u64, Error> {
        match self.call(Request::RevokeAll(filter)).await? {
            Outcome::RevokedAll(count) => Ok(count),
            other => Err(mismatch(other)),
        }
    }

    /// Those of `scopes` that this client's keys may not have.
    pub fn invalid_scopes(&self, scopes: &[String]) -> Vec<String> {
        scope::invalid_scopes(scopes, self.driver.options().valid_scopes.as_deref())
    }

    /// The pool that statements run on.
    pub fn pool(&self) -> &PgPool {
        self.driver.pool()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.driver.stats()
    }

    /// Refuses new calls, waits for those under way and for the noting of last uses. Closes the pool only if
    /// `connect` made it. Calls of all clones are affected.
    pub async fn close(&self) {
        self.driver.close().await;
    }

    /// Submits a request whose answer goes to a sink with `token`. For bindings; must be called within a tokio runtime.
    ///
    /// # Errors
    /// `overloaded`, `closed`: the sink hears nothing.
    pub fn submit(&self, request: Request, sink: Arc<dyn Sink>, token: u64) -> Result<Ticket, Error> {
        Driver::submit(&self.driver, request, sink, token)
    }

    /// Forgets a submitted request. If it is not sent yet it never will be, and its sink hears no more of it.
    pub fn cancel(&self, ticket: Ticket) {
        self.driver.cancel(ticket);
    }

    /// The options it was built with.
    pub fn options(&self) -> &Options {
        self.driver.options()
    }

    async fn verdict(&self, credential: Credential) -> Result<Verdict, Error> {
        match self.call(Request::Validate(credential)).await? {
            Outcome::Validated(verdict) => Ok(verdict),
            other => Err(mismatch(other)),
        }
    }

    async fn charge(&self, credential: Credential, charge: Charge) -> Result<Usage, Error> {
        match self.call(Request::Spend(credential, Box::new(charge.into()))).await? {
            Outcome::Charged(usage) => Ok(usage),
            other => Err(mismatch(other)),
        }
    }

    async fn call(&self, request: Request) -> Result<Outcome, Error> {
        Driver::call(&self.driver, request).await
    }
}

fn mismatch(outcome: Outcome) -> Error {
    Error::unexpected(format_args!("an answer to another request: {:?}", std::mem::discriminant(&outcome)))
}

/// How statements travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Transport {
    /// Prepared once per connection.
    #[default]
    Prepared,
    /// In an explicit transaction each, prepared for it alone: right behind a pooler in transaction mode, which may
    /// change servers between two round trips of one statement.
    Pooler,
}

/// A statement without an answer for longer than this many call timeouts is given up with its connection.
const STATEMENT_TIMEOUTS: u32 = 2;

fn statement_timeout(call_timeout: Duration) -> Duration {
    call_timeout.saturating_mul(STATEMENT_TIMEOUTS)
}
