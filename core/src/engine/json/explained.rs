//! Explanations as JSON.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::answers::{Success, json};
use crate::budget::limit::WhenExceeded;
use crate::budget::money::{MICROCENTS_PER_CENT, cents_rounded_up};
use crate::id::KeyId;
use crate::key::explanation::{ExplainedLimit, Explanation, Hold};
use crate::key::grant::Grant;
use crate::time::{write_optional_time, write_time};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExplanationJson<'a> {
    allowed: bool,
    reason: Option<&'static str>,
    limit_key_id: Option<&'a KeyId>,
    live: bool,
    limits: Vec<LimitJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<bool>,
    key_id: Option<&'a KeyId>,
    name: Option<&'a str>,
    live: bool,
    reason: Option<&'static str>,
    budget_cents: Option<i64>,
    budget_used_cents: i64,
    budget_reserved_cents: i64,
    budget_remaining_cents: Option<i64>,
    budget_period: &'a Option<String>,
    #[serde(serialize_with = "write_optional_time")]
    budget_reset_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_used_microcents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_reserved_microcents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_remaining_microcents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    when_exceeded: Option<WhenExceeded>,
    budget_boost_cents: Option<i64>,
    #[serde(serialize_with = "write_optional_time")]
    budget_boost_until: Option<DateTime<Utc>>,
    holds: HoldsJson<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HoldsJson<'a> {
    count: i64,
    amount_cents: i64,
    recoverable_cents: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_microcents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recoverable_microcents: Option<i64>,
    oldest: Vec<HoldJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HoldJson<'a> {
    reservation_id: Option<&'a str>,
    key_id: Option<&'a KeyId>,
    amount_cents: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_microcents: Option<i64>,
    #[serde(serialize_with = "write_time")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "write_time")]
    expires_at: DateTime<Utc>,
    expired: bool,
}

pub(super) fn explanation(explanation: &Explanation, exact: bool) -> String {
    json(&ExplanationJson {
        allowed: explanation.is_allowed(),
        reason: explanation.reason.map(|reason| reason.as_str()),
        limit_key_id: explanation.limit_key_id.as_ref(),
        live: explanation.is_live(),
        limits: explanation.limits.iter().map(|limit| LimitJson::of(limit, exact)).collect(),
    })
}

/// What `validate` answers for a live key, and an explanation for who holds it. Of the keys above it that says how much
/// there is and what is held since when, but neither which keys these are, nor who else holds: an id may be all that
/// somebody needs to revoke a key.
pub(crate) fn grant_explained(grant: &Grant, explanation: &Explanation) -> String {
    #[derive(Serialize)]
    struct Explained<'a> {
        #[serde(flatten)]
        grant: Success<'a>,
        explanation: ExplanationJson<'a>,
    }
    let is_own = |limit: &ExplainedLimit| limit.key_id.as_ref() == Some(&grant.id);
    // What is held below the key itself: of what is held above it, these are known.
    let own: HashSet<&str> = explanation
        .limits
        .iter()
        .filter(|limit| is_own(limit))
        .flat_map(|limit| limit.holds.oldest.iter().map(|hold| hold.reservation_id.as_str()))
        .collect();
    let limit = |limit| match (LimitJson::of(limit, false), is_own(limit)) {
        (shown, true) => LimitJson { own: Some(true), ..shown },
        (shown, false) => shown.of_another(&own),
    };
    json(&Explained {
        grant: Success::of(grant),
        explanation: ExplanationJson {
            allowed: explanation.is_allowed(),
            reason: explanation.reason.map(|reason| reason.as_str()),
            limit_key_id: explanation.limit_key_id.as_ref().filter(|id| **id == grant.id),
            live: explanation.is_live(),
            limits: explanation.limits.iter().map(limit).collect(),
        },
    })
}

impl<'a> LimitJson<'a> {
    fn of(limit: &'a ExplainedLimit, exact: bool) -> Self {
        let (balance, holds) = (&limit.balance, &limit.holds);
        let remaining = limit.remaining_microcents();
        LimitJson {
            own: None,
            key_id: limit.key_id.as_ref(),
            name: limit.name.as_deref(),
            live: limit.is_live(),
            reason: limit.reason.map(|reason| reason.as_str()),
            budget_cents: limit.budget_cents,
            budget_used_cents: balance.used_cents(),
            budget_reserved_cents: balance.reserved_cents(),
            budget_remaining_cents: remaining.map(|remaining| remaining / MICROCENTS_PER_CENT),
            budget_period: &limit.budget_period,
            budget_reset_at: limit.resets_at,
            budget_used_microcents: exact.then_some(balance.used_microcents),
            budget_reserved_microcents: exact.then_some(balance.reserved_microcents),
            budget_remaining_microcents: remaining.filter(|_| exact),
            when_exceeded: limit.when_exceeded,
            budget_boost_cents: limit.boost_cents,
            budget_boost_until: limit.boost_until,
            holds: HoldsJson {
                count: holds.count,
                amount_cents: cents_rounded_up(holds.amount_microcents),
                recoverable_cents: holds.recoverable_microcents / MICROCENTS_PER_CENT,
                amount_microcents: exact.then_some(holds.amount_microcents),
                recoverable_microcents: exact.then_some(holds.recoverable_microcents),
                oldest: holds.oldest.iter().map(|hold| HoldJson::of(hold, exact)).collect(),
            },
        }
    }
}

impl LimitJson<'_> {
    /// A key above the one that asks, which made the reservations `own`.
    fn of_another(mut self, own: &HashSet<&str>) -> Self {
        (self.own, self.key_id, self.name) = (Some(false), None, None);
        for hold in &mut self.holds.oldest {
            if hold.reservation_id.is_none_or(|id| !own.contains(id)) {
                (hold.reservation_id, hold.key_id) = (None, None);
            }
        }
        self
    }
}

impl<'a> HoldJson<'a> {
    fn of(hold: &'a Hold, exact: bool) -> Self {
        HoldJson {
            reservation_id: Some(hold.reservation_id.as_str()),
            key_id: Some(&hold.key_id),
            amount_cents: cents_rounded_up(hold.amount_microcents),
            amount_microcents: exact.then_some(hold.amount_microcents),
            created_at: hold.created_at,
            expires_at: hold.expires_at,
            expired: hold.expired,
        }
    }
}
