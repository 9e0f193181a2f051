//! What a client can be told; every option has a default.

use std::time::Duration;

use super::Request;
use crate::budget::money::{Cost, Rounding};
use crate::budget::period::AcceptedPeriods;
use crate::budget::thresholds::Thresholds;
use crate::key::raw::{KeyFormat, KeyPrefix};
use crate::table::name::TableName;
use crate::table::shape::ALARMS;

/// Where the budget periods of new keys begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Align {
    /// At the key's creation.
    #[default]
    Creation,
    /// With the calendar, in UTC: the full hour, midnight, Monday, the 1st, the 1st of January.
    Calendar,
}

impl Align {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Align::Creation => "creation",
            Align::Calendar => "calendar",
        }
    }
}

/// The engine's options.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The keys table.
    pub table: TableName,
    /// What stands before the random part of new keys.
    pub key_prefix: KeyPrefix,
    /// What new keys look like.
    pub key_format: KeyFormat,
    /// How long keys live that are created without a lifetime; `None` is for ever.
    pub default_expires_in: Option<Duration>,
    /// Whether a scope such as `files:*` grants all that begins with `files:`.
    pub wildcards: bool,
    /// The scopes that new keys may have; `None` is any.
    pub valid_scopes: Option<Vec<String>>,
    /// The budget periods that new keys may have.
    pub accepted_periods: AcceptedPeriods,
    /// Where budget periods of new keys begin.
    pub align: Align,
    /// How long a call may take, waiting included. `migrate` has no limit.
    pub timeout: Duration,
    /// How long `settle` and `release` are repeated through faults: what was spent must not be lost because the database
    /// is restarted. Never shorter than `timeout`.
    pub settle_timeout: Duration,
    /// How many calls may wait or be under way at once; more are refused with `overloaded`.
    pub max_waiting: usize,
    /// How many calls one statement takes at most.
    pub max_batch: usize,
    /// How many statements of one lane are under way at most.
    pub max_in_flight: usize,
    /// Whether every charge and reservation is written into the ledger, not only those with an idempotency key. All
    /// clients of a table should agree: what one does not write is missing.
    pub ledger: bool,
    /// The shares of a budget at which an alarm is written into the ledger. All clients of a table should agree.
    pub thresholds: Thresholds,
    /// So many seconds before a key expires an alarm is raised. `None`: never.
    pub expiry_notice_seconds: Option<u32>,
    /// When a reservation was open for so many seconds an alarm is raised. `None`: never.
    pub stale_hold_seconds: Option<u32>,
    /// How costs with a fraction of a cent are recorded.
    pub rounding: Rounding,
    /// The most that one charge, reserve or settle may cost, in cents: more is an `invalid_cost`. `None` is no limit.
    pub max_cost_cents: Option<i64>,
    /// `last_used_at` is written when it is older than this, in seconds. `None`: never.
    pub touch_interval_seconds: Option<u32>,
    /// So many rows of keys are remembered: a look-up asks the database only whether they changed. 0 is none.
    pub remembered_keys: usize,
    /// How often a statement that certainly had no effect (a deadlock, say) is tried.
    pub max_attempts: u32,
    /// Spreads retries; give each engine its own.
    pub seed: u64,
}

impl Options {
    /// How long a request may take; `None` is no limit.
    pub fn limit_of(&self, request: &Request) -> Option<Duration> {
        match request {
            Request::Migrate | Request::Diagnose(_) => None,
            Request::Settle(..) | Request::Release(_) => Some(self.settle_timeout.max(self.timeout)),
            // What was spent must not be lost.
            Request::Charge(_, charge) if charge.is_admitted => Some(self.settle_timeout.max(self.timeout)),
            _ => Some(self.timeout),
        }
    }

    /// What a statement that moves money needs of the table, beside `needed`.
    pub(crate) fn with_alarms<'n>(&self, needed: &[&'n str]) -> Vec<&'n str> {
        let alarms = (!self.thresholds.is_empty()).then_some(ALARMS);
        needed.iter().copied().chain(alarms).collect()
    }

    /// A cost above the limit is none.
    pub(crate) fn limited(&self, cost: Cost) -> Cost {
        match (cost, self.max_cost_cents.map(Cost::cents)) {
            (Cost::Microcents(cost), Some(Cost::Microcents(most))) if cost > most => Cost::Invalid,
            (Cost::Microcents(_), Some(Cost::Free)) => Cost::Invalid,
            (cost, _) => cost,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            table: TableName::default(),
            key_prefix: KeyPrefix::default(),
            key_format: KeyFormat::default(),
            default_expires_in: None,
            wildcards: false,
            valid_scopes: None,
            accepted_periods: AcceptedPeriods::default(),
            align: Align::default(),
            timeout: Duration::from_secs(10),
            settle_timeout: Duration::from_secs(60),
            max_waiting: 100_000,
            max_batch: 512,
            max_in_flight: 2,
            ledger: false,
            thresholds: Thresholds::default(),
            expiry_notice_seconds: None,
            stale_hold_seconds: None,
            rounding: Rounding::Up,
            max_cost_cents: None,
            touch_interval_seconds: Some(60),
            remembered_keys: 10_000,
            max_attempts: 5,
            seed: 0,
        }
    }
}
