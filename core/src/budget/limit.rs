//! Limits: the budget that stops a call, and those that a key has beside its budget.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::period::{AcceptedPeriods, Period};
use crate::error::{Error, ErrorCode, shortened};
use crate::id::KeyId;

/// A key has so many limits at most, beside its budget. Each is one more row that its charges lock.
pub(crate) const MAX_LIMITS: usize = 6;

/// What a charge does that would pass a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WhenExceeded {
    /// It is refused until the limit starts afresh.
    #[default]
    Refuse,
    /// It is refused, and the key is switched off until somebody enables it: a breaker.
    Disable,
}

impl WhenExceeded {
    /// As the table stores it.
    pub const fn as_str(self) -> &'static str {
        match self {
            WhenExceeded::Refuse => "refuse",
            WhenExceeded::Disable => "disable",
        }
    }

    pub(crate) fn is_breaker(self) -> bool {
        self == WhenExceeded::Disable
    }

    /// What a row of the table says; `None` of a key. What nobody knows refuses.
    pub(crate) fn of_row(stored: Option<&str>) -> Option<Self> {
        stored.map(|stored| match stored {
            "disable" => WhenExceeded::Disable,
            _ => WhenExceeded::Refuse,
        })
    }
}

impl FromStr for WhenExceeded {
    type Err = Error;

    /// `refuse` or `disable`.
    fn from_str(text: &str) -> Result<Self, Error> {
        [WhenExceeded::Refuse, WhenExceeded::Disable]
            .into_iter()
            .find(|when| when.as_str() == text)
            .ok_or_else(|| {
                let message =
                    format!("Invalid whenExceeded: {}; it must be refuse or disable", shortened(text));
                Error::new(ErrorCode::InvalidText, message)
            })
    }
}

/// A limit of a key beside its budget.
///
/// ```
/// # use agentkey::{KeyLimit, Period};
/// // Two dollars within five minutes switch the key off; more than twenty in a month are refused.
/// let limits = [KeyLimit::new(200).every(Period::minutes(5)).disables(), KeyLimit::new(2_000).every(Period::Month)];
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KeyLimit {
    /// What may be spent, in cents.
    pub cents: i64,
    /// When it starts afresh; `None` is once for life.
    pub period: Option<Period>,
    /// What a charge does that would pass it.
    pub when_exceeded: WhenExceeded,
}

impl KeyLimit {
    /// So many cents for life, and no more.
    pub const fn new(cents: i64) -> Self {
        KeyLimit { cents, period: None, when_exceeded: WhenExceeded::Refuse }
    }

    /// In each period.
    pub const fn every(self, period: Period) -> Self {
        KeyLimit { period: Some(period), ..self }
    }

    /// Who would pass it switches the key off.
    pub const fn disables(self) -> Self {
        KeyLimit { when_exceeded: WhenExceeded::Disable, ..self }
    }

    /// Refuses what cannot be the limits of a key. Each has another period: that is what a limit is known by.
    pub(crate) fn check(limits: &[KeyLimit], periods: AcceptedPeriods) -> Result<(), Error> {
        if limits.len() > MAX_LIMITS {
            return Err(invalid(format_args!("a key has at most {MAX_LIMITS}")));
        }
        for (at, limit) in limits.iter().enumerate() {
            if limit.cents < 0 {
                return Err(invalid(format_args!("{} cents; it must not be negative", limit.cents)));
            }
            if let Some(period) = limit.period {
                period.accept(periods)?;
            }
            if limits[..at].iter().any(|other| other.period == limit.period) {
                return Err(match limit.period {
                    Some(period) => invalid(format_args!("two have the period {period}")),
                    None => invalid("two have no period"),
                });
            }
        }
        Ok(())
    }

    /// Refuses one that a table cannot hold.
    pub(crate) fn check_fits(limits: &[KeyLimit], max_cents: i64) -> Result<(), Error> {
        match limits.iter().find(|limit| limit.cents > max_cents) {
            Some(limit) => Err(invalid(format_args!(
                "{} cents; the most that the table holds is {max_cents}",
                limit.cents
            ))),
            None => Ok(()),
        }
    }
}

/// The error for limits that cannot be.
pub(crate) fn invalid(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::InvalidBudget, format!("Invalid limits: {why}"))
}

/// A budget that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Limit {
    /// The key whose budget it is, or whose limit.
    pub key_id: KeyId,
    /// The budget, in cents.
    pub budget_cents: i64,
    /// What was used of it, in cents.
    pub used_cents: i64,
    /// What open reservations hold of it, in cents.
    pub reserved_cents: i64,
    /// When it starts afresh, if it does.
    #[serde(serialize_with = "crate::time::write_optional_time")]
    pub resets_at: Option<DateTime<Utc>>,
    /// Of one of the key's `limits`: the period that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Of one of the key's `limits`: what a charge does that would pass it. `None` of a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_exceeded: Option<WhenExceeded>,
    /// The row of a breaker: whoever is refused by it switches the key off.
    #[serde(skip)]
    pub(crate) breaker: Option<KeyId>,
}

/// One of a key's limits, and what is used of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LimitState {
    /// What may be spent, in cents.
    pub cents: i64,
    /// When it starts afresh; `None` is once for life.
    pub period: Option<String>,
    /// What a charge does that would pass it.
    pub when_exceeded: WhenExceeded,
    /// What is used of it in this period, in cents; a started cent counts.
    pub used_cents: i64,
    /// What open reservations hold of it, in cents; a started cent counts.
    pub reserved_cents: i64,
    /// What remains, in cents, never below 0.
    pub remaining_cents: i64,
    /// When it starts afresh, by the database's clock.
    #[serde(serialize_with = "crate::time::write_optional_time")]
    pub resets_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_cannot_be_are_refused() {
        let check = |limits: &[KeyLimit]| KeyLimit::check(limits, AcceptedPeriods::All);
        let [five, month] = [Period::minutes(5), Period::Month].map(|period| KeyLimit::new(1).every(period));
        assert!(check(&[five, month, KeyLimit::new(0)]).is_ok());
        for (bad, says) in [
            (vec![five, five.disables()], "two have the period 5m"),
            (vec![KeyLimit::new(1), KeyLimit::new(2)], "two have no period"),
            (vec![KeyLimit::new(-1)], "-1 cents"),
            ((1..8).map(|n| KeyLimit::new(1).every(Period::minutes(n))).collect(), "at most 6"),
        ] {
            let error = check(&bad).unwrap_err();
            assert!(
                error.message().starts_with("Invalid limits: ") && error.message().contains(says),
                "{error}"
            );
        }
        assert!(KeyLimit::check(&[five], AcceptedPeriods::DayAndMonth).is_err());
        assert!(KeyLimit::check_fits(&[KeyLimit::new(6)], 5).is_err());
    }

    #[test]
    fn what_nobody_knows_refuses() {
        assert_eq!(WhenExceeded::of_row(None), None);
        assert_eq!(WhenExceeded::of_row(Some("explode")), Some(WhenExceeded::Refuse));
        assert_eq!(WhenExceeded::of_row(Some("disable")), Some(WhenExceeded::Disable));
    }
}
