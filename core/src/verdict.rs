//! What a look-up says of a key: a grant, or a denial with its reason.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::scope::has_scope;
use crate::shape::TableShape;

/// The id of a key: a number where the column is of an integer type, text otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KeyId {
    /// SERIAL, BIGSERIAL, and the like.
    Integer(i64),
    /// UUID, TEXT, and the like.
    Text(String),
}

/// The id of an account: a number where the column is INTEGER, text otherwise (also for BIGINT, as in the original).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AccountId {
    /// An INTEGER.
    Integer(i64),
    /// Anything else.
    Text(String),
}

macro_rules! id_conversions {
    ($id:ident) => {
        impl std::fmt::Display for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $id::Integer(n) => n.fmt(f),
                    $id::Text(text) => text.fmt(f),
                }
            }
        }

        impl From<i64> for $id {
            fn from(n: i64) -> Self {
                $id::Integer(n)
            }
        }

        impl From<i32> for $id {
            fn from(n: i32) -> Self {
                $id::Integer(i64::from(n))
            }
        }

        impl From<&str> for $id {
            fn from(text: &str) -> Self {
                $id::Text(text.to_owned())
            }
        }

        impl From<String> for $id {
            fn from(text: String) -> Self {
                $id::Text(text)
            }
        }

        impl $id {
            pub(crate) fn read(text: &str, integer: bool) -> Result<Self, Error> {
                if integer {
                    text.parse().map($id::Integer).map_err(|_| Error::unexpected("an id"))
                } else {
                    Ok($id::Text(text.to_owned()))
                }
            }
        }
    };
}

id_conversions!(KeyId);
id_conversions!(AccountId);

pub(crate) fn read_key_id(text: &str, shape: &TableShape) -> Result<KeyId, Error> {
    KeyId::read(text, shape.id_is_integer())
}

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
    /// What open reservations hold of it, in cents.
    pub budget_reserved_cents: i64,
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
}

impl Grant {
    /// Whether the key may do `scope`.
    pub fn has_scope(&self, scope: &str) -> bool {
        has_scope(self.scopes.as_deref(), scope)
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

/// A budget that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Limit {
    /// The key whose budget it is.
    pub key_id: KeyId,
    /// The budget, in cents.
    pub budget_cents: i64,
    /// What was used of it, in cents.
    pub used_cents: i64,
    /// What open reservations hold of it, in cents.
    pub reserved_cents: i64,
    /// When it starts afresh, if it does.
    pub resets_at: Option<DateTime<Utc>>,
}

/// What a look-up answers.
pub type Verdict = Result<Grant, Denial>;
