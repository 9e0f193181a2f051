//! The ledger: who moved what, when. Entries are only ever added, and pruned by age.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::period::Period;
use crate::error::{Error, ErrorCode};
use crate::id::{AccountId, KeyId};
use crate::time::write_time;

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Event {
    /// Entries of a key are numbered in the order in which they happened.
    pub id: i64,
    /// When, by the database's clock.
    #[serde(serialize_with = "write_time")]
    pub at: DateTime<Utc>,
    /// The key whose budget it is.
    pub key_id: KeyId,
    /// Whose key it is.
    pub account_id: Option<String>,
    /// `create`, `update`, `disable`, `enable`, `rotate`, `revoke`, `charge`, `refund`, `reserve`, `settle`, `release`, `expire`,
    /// `reset`; and alarms: `threshold`.
    pub kind: String,
    /// How much was spent (`charge`, `settle`), forgotten (`reset`: negative), held or given back.
    pub amount_microcents: Option<i64>,
    /// What is used of the period's budget after it.
    pub used_after_microcents: Option<i64>,
    /// What open reservations hold after it.
    pub reserved_after_microcents: Option<i64>,
    /// What remains after it; negative if the budget is passed, `None` without one.
    pub remaining_after_microcents: Option<i64>,
    /// The idempotency key that it came with.
    pub idempotency_key: Option<String>,
    /// The reservation that it is about.
    pub reservation_id: Option<String>,
    /// The descendant that drew on this key; `None` if it was the key itself.
    pub via_key_id: Option<KeyId>,
    /// The human who authorised a key that was created.
    pub actor: Option<String>,
    /// What the caller wanted kept with it.
    pub metadata: Option<Value>,
}

/// Which entries are read. Every member may stay unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EventFilter {
    /// Only of this key.
    pub key_id: Option<KeyId>,
    /// Only of this account.
    pub account_id: Option<AccountId>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only alarms: what somebody should hear of.
    pub alarms: bool,
    /// Only entries before the one of this id: the last that was read, to go on from there.
    pub before: Option<i64>,
    /// Only entries after the one of this id, the oldest first: a cursor, which skips none. `Some(0)` is all.
    pub after: Option<i64>,
    /// How many at most: 100 if unset, never more than 1,000.
    pub limit: Option<u32>,
}

impl EventFilter {
    /// All entries.
    pub fn new() -> Self {
        EventFilter::default()
    }

    /// Only entries of this key.
    pub fn key_id(mut self, id: impl Into<KeyId>) -> Self {
        self.key_id = Some(id.into());
        self
    }

    /// Only entries of this account.
    pub fn account_id(mut self, id: impl Into<AccountId>) -> Self {
        self.account_id = Some(id.into());
        self
    }

    /// Only entries of this kind: see [`Event::kind`].
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Only alarms: what somebody should hear of.
    pub fn alarms(mut self) -> Self {
        self.alarms = true;
        self
    }

    /// Only entries before the one of this id.
    pub fn before(mut self, id: i64) -> Self {
        self.before = Some(id);
        self
    }

    /// Only entries after the one of this id, the oldest first.
    pub fn after(mut self, id: i64) -> Self {
        self.after = Some(id);
        self
    }

    /// So many at most.
    pub fn limit(mut self, entries: u32) -> Self {
        self.limit = Some(entries);
        self
    }

    /// Refuses what can be no page.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match (self.before, self.after) {
            (Some(_), Some(_)) => {
                let message = "Invalid filter: give before, to go back, or after, to go on, not both";
                Err(Error::new(ErrorCode::InvalidText, message))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn most(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 1_000)
    }
}

/// Whose spend is reported, when, and by which period.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageFilter {
    /// The key.
    pub key_id: KeyId,
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Until this time, which is excluded.
    pub to: Option<DateTime<Utc>>,
    /// Periods of the calendar in UTC.
    pub by: Period,
}

impl UsageFilter {
    /// All that a key spent, by day.
    pub fn of_key(id: impl Into<KeyId>) -> Self {
        UsageFilter { key_id: id.into(), from: None, to: None, by: Period::Day }
    }

    /// From this time on.
    pub fn from(mut self, at: DateTime<Utc>) -> Self {
        self.from = Some(at);
        self
    }

    /// Until this time, which is excluded.
    pub fn to(mut self, at: DateTime<Utc>) -> Self {
        self.to = Some(at);
        self
    }

    /// By periods of this length.
    pub fn by(mut self, period: Period) -> Self {
        self.by = period;
        self
    }
}

/// What a key spent in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UsageOfPeriod {
    /// When the period begins.
    #[serde(serialize_with = "write_time")]
    pub from: DateTime<Utc>,
    /// What was spent in it, by the key and its descendants.
    pub spent_microcents: i64,
    /// By how many charges and settlements.
    pub charges: i64,
    /// Whether the ledger knows all that was spent in it. Charges are written into it with an idempotency key, and
    /// with `ledger: true` all of them.
    pub complete: bool,
}

/// A key whose counters are not what the ledger says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Discrepancy {
    /// The key.
    pub key_id: KeyId,
    /// What the key's row says is used.
    pub used_microcents: i64,
    /// What the ledger says is used.
    pub ledger_microcents: i64,
    /// What the key's row says is held.
    pub reserved_microcents: i64,
    /// What open reservations hold.
    pub held_microcents: i64,
}
