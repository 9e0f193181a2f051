//! What the engine asks a driver to run, and what a driver hands back.

use std::sync::Arc;

/// Names a statement between `poll` and `receive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatementId(pub u64);

/// What a statement does. Drivers need not look at it; a model database and logs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StatementKind {
    /// The columns of the keys table.
    Catalogue,
    /// A look-up of one key, as its row stands. A key that needs more is decided by `Validate`.
    ValidateOne,
    /// The same for several keys.
    ValidateMany,
    /// A batch of look-ups, whatever they need.
    Validate,
    /// A charge in the common case; no row means that `ChargeBatch` decides.
    ChargeOne,
    /// The same for several charges.
    ChargeMany,
    /// A batch of charges.
    ChargeBatch,
    /// Charges on keys and their ancestors in the common case; what has no row is decided by `Spend`.
    ChargeTree,
    /// Charges and reserves in all their forms.
    Spend,
    /// Ends of reservations.
    Settle,
    /// A list of reservations whose time is over.
    ExpiredReservations,
    /// A look-up of a new key's parent.
    Parent,
    /// `last_used_at` of some keys.
    Touch,
    /// A new key or subject.
    Insert,
    /// A revocation.
    Revoke,
    /// Revocations of many keys.
    RevokeAll,
    /// Ledger entries.
    Events,
    /// What was spent, by period.
    Usage,
    /// A check of the ledger.
    VerifyLedger,
    /// The deletion of old ledger entries.
    PruneEvents,
    /// One migration.
    Migrate,
}

/// One statement: one round trip, one implicit transaction.
///
/// Every parameter is text (the SQL casts it). Every row of the answer is one text column, to be handed back as it is.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Names the statement to [`Engine::receive`](crate::Engine::receive).
    pub id: StatementId,
    /// What it does.
    pub kind: StatementKind,
    /// SQL with `$1`, `$2`, ...
    pub sql: Arc<str>,
    /// The parameters; `None` is NULL. Hashes and amounts, never a raw key.
    pub params: Vec<Option<String>>,
}

/// Why a statement has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The SQLSTATE, where the database sent one: then the statement certainly had no effect.
    pub sqlstate: Option<String>,
    /// For people. Callers that can should also hand on the driver's own error.
    pub message: String,
}
