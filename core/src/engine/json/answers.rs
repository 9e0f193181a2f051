//! Answers as JSON, in the shapes of the npm package's results.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{deliveries, explained, increases, records};
use crate::budget::charge::ChargeOutcome;
use crate::budget::limit::Limit;
use crate::budget::money::{Balance, cents_rounded_up};
use crate::budget::period::Period;
use crate::budget::reservation::{Extended, Released, ReservationRefusal, Settled};
use crate::engine::answer::{Answer, Reserved};
use crate::id::{AccountId, KeyId};
use crate::key::grant::{Denial, Grant, Verdict};
use crate::key::new_key::Created;
use crate::key::rotation::RotateOutcome;
use crate::time::{timestamp, write_optional_time};

impl Answer {
    /// The answer as JSON. With `exact`, money is told to the micro-cent too.
    pub fn json(&self, exact: bool) -> String {
        match self {
            Answer::Validated(verdict) => validated(verdict, exact),
            Answer::Charged(outcome) | Answer::Refunded(outcome) => charged(outcome, exact),
            Answer::Reserved(reserved) => reserved_json(reserved, exact),
            Answer::Settled(settled) => settled_json(settled, exact),
            Answer::Released(released) => released_json(released),
            Answer::Extended(extended) => extended_json(extended),
            Answer::Swept(count) | Answer::RevokedAll(count) | Answer::Pruned(count) => count.to_string(),
            Answer::Created(created) => created_json(created),
            Answer::SubjectEnsured | Answer::Migrated => "null".to_owned(),
            Answer::Revoked(yes) | Answer::DeliveryEnded(yes) => yes.to_string(),
            Answer::Claimed(claimed) => deliveries::claimed(claimed),
            Answer::Deliveries(open) => json(open),
            Answer::Rotated(outcome) => rotated_json(outcome),
            Answer::Key(key) => records::record(key.as_deref(), exact),
            Answer::Explained(explanation) => explained::explanation(explanation, exact),
            Answer::Keys(keys) => records::records(keys, exact),
            Answer::IncreaseRequested(outcome) | Answer::IncreaseDecided(outcome) => {
                increases::outcome(outcome)
            }
            Answer::Increases(requests) => json(requests),
            Answer::Events(events) => json(events),
            Answer::Usage(usage) => json(usage),
            Answer::Verified(discrepancies) => json(discrepancies),
            Answer::SignupCounted(counted) => counted.err().map_or("null".to_owned(), |s| s.to_string()),
            Answer::Diagnosed(findings) => json(findings),
        }
    }
}

fn validated(verdict: &Verdict, exact: bool) -> String {
    match verdict {
        Ok(key) => json(&Success::of(key).exact(exact)),
        Err(denial) => json(&Failure::of(denial)),
    }
}

/// What `validate` answers for a live key.
pub(crate) fn grant(grant: &Grant, exact: bool) -> String {
    json(&Success::of(grant).exact(exact))
}

fn charged(outcome: &ChargeOutcome, exact: bool) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded {
        success: bool,
        #[serde(flatten)]
        money: Money,
        #[serde(skip_serializing_if = "Option::is_none")]
        over_budget: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        overage_cents: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        replayed: Option<bool>,
    }
    let charged = match outcome {
        Ok(charged) => charged,
        Err(reason) => return format!(r#"{{"success":false,"reason":"{reason}"}}"#),
    };
    let Some(balance) = charged.balance else { return r#"{"success":true}"#.to_owned() };
    let over = balance.over_cents();
    json(&Recorded {
        success: true,
        money: Money::of(&balance, exact),
        over_budget: (over > 0).then_some(true),
        overage_cents: (over > 0).then_some(over),
        replayed: charged.replayed.then_some(true),
    })
}

/// A budget after an operation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Money {
    budget_used_cents: i64,
    budget_remaining_cents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_used_microcents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_remaining_microcents: Option<i64>,
}

impl Money {
    fn of(balance: &Balance, exact: bool) -> Self {
        Money {
            budget_used_cents: balance.used_cents(),
            budget_remaining_cents: balance.remaining_cents(),
            budget_used_microcents: exact.then_some(balance.used_microcents),
            budget_remaining_microcents: balance.remaining_microcents().filter(|_| exact),
        }
    }
}

fn reserved_json(reserved: &Reserved, exact: bool) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Held<'a> {
        success: bool,
        reservation_id: &'a str,
        expires_at: String,
        #[serde(flatten)]
        money: Money,
        budget_reserved_cents: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        replayed: Option<bool>,
        grant: Success<'a>,
    }
    #[derive(Serialize)]
    struct Refused<'a> {
        success: bool,
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<&'a Limit>,
        #[serde(flatten)]
        settled: Option<Before<'a>>,
    }
    /// What the reservation of a repeated reserve was settled with.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Before<'a> {
        reservation_id: &'a str,
        cost_cents: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        cost_microcents: Option<i64>,
    }
    match reserved {
        Ok(held) => json(&Held {
            success: true,
            reservation_id: held.id.as_str(),
            expires_at: timestamp(&held.expires_at),
            money: Money::of(&held.balance, exact),
            budget_reserved_cents: held.balance.reserved_cents(),
            replayed: held.replayed.then_some(true),
            grant: Success::of(&held.grant).exact(exact),
        }),
        Err(refused) => json(&Refused {
            success: false,
            reason: refused.reason.as_str(),
            limit: refused.limit.as_ref(),
            settled: refused.settled.as_ref().map(|settled| Before {
                reservation_id: settled.id.as_str(),
                cost_cents: cents_rounded_up(settled.cost_microcents),
                cost_microcents: exact.then_some(settled.cost_microcents),
            }),
        }),
    }
}

fn settled_json(settled: &Settled, exact: bool) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Done {
        success: bool,
        cost_cents: i64,
        overage_cents: i64,
        #[serde(flatten)]
        money: Money,
        #[serde(skip_serializing_if = "Option::is_none")]
        cost_microcents: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        replayed: Option<bool>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Unrecordable {
        success: bool,
        reason: &'static str,
        cost_cents: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        cost_microcents: Option<i64>,
    }
    match settled {
        Ok(done) => json(&Done {
            success: true,
            cost_cents: cents_rounded_up(done.cost_microcents),
            overage_cents: cents_rounded_up(done.overage_microcents),
            money: Money::of(&done.balance, exact),
            cost_microcents: exact.then_some(done.cost_microcents),
            replayed: done.replayed.then_some(true),
        }),
        Err(ReservationRefusal::Unrecordable { cost_microcents }) => json(&Unrecordable {
            success: false,
            reason: "unrecordable",
            cost_cents: cents_rounded_up(*cost_microcents),
            cost_microcents: exact.then_some(*cost_microcents),
        }),
        Err(refusal) => refused(*refusal),
    }
}

fn released_json(released: &Released) -> String {
    match released {
        Ok(given_back) => format!(r#"{{"success":true,"released":{given_back}}}"#),
        Err(refusal) => refused(*refusal),
    }
}

fn extended_json(extended: &Extended) -> String {
    match extended {
        Ok(at) => format!(r#"{{"success":true,"expiresAt":"{}"}}"#, timestamp(at)),
        Err(refusal) => refused(*refusal),
    }
}

fn refused(refusal: ReservationRefusal) -> String {
    format!(r#"{{"success":false,"reason":"{refusal}"}}"#)
}

/// With `created_json` the only place where a raw key is written.
fn rotated_json(outcome: &RotateOutcome) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        success: bool,
        key: &'a str,
        id: &'a KeyId,
        #[serde(serialize_with = "write_optional_time")]
        previous_expires_at: Option<DateTime<Utc>>,
    }
    match outcome {
        Ok(rotated) => json(&Fields {
            success: true,
            key: rotated.key.expose(),
            id: &rotated.id,
            previous_expires_at: rotated.previous_expires_at,
        }),
        Err(refusal) => format!(r#"{{"success":false,"reason":"{refusal}"}}"#),
    }
}

/// With `rotated_json` the only place where a raw key is written.
fn created_json(created: &Created) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        key: &'a str,
        id: &'a KeyId,
        scopes: &'a Option<Vec<String>>,
        budget_cents: Option<i64>,
        budget_period: Option<Period>,
        #[serde(serialize_with = "write_optional_time")]
        expires_at: Option<DateTime<Utc>>,
    }
    json(&Fields {
        key: created.key.expose(),
        id: &created.id,
        scopes: &created.scopes,
        budget_cents: created.budget_cents,
        budget_period: created.budget_period,
        expires_at: created.expires_at,
    })
}

/// Plain data cannot fail to become JSON.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Success<'a> {
    /// Only what `validate` answers says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<bool>,
    id: &'a KeyId,
    account_id: &'a Option<AccountId>,
    user_id: &'a Option<String>,
    scopes: &'a Option<Vec<String>>,
    budget_cents: Option<i64>,
    budget_used_cents: i64,
    budget_remaining_cents: Option<i64>,
    budget_period: &'a Option<String>,
    #[serde(serialize_with = "write_optional_time")]
    budget_reset_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "write_optional_time")]
    expires_at: Option<DateTime<Utc>>,
    delegated_by: &'a Option<String>,
    name: &'a str,
    budget_reserved_cents: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_used_microcents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_remaining_microcents: Option<i64>,
    #[serde(skip)]
    used_microcents: i64,
    #[serde(skip)]
    remaining_microcents: Option<i64>,
}

impl<'a> Success<'a> {
    /// A key of which nobody asks whether it is live.
    pub(super) fn of_any(grant: &'a Grant, exact: bool) -> Self {
        Success { valid: None, ..Success::of(grant).exact(exact) }
    }

    fn exact(mut self, exact: bool) -> Self {
        if exact {
            self.budget_used_microcents = Some(self.used_microcents);
            self.budget_remaining_microcents = self.remaining_microcents;
        }
        self
    }

    pub(super) fn of(grant: &'a Grant) -> Self {
        Success {
            valid: Some(true),
            id: &grant.id,
            account_id: &grant.account_id,
            user_id: &grant.user_id,
            scopes: &grant.scopes,
            budget_cents: grant.budget_cents,
            budget_used_cents: grant.budget_used_cents,
            budget_remaining_cents: grant.budget_remaining_cents,
            budget_period: &grant.budget_period,
            budget_reset_at: grant.budget_reset_at,
            expires_at: grant.expires_at,
            delegated_by: &grant.delegated_by,
            name: &grant.name,
            budget_reserved_cents: grant.budget_reserved_cents,
            budget_used_microcents: None,
            budget_remaining_microcents: None,
            used_microcents: grant.budget_used_microcents,
            remaining_microcents: grant.budget_remaining_microcents(),
        }
    }
}

#[derive(Serialize)]
struct Failure<'a> {
    valid: bool,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a Limit>,
}

impl<'a> Failure<'a> {
    fn of(denial: &'a Denial) -> Self {
        Failure { valid: false, reason: denial.reason.as_str(), limit: denial.limit.as_ref() }
    }
}
