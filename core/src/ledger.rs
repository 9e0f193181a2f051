//! The ledger: who moved what, when. Entries are only ever added, and pruned by age.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ErrorCode};
use crate::literal::parse_row;
use crate::verdict::KeyId;

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Event {
    /// Entries of a key are numbered in the order in which they happened.
    pub id: i64,
    /// When, by the database's clock.
    pub at: DateTime<Utc>,
    /// The key whose budget it is.
    pub key_id: KeyId,
    /// Whose key it is.
    pub account_id: Option<String>,
    /// `create`, `revoke`, `charge`, `reserve`, `settle`, `release`, `expire`, `reset`.
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

/// Which entries are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EventFilter {
    /// Only of this key.
    pub key_id: Option<String>,
    /// Only of this account.
    pub account_id: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only entries before the one of this id: the last that was read, to go on from there.
    pub before: Option<i64>,
    /// How many at most: 100 unless it says otherwise, 1,000 at most.
    pub limit: Option<u32>,
}

impl EventFilter {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 1_000)
    }
}

/// What a key spent is asked by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct UsageFilter {
    /// The key.
    pub key_id: String,
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Until this time, which is excluded.
    pub to: Option<DateTime<Utc>>,
    /// `hour`, `day` (the default), `week`, `month` or `year` of the calendar in UTC.
    pub by: Option<String>,
}

impl UsageFilter {
    pub(crate) fn by(&self) -> Result<&str, Error> {
        let by = self.by.as_deref().unwrap_or("day");
        by.parse::<crate::period::Period>().map(|_| by).map_err(|_| {
            let shown = crate::duration::shortened(by);
            Error::new(ErrorCode::InvalidBudgetPeriod, format!("Invalid period: {shown}"))
        })
    }
}

/// What a key spent in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UsageOfPeriod {
    /// When the period begins.
    pub from: DateTime<Utc>,
    /// What was spent in it, by the key and its descendants.
    pub spent_microcents: i64,
    /// By how many charges and settlements.
    pub charges: i64,
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

/// Rows of one JSON object each.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(rows: &[String]) -> Result<Vec<T>, Error> {
    rows.iter()
        .map(|row| {
            let fields = parse_row(row).filter(|fields| fields.len() == 1);
            let text = fields.and_then(|mut fields| fields.pop().flatten());
            let text = text.ok_or_else(|| Error::unexpected("a row that is no JSON object"))?;
            serde_json::from_str(&text).map_err(|e| Error::unexpected(format_args!("a JSON object: {e}")))
        })
        .collect()
}
