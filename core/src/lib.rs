//! Scoped, budgeted, expiring API keys for AI agents, on your own Postgres.
//!
//! An agent with an API key can burn a month's budget in a loop before anyone looks. agentkey gives each key a spend cap
//! that parallel calls cannot race past, scopes, an expiry, and a record of the human who authorised it. It is a few
//! columns on your existing keys table and a small API.
//!
//! ```no_run
//! use agentkey::{AgentKey, CreateKey, Period};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let ak = AgentKey::connect("postgresql://localhost/app").await?;
//! ak.migrate().await?; // adds what your keys table lacks, or creates it
//!
//! let created = ak
//!     .create(CreateKey::new("acct_1").scopes(["search"]).budget_cents(500).budget_period(Period::Day))
//!     .await?;
//! let key = created.key.expose(); // shown once, stored nowhere
//!
//! // Hold what a call may cost, make the call, record what it did cost. A refusal is an error of the second `?`.
//! let held = ak.reserve(key, 60).await??;
//! let settled = ak.settle(&held.id, 12).await??;
//! assert_eq!(settled.balance.remaining_cents(), Some(488));
//! # Ok(())
//! # }
//! ```
//!
//! - [`AgentKey`] has every call. Its text says what happens to a call whose future is dropped.
//! - A call that was made answers `Ok(Ok(..))`, or `Ok(Err(refusal))` with the reason: an exceeded budget, a revoked key.
//!   `Err` is a fault: [`Error`] says whether the call may have been recorded, and whether it is worth another try.
//! - Money is integers: cents in the API, micro-cents underneath. Time is the database's, in UTC.
//! - `agentkey::tower` (feature `tower`) guards axum and other HTTP services: it holds what a request may cost, and records
//!   what it did cost.
//! - [`engine`] is the same without I/O, for drivers of other Postgres clients and for bindings; [`http`] the policy of
//!   middlewares and routes as plain data.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `sqlx` (default) | [`AgentKey`], on an sqlx pool and tokio. Without it the crate does no I/O |
//! | `tower` | a layer for every tower service, and the routes as one |
//! | `axum` | the same, with extractors and a router for axum |
//! | `tls` (default) | TLS to the database, by rustls |
//! | `tracing` | spans of calls and statements, and events, for subscribers of `tracing` |
//! | `cli` | the command line `agentkey`, and [`cli`] |
//!
//! # Versions
//!
//! Types of these crates are in the API. Those with a link are re-exported, so that yours and ours are the same.
//!
//! | agentkey | [`sqlx`] | [`chrono`] | axum | http, http-body | tower-layer, tower-service | Rust |
//! |---|---|---|---|---|---|---|
//! | 0.1 | 0.9 | 0.4 | 0.8 | 1 | 0.3 | 1.94 with `sqlx`, 1.88 without |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod budget;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "sqlx")]
mod client;
mod duration;
pub mod engine;
mod error;
pub mod http;
mod id;
mod key;
mod metadata;
mod random;
mod table;
mod time;
#[cfg(feature = "tower")]
pub mod tower;

pub use budget::charge::{Charge, ChargeRefusal, Charged, Overrun};
pub use budget::ledger::{EventFilter, UsageFilter};
pub use budget::limit::KeyLimit;
pub use budget::money::Cost;
pub use budget::period::Period;
pub use budget::reservation::{IfExpired, ReservationId, ReservationRefusal, Reserve, Settlement};
pub use chrono;
#[cfg(feature = "sqlx")]
pub use client::{AgentKey, Builder};
pub use engine::{Explanation, Reservation, ReserveRefusal, RevokeFilter};
pub use error::{Error, ErrorCode};
pub use id::KeyId;
pub use key::grant::{Denial, DenialReason, Grant};
pub use key::new_key::{CreateKey, Created};
pub use key::raw::RawKey;
pub use key::record::{KeyFilter, KeyRecord, KeyState, KeyUpdate};
pub use key::rotation::{Rotate, RotateRefusal, Rotated};
#[cfg(feature = "sqlx")]
pub use sqlx;
