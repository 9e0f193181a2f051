//! What the client is told, as plain data.

use std::time::Duration;

use agentkey::engine::{
    AcceptedPeriods, Align, KeyPrefix, Options, Rounding, TableName, Thresholds, read_duration,
};
use napi_derive::napi;

use crate::error::{Result, thrown};

/// The engine's options. TypeScript has checked their types; those left out have the core's defaults.
#[napi(object)]
pub struct EngineOptions {
    /// The keys table.
    pub table_name: Option<String>,
    /// What stands before the random part of new keys.
    pub key_prefix: Option<String>,
    /// What new keys look like: `plain` or `checksum`.
    pub key_format: Option<String>,
    /// How long keys live that are created without a lifetime.
    pub default_expires_in: Option<String>,
    /// Whether a scope such as `files:*` grants all that begins with `files:`.
    pub wildcards: bool,
    /// The scopes that new keys may have.
    pub valid_scopes: Option<Vec<String>>,
    /// Whether all budget periods are accepted, and not only those of the original package.
    pub all_periods: bool,
    /// Whether the periods of new keys begin with the calendar.
    pub align_to_calendar: bool,
    /// How long a call may take, in milliseconds.
    pub timeout_ms: Option<u32>,
    /// How long ends of reservations are repeated, in milliseconds.
    pub settle_timeout_ms: Option<u32>,
    /// How many calls may wait.
    pub max_waiting: Option<u32>,
    /// `last_used_at` is written when it is older than this, in seconds.
    pub touch_interval_seconds: Option<u32>,
    /// Whether a transaction of the caller's may be open: it is not written then, and no row is remembered.
    pub single_client: bool,
    /// Whether it is never written.
    pub no_touches: bool,
    /// So many rows of keys are remembered.
    pub remembered_keys: Option<u32>,
    /// Whether every charge and reservation is written into the ledger.
    pub ledger: bool,
    /// The shares of a budget at which an alarm is raised.
    pub thresholds: Vec<f64>,
    /// So many seconds before a key expires an alarm is raised.
    pub expiry_notice_seconds: Option<u32>,
    /// When a reservation was open for so many seconds an alarm is raised.
    pub stale_hold_seconds: Option<u32>,
    /// Whether costs are recorded to the micro-cent.
    pub exact: bool,
    /// The most that one call may cost, in cents.
    pub max_cost_cents: Option<u32>,
    /// Spreads retries.
    pub seed: u32,
}

impl EngineOptions {
    pub(crate) fn read(self) -> Result<Options> {
        let mut options = Options::default();
        options.seed = u64::from(self.seed);
        options.valid_scopes = self.valid_scopes;
        if let Some(name) = &self.table_name {
            options.table = TableName::new(name).map_err(thrown)?;
        }
        if let Some(prefix) = &self.key_prefix {
            options.key_prefix = KeyPrefix::new(prefix).map_err(thrown)?;
        }
        if let Some(format) = &self.key_format {
            options.key_format = format.parse().map_err(thrown)?;
        }
        options.default_expires_in = read_duration(self.default_expires_in.as_deref()).map_err(thrown)?;
        options.wildcards = self.wildcards;
        if !self.all_periods {
            options.accepted_periods = AcceptedPeriods::DayAndMonth;
        }
        options.ledger = self.ledger;
        options.thresholds = Thresholds::new(self.thresholds).map_err(thrown)?;
        if self.exact {
            options.rounding = Rounding::Exact;
        }
        if self.align_to_calendar {
            options.align = Align::Calendar;
        }
        if let Some(timeout) = self.timeout_ms {
            options.timeout = Duration::from_millis(u64::from(timeout));
        }
        if let Some(timeout) = self.settle_timeout_ms {
            options.settle_timeout = Duration::from_millis(u64::from(timeout));
        }
        if let Some(calls) = self.max_waiting {
            options.max_waiting = calls.try_into().unwrap_or(usize::MAX);
        }
        if let Some(seconds) = self.touch_interval_seconds {
            options.touch_interval_seconds = Some(seconds);
        }
        if let Some(keys) = self.remembered_keys {
            options.remembered_keys = keys.try_into().unwrap_or(usize::MAX);
        }
        options.expiry_notice_seconds = self.expiry_notice_seconds;
        options.stale_hold_seconds = self.stale_hold_seconds;
        if self.single_client {
            options.remembered_keys = 0;
            // What is raised would be the caller's to commit.
            options.expiry_notice_seconds = None;
            options.stale_hold_seconds = None;
        }
        if self.single_client || self.no_touches {
            options.touch_interval_seconds = None;
        }
        options.max_cost_cents = self.max_cost_cents.map(i64::from);
        Ok(options)
    }
}
