//! What a look-up says of a key: a grant, or a denial with its reason.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::scope::has_scope;
use crate::budget::limit::Limit;
use crate::budget::money::MICROCENTS_PER_CENT;
use crate::id::{AccountId, KeyId};

/// A live key: what it may do and spend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Grant {
    /// The key's row.
    pub id: KeyId,
    /// Whose key it is.
    pub account_id: Option<AccountId>,
    /// A user within the account.
    pub user_id: Option<String>,
    /// What it may do; `None` is everything.
    pub scopes: Option<Vec<String>>,
    /// The budget of a period, in cents; `None` is no budget.
    pub budget_cents: Option<i64>,
    /// What was used of it in this period, in cents; a started cent counts.
    pub budget_used_cents: i64,
    /// The same to the micro-cent.
    #[serde(skip)]
    pub budget_used_microcents: i64,
    /// What open reservations hold of it, in cents; a started cent counts.
    pub budget_reserved_cents: i64,
    /// The same to the micro-cent.
    #[serde(skip)]
    pub budget_reserved_microcents: i64,
    /// What remains, in cents, never below 0; `None` without a budget.
    pub budget_remaining_cents: Option<i64>,
    /// `hour`, `day`, `week`, `month`, `year`, or `None` for one budget for life.
    pub budget_period: Option<String>,
    /// When the period ends, by the database's clock.
    pub budget_reset_at: Option<DateTime<Utc>>,
    /// When the key expires; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The human who authorised the key.
    pub delegated_by: Option<String>,
    /// The key's name.
    pub name: String,
    /// Whether a scope such as `files:*` grants all that begins with `files:`.
    #[serde(skip)]
    pub(crate) wildcards: bool,
}

impl Grant {
    /// Whether the key may do `scope`.
    pub fn has_scope(&self, scope: &str) -> bool {
        has_scope(self.scopes.as_deref(), scope, self.wildcards)
    }

    /// Whether the client that answered it takes `files:*` for a wildcard.
    pub fn has_wildcards(&self) -> bool {
        self.wildcards
    }

    /// What remains of the budget beside what is spent and held, in micro-cents; `None` without a budget.
    pub fn budget_remaining_microcents(&self) -> Option<i64> {
        let microcents = |cents: i64| cents.saturating_mul(MICROCENTS_PER_CENT);
        let taken = self.budget_used_microcents.saturating_add(self.budget_reserved_microcents);
        self.budget_cents.map(|cents| microcents(cents).saturating_sub(taken).max(0))
    }
}

/// Why a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DenialReason {
    /// There is no such key.
    Invalid,
    /// It was revoked.
    Revoked,
    /// It is switched off for now.
    Disabled,
    /// Its time is over.
    Expired,
    /// Its budget is used up.
    BudgetExceeded,
}

impl DenialReason {
    /// Every reason, in the order in which they are checked.
    pub const ALL: &'static [DenialReason] = &[
        DenialReason::Invalid,
        DenialReason::Revoked,
        DenialReason::Disabled,
        DenialReason::Expired,
        DenialReason::BudgetExceeded,
    ];

    /// Its place among all: the first that applies is answered.
    pub(crate) fn rank(self) -> usize {
        DenialReason::ALL.iter().position(|reason| *reason == self).unwrap_or(usize::MAX)
    }

    /// The reason's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            DenialReason::Invalid => "invalid",
            DenialReason::Revoked => "revoked",
            DenialReason::Disabled => "disabled",
            DenialReason::Expired => "expired",
            DenialReason::BudgetExceeded => "budget_exceeded",
        }
    }
}

impl std::fmt::Display for DenialReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[must_use]
pub struct Denial {
    /// Why.
    pub reason: DenialReason,
    /// The budget that is used up, where that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// The key, where there is one.
    #[serde(skip)]
    pub key: Option<Box<Grant>>,
}

impl Denial {
    pub(crate) fn invalid() -> Self {
        Denial { reason: DenialReason::Invalid, limit: None, key: None }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the key is refused: {}", self.reason)
    }
}

impl std::error::Error for Denial {}

/// What a look-up answers.
pub type Verdict = Result<Grant, Denial>;
