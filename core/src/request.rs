//! What callers ask of the engine, and what it answers.

use serde::Serialize;

use crate::error::Error;
use crate::key::KeyHash;
use crate::ledger::{Discrepancy, Event, EventFilter, UsageFilter, UsageOfPeriod};
use crate::money::{Balance, Cost};
use crate::new_key::{CreatedKey, NewRow};
use crate::reservation::{Extended, Finish, Released, ReservationId, Reserved, Settled};
use crate::spend::Spend;
use crate::verdict::Verdict;

/// An index row holds about 2,700 bytes: longer identities cannot be looked up.
pub(crate) const MAX_INDEXED_BYTES: usize = 2_000;

/// What names a row: the hash of a raw key, or an external subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The hash of a raw key.
    Key(KeyHash),
    /// The identity that `ensure_subject` was given.
    Subject(String),
}

/// Whose key a revocation may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountFilter {
    /// Anybody's.
    Any,
    /// That of one account. An account that is `None` owns no key, also none whose `account_id` is NULL.
    Only(Option<String>),
}

/// Which keys a panic switch revokes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokeFilter {
    /// All of an account.
    Account(String),
    /// All that descend from a key.
    Parent(String),
    /// All that a human authorised.
    DelegatedBy(String),
}

/// A request to the engine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Request {
    /// Looks a key up.
    Validate(Credential),
    /// Records spend.
    Charge(Credential, Cost),
    /// Records spend or reserves it, with all that can be asked of it.
    Spend(Credential, Box<Spend>),
    /// Settles, releases or extends a reservation.
    Finish(ReservationId, Finish),
    /// Gives back what reservations hold whose time is over.
    Sweep,
    /// Inserts a key or subject.
    Insert(Box<NewRow>),
    /// Revokes a key.
    Revoke {
        /// The key's id, as text.
        id: String,
        /// Whose key it may be.
        account: AccountFilter,
        /// The key that it must be or descend from.
        within: Option<String>,
    },
    /// Revokes many keys.
    RevokeAll(RevokeFilter),
    /// Reads the ledger.
    Events(EventFilter),
    /// Reads what was spent, by day.
    Usage(UsageFilter),
    /// Checks the ledger of a key, or of all.
    VerifyLedger(Option<String>),
    /// Deletes ledger entries that are older than so many seconds.
    PruneEvents(u64),
    /// Creates the table, or adds what it lacks.
    Migrate,
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Usage {
    /// It is recorded.
    Recorded(Recorded),
    /// It cost nothing: there was nothing to record.
    Free,
    /// It is refused: nothing was recorded.
    Refused(ChargeRefusal),
}

/// A charge that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The key's budget after this charge.
    pub balance: Balance,
    /// Whether it was recorded earlier, under the same idempotency key. The balance is that of then.
    pub replayed: bool,
}

impl Recorded {
    /// What was used in this period, in cents, with this charge; a started cent counts.
    pub fn budget_used_cents(&self) -> i64 {
        self.balance.used_cents()
    }

    /// What remains, in cents; `None` without a budget.
    pub fn budget_remaining_cents(&self) -> Option<i64> {
        self.balance.remaining_cents()
    }
}

impl Usage {
    /// Whether the call may go on.
    pub fn is_success(&self) -> bool {
        !matches!(self, Usage::Refused(_))
    }

    /// The charge, if it is recorded.
    pub fn recorded(&self) -> Option<Recorded> {
        match self {
            Usage::Recorded(recorded) => Some(*recorded),
            Usage::Free | Usage::Refused(_) => None,
        }
    }
}

/// Why a charge is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChargeRefusal {
    /// The cost is not a number, or infinite.
    InvalidCost,
    /// There is no such key, or it or an ancestor was revoked.
    InvalidKey,
    /// It does not fit the budget of the key or an ancestor, or is more than the table can hold.
    BudgetExceeded,
    /// The idempotency key was used for another amount, or for a reservation.
    IdempotencyConflict,
}

impl ChargeRefusal {
    /// Every refusal.
    pub const ALL: &'static [ChargeRefusal] = &[
        ChargeRefusal::InvalidCost,
        ChargeRefusal::InvalidKey,
        ChargeRefusal::BudgetExceeded,
        ChargeRefusal::IdempotencyConflict,
    ];

    /// The refusal's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ChargeRefusal::InvalidCost => "invalid_cost",
            ChargeRefusal::InvalidKey => "invalid_key",
            ChargeRefusal::BudgetExceeded => "budget_exceeded",
            ChargeRefusal::IdempotencyConflict => "idempotency_conflict",
        }
    }
}

impl std::fmt::Display for ChargeRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the engine answers, one kind for each kind of request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// To `Validate`.
    Validated(Verdict),
    /// To `Charge`, and to `Spend` of a charge.
    Charged(Usage),
    /// To `Spend` of a reservation.
    Reserved(Reserved),
    /// To `Finish` by settling.
    Settled(Settled),
    /// To `Finish` by releasing.
    Released(Released),
    /// To `Finish` by extending.
    Extended(Extended),
    /// To `Sweep`: how many reservations ended by it.
    Swept(u64),
    /// To `Insert`; `None` if the subject has its row already.
    Inserted(Option<CreatedKey>),
    /// To `Revoke`: whether a live key was revoked.
    Revoked(bool),
    /// To `RevokeAll`: how many live keys were revoked.
    RevokedAll(u64),
    /// To `Events`.
    Events(Vec<Event>),
    /// To `Usage`.
    Usage(Vec<UsageOfPeriod>),
    /// To `VerifyLedger`: what does not add up.
    Verified(Vec<Discrepancy>),
    /// To `PruneEvents`: how many were deleted.
    Pruned(u64),
    /// To `Migrate`.
    Migrated,
}

/// An outcome, or what prevented one.
pub type Answer = Result<Outcome, Error>;
