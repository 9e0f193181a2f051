//! Results as JSON: the one shape that every language shares, camelCase, members in the contract's order, times as
//! JavaScript's `toISOString` writes them.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

pub use super::wire_read::{read_refused_reserve, read_verdict};
use crate::money::{Balance, MICROCENTS_PER_CENT, cents_rounded_up};
use crate::new_key::CreatedKey;
use crate::request::Usage;
use crate::reservation::{Extended, FinishRefusal, Released, Reserved, Settled};
use crate::verdict::{AccountId, Denial, Grant, KeyId, Limit, Verdict};

/// What `validate` answers. With `exact`, also to the micro-cent.
pub fn verdict(verdict: &Verdict, exact: bool) -> String {
    match verdict {
        Ok(key) => json(&Success::of(key).exact(exact)),
        Err(denial) => json(&Failure::of(denial, None)),
    }
}

/// The same, where a refusal also holds the refused key's data as `key`: for [`read_verdict`], not for callers.
pub fn verdict_with_key(verdict: &Verdict, exact: bool) -> String {
    match verdict {
        Ok(key) => json(&Success::of(key).exact(exact)),
        Err(denial) => json(&Failure::of(denial, denial.key.as_deref().map(Success::of))),
    }
}

/// What `validate` answers for a live key.
pub fn grant(grant: &Grant) -> String {
    json(&Success::of(grant))
}

/// What `trackUsage` answers. With `exact`, also to the micro-cent.
pub fn usage(usage: &Usage, exact: bool) -> String {
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
    match *usage {
        Usage::Recorded(recorded) => {
            let over = cents_rounded_up(recorded.balance.over_microcents());
            json(&Recorded {
                success: true,
                money: Money::of(&recorded.balance, exact),
                over_budget: (over > 0).then_some(true),
                overage_cents: (over > 0).then_some(over),
                replayed: recorded.replayed.then_some(true),
            })
        }
        Usage::Free => r#"{"success":true}"#.to_owned(),
        Usage::Refused(reason) => format!(r#"{{"success":false,"reason":"{reason}"}}"#),
    }
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

/// What `reserve` answers.
pub fn reserved(reserved: &Reserved, exact: bool) -> String {
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
    }
    #[derive(Serialize)]
    struct Refused<'a> {
        success: bool,
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<Budget<'a>>,
    }
    match reserved {
        Ok(held) => json(&Held {
            success: true,
            reservation_id: held.id.as_str(),
            expires_at: timestamp(&held.expires_at),
            money: Money::of(&held.balance, exact),
            budget_reserved_cents: held.balance.reserved_cents(),
            replayed: held.replayed.then_some(true),
        }),
        Err(refused) => json(&Refused {
            success: false,
            reason: refused.reason.as_str(),
            limit: refused.limit.as_ref().map(Budget::of),
        }),
    }
}

/// What `settle` answers.
pub fn settled(settled: &Settled, exact: bool) -> String {
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
    match settled {
        Ok(done) => json(&Done {
            success: true,
            cost_cents: cents_rounded_up(done.cost_microcents),
            overage_cents: cents_rounded_up(done.overage_microcents),
            money: Money::of(&done.balance, exact),
            cost_microcents: exact.then_some(done.cost_microcents),
            replayed: done.replayed.then_some(true),
        }),
        Err(refusal) => refused_finish(*refusal),
    }
}

/// What `release` answers.
pub fn released(released: &Released) -> String {
    match released {
        Ok(given_back) => format!(r#"{{"success":true,"released":{given_back}}}"#),
        Err(refusal) => refused_finish(*refusal),
    }
}

/// What `extend` answers.
pub fn extended(extended: &Extended) -> String {
    match extended {
        Ok(at) => format!(r#"{{"success":true,"expiresAt":"{}"}}"#, timestamp(at)),
        Err(refusal) => refused_finish(*refusal),
    }
}

fn refused_finish(refusal: FinishRefusal) -> String {
    format!(r#"{{"success":false,"reason":"{refusal}"}}"#)
}

/// What `events`, `usage` and `verifyLedger` answer.
pub fn list<T: Serialize>(items: &[T]) -> String {
    json(&items)
}

/// What `create` answers: the only place where a raw key is written.
pub fn created(raw_key: &str, created: &CreatedKey) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Created<'a> {
        key: &'a str,
        id: &'a KeyId,
        scopes: &'a Option<Vec<String>>,
        budget_cents: Option<i64>,
        budget_period: &'a Option<String>,
        #[serde(serialize_with = "write_time")]
        expires_at: Option<DateTime<Utc>>,
    }
    json(&Created {
        key: raw_key,
        id: &created.id,
        scopes: &created.scopes,
        budget_cents: created.budget_cents,
        budget_period: &created.budget_period,
        expires_at: created.expires_at,
    })
}

/// A time with milliseconds, in UTC.
pub fn timestamp(at: &DateTime<Utc>) -> String {
    let text = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    match at.year() {
        0..=9999 => text,
        // Beyond them JavaScript writes a sign and six digits.
        year => {
            format!("{year:+07}{}", text.get(text.len() - "-01-01T00:00:00.000Z".len()..).unwrap_or_default())
        }
    }
}

/// Plain data cannot fail to become JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Success<'a> {
    valid: bool,
    id: &'a KeyId,
    account_id: &'a Option<AccountId>,
    user_id: &'a Option<String>,
    scopes: &'a Option<Vec<String>>,
    budget_cents: Option<i64>,
    budget_used_cents: i64,
    budget_remaining_cents: Option<i64>,
    budget_period: &'a Option<String>,
    #[serde(serialize_with = "write_time")]
    budget_reset_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "write_time")]
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
}

impl<'a> Success<'a> {
    fn exact(mut self, exact: bool) -> Self {
        if exact {
            self.budget_used_microcents = Some(self.used_microcents);
            let held = self.budget_reserved_cents.saturating_mul(MICROCENTS_PER_CENT);
            self.budget_remaining_microcents = self.budget_cents.map(|cents| {
                let cap = cents.saturating_mul(MICROCENTS_PER_CENT);
                cap.saturating_sub(self.used_microcents.saturating_add(held)).max(0)
            });
        }
        self
    }

    fn of(grant: &'a Grant) -> Self {
        Success {
            valid: true,
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
        }
    }
}

#[derive(Serialize)]
struct Failure<'a> {
    valid: bool,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Budget<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Success<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Budget<'a> {
    key_id: &'a KeyId,
    budget_cents: i64,
    used_cents: i64,
    reserved_cents: i64,
    #[serde(serialize_with = "write_time")]
    resets_at: Option<DateTime<Utc>>,
}

impl<'a> Budget<'a> {
    fn of(limit: &'a Limit) -> Self {
        Budget {
            key_id: &limit.key_id,
            budget_cents: limit.budget_cents,
            used_cents: limit.used_cents,
            reserved_cents: limit.reserved_cents,
            resets_at: limit.resets_at,
        }
    }
}

impl<'a> Failure<'a> {
    fn of(denial: &'a Denial, key: Option<Success<'a>>) -> Self {
        Failure {
            valid: false,
            reason: denial.reason.as_str(),
            limit: denial.limit.as_ref().map(Budget::of),
            key,
        }
    }
}

fn write_time<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    at.as_ref().map(timestamp).serialize(serializer)
}
