//! The budget that stops a call.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::KeyId;

/// A budget that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
