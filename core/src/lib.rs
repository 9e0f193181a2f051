//! Scoped, budgeted, expiring API keys for AI agents, on your own Postgres.

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod budget;
#[cfg(feature = "sqlx")]
mod client;
mod duration;
pub mod engine;
mod error;
pub mod http;
mod id;
mod key;
mod random;
mod table;

pub use budget::charge::{Charge, ChargeRefusal, Charged, Overrun};
pub use budget::ledger::{EventFilter, UsageFilter};
pub use budget::money::Cost;
pub use budget::period::Period;
pub use budget::reservation::{ReservationId, ReservationRefusal, Reserve, Settlement};
#[cfg(feature = "sqlx")]
pub use client::{AgentKey, Builder};
pub use engine::{Reservation, ReserveRefusal, RevokeFilter};
pub use error::{Error, ErrorCode};
pub use id::{AccountId, KeyId};
pub use key::grant::{Denial, DenialReason, Grant};
pub use key::new_key::{CreateKey, Created};
pub use key::raw::RawKey;
