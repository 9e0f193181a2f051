//! Results that come back as JSON: from a binding whose client answers in it, or from an object of the same shape.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::error::Error;
use crate::money::MICROCENTS_PER_CENT;
use crate::reservation::{RefusedReserve, ReserveRefusal};
use crate::verdict::{AccountId, Denial, DenialReason, Grant, KeyId, Limit, Verdict};

/// Reads what [`verdict`](super::wire::verdict) and [`verdict_with_key`](super::wire::verdict_with_key) write, or what an object of the same shape says.
pub fn read_verdict(text: &str) -> Result<Verdict, Error> {
    let wrong = |what: String| Error::unexpected(format_args!("no verdict: {what}"));
    match serde_json::from_str(text).map_err(|e| wrong(e.to_string()))? {
        Read { valid: true, key, .. } => {
            Ok(Ok(key.grant().ok_or_else(|| wrong("a key without an id".to_owned()))?))
        }
        Read { valid: false, reason, limit, refused, .. } => {
            let named = DenialReason::ALL.iter().find(|known| Some(known.as_str()) == reason.as_deref());
            let reason = *named.ok_or_else(|| wrong(format!("reason {reason:?}")))?;
            let limit = limit.map(ReadLimit::limit);
            Ok(Err(Denial { reason, limit, key: refused.and_then(ReadKey::grant).map(Box::new) }))
        }
    }
}

/// Reads what [`reserved`](super::wire::reserved) writes of a refusal; `None` if something was reserved.
pub fn read_refused_reserve(text: &str) -> Result<Option<RefusedReserve>, Error> {
    let wrong = |what: String| Error::unexpected(format_args!("no answer to a reserve: {what}"));
    let read: ReadReserved = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    if read.success {
        return Ok(None);
    }
    let named = ReserveRefusal::ALL.iter().find(|known| Some(known.as_str()) == read.reason.as_deref());
    let reason = *named.ok_or_else(|| wrong(format!("reason {:?}", read.reason)))?;
    Ok(Some(RefusedReserve { reason, limit: read.limit.map(ReadLimit::limit) }))
}

#[derive(Deserialize)]
struct Read {
    valid: bool,
    reason: Option<String>,
    limit: Option<ReadLimit>,
    #[serde(rename = "key")]
    refused: Option<ReadKey>,
    #[serde(flatten)]
    key: ReadKey,
}

/// Every member but the id may be missing: the original's results know fewer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadKey {
    id: Option<KeyId>,
    account_id: Option<AccountId>,
    user_id: Option<String>,
    scopes: Option<Vec<String>>,
    budget_cents: Option<i64>,
    budget_used_cents: Option<i64>,
    budget_remaining_cents: Option<i64>,
    budget_period: Option<String>,
    budget_reset_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    delegated_by: Option<String>,
    name: Option<String>,
    budget_reserved_cents: Option<i64>,
    budget_used_microcents: Option<i64>,
}

impl ReadKey {
    fn grant(self) -> Option<Grant> {
        Some(Grant {
            id: self.id?,
            account_id: self.account_id,
            user_id: self.user_id,
            scopes: self.scopes,
            budget_cents: self.budget_cents,
            budget_used_cents: self.budget_used_cents.unwrap_or(0),
            budget_used_microcents: self
                .budget_used_microcents
                .unwrap_or_else(|| self.budget_used_cents.unwrap_or(0).saturating_mul(MICROCENTS_PER_CENT)),
            budget_reserved_cents: self.budget_reserved_cents.unwrap_or(0),
            budget_remaining_cents: self.budget_remaining_cents,
            budget_period: self.budget_period,
            budget_reset_at: self.budget_reset_at,
            expires_at: self.expires_at,
            delegated_by: self.delegated_by,
            name: self.name.unwrap_or_else(|| "default".to_owned()),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadLimit {
    key_id: KeyId,
    budget_cents: i64,
    used_cents: i64,
    #[serde(default)]
    reserved_cents: i64,
    resets_at: Option<DateTime<Utc>>,
}

impl ReadLimit {
    fn limit(self) -> Limit {
        Limit {
            key_id: self.key_id,
            budget_cents: self.budget_cents,
            used_cents: self.used_cents,
            reserved_cents: self.reserved_cents,
            resets_at: self.resets_at,
        }
    }
}

#[derive(Deserialize)]
struct ReadReserved {
    success: bool,
    reason: Option<String>,
    limit: Option<ReadLimit>,
}
