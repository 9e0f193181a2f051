//! Scoped, budgeted, expiring API keys for AI agents, on your own Postgres.
//!
//! The [`Engine`] decides everything and does no I/O: it turns requests into SQL statements, coalescing concurrent
//! ones, and rows into answers. `AgentKey` (feature `sqlx`, on by default) drives it over an sqlx pool.

mod charge;
mod delegation;
mod duration;
mod engine;
mod error;
pub mod gate;
mod key;
mod ledger;
mod literal;
mod lookup;
mod migrate;
mod money;
mod new_key;
mod options;
mod period;
mod request;
mod reservation;
mod scope;
mod shape;
mod spend;
mod statement;
mod table;
mod verdict;

#[cfg(feature = "sqlx")]
mod client;

#[cfg(feature = "sqlx")]
pub use client::{AgentKey, Builder, Created, Sink};
pub use delegation::Parent;
pub use duration::seconds_until_expiry;
pub use engine::{Engine, Stats, Ticket};
pub use error::{Error, ErrorCode};
pub use key::{KeyHash, KeyPrefix, MintedKey, RawKey};
pub use ledger::{Discrepancy, Event, EventFilter, UsageFilter, UsageOfPeriod};
pub use literal::parse_row;
pub use money::{Balance, Cost, MAX_CENTS, MICROCENTS_PER_CENT, Rounding};
pub use new_key::{CreateKey, CreatedKey, NewRow};
pub use options::{Align, Options};
pub use period::{AcceptedPeriods, Period};
pub use request::{
    AccountFilter, Answer, ChargeRefusal, Credential, Outcome, Recorded, Request, RevokeFilter, Usage,
};
pub use reservation::{
    Extended, Finish, FinishRefusal, RefusedReserve, Released, Reservation, ReservationId, ReserveRefusal,
    Reserved, Settled, Settlement,
};
pub use scope::{ADMIN, has_scope, invalid_scopes};
pub use spend::{Charge, Overrun, Reserve, Spend, SpendKind};
pub use statement::{Fault, Statement, StatementId, StatementKind};
pub use table::TableName;
pub use verdict::{AccountId, Denial, DenialReason, Grant, KeyId, Limit, Verdict};
