//! What the methods of an application's own double answer, as JSON. It may say less than our own client does.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::budget::charge::{ChargeOutcome, ChargeRefusal, Charged};
use crate::budget::limit::{Limit, WhenExceeded};
use crate::budget::money::{Balance, MICROCENTS_PER_CENT};
use crate::budget::reservation::{Released, ReservationId, ReservationRefusal, Settled, Settlement};
use crate::engine::{Reservation, ReserveRefusal, ReserveRefusalReason, Reserved};
use crate::error::Error;
use crate::id::{AccountId, KeyId};
use crate::key::grant::{Denial, DenialReason, Grant, Verdict};

pub(super) fn verdict(text: &str) -> Result<Verdict, Error> {
    let wrong = |what: String| Error::unexpected(format_args!("no verdict: {what}"));
    match serde_json::from_str(text).map_err(|e| wrong(e.to_string()))? {
        ReadVerdict { valid: true, key, .. } => {
            Ok(Ok(key.grant().ok_or_else(|| wrong("a key without an id".to_owned()))?))
        }
        ReadVerdict { valid: false, reason, limit, .. } => {
            let reason = named(DenialReason::ALL, DenialReason::as_str, reason.as_deref())?;
            Ok(Err(Denial { reason, limit: limit.map(ReadLimit::limit), key: None }))
        }
    }
}

/// The grant is not the double's to say: whoever looked the key up fills it in.
pub(super) fn reserved(text: &str) -> Result<Reserved, Error> {
    let read: ReadReserved = read(text)?;
    if !read.success {
        let all = ReserveRefusalReason::ALL;
        let reason = named(all, ReserveRefusalReason::as_str, read.reason.as_deref())?;
        return Ok(Err(ReserveRefusal {
            limit: read.limit.map(ReadLimit::limit),
            ..ReserveRefusal::new(reason)
        }));
    }
    let id = read.reservation_id.as_deref().and_then(ReservationId::parse);
    let id = id.ok_or_else(|| Error::unexpected("a reservation without an id"))?;
    let nobody = ReadKey { id: Some(KeyId::Integer(0)), ..ReadKey::default() };
    let grant = nobody.grant().ok_or_else(|| Error::unexpected("no key"))?;
    Ok(Ok(Reservation {
        id,
        expires_at: read.expires_at.unwrap_or_default(),
        balance: Balance::default(),
        replayed: read.replayed.unwrap_or(false),
        grant: Box::new(grant),
    }))
}

pub(super) fn settled(text: &str) -> Result<Settled, Error> {
    match ended(text)? {
        Ok(()) => Ok(Ok(Settlement {
            cost_microcents: 0,
            overage_microcents: 0,
            balance: Balance::default(),
            replayed: false,
        })),
        Err(refusal) => Ok(Err(refusal)),
    }
}

pub(super) fn released(text: &str) -> Result<Released, Error> {
    Ok(ended(text)?.map(|()| true))
}

/// Whether a reservation ended, or why it did not.
fn ended(text: &str) -> Result<Result<(), ReservationRefusal>, Error> {
    let read: ReadReserved = read(text)?;
    if read.success {
        return Ok(Ok(()));
    }
    named(ReservationRefusal::ALL, ReservationRefusal::as_str, read.reason.as_deref()).map(Err)
}

pub(super) fn charged(text: &str) -> Result<ChargeOutcome, Error> {
    let read: ReadReserved = read(text)?;
    if read.success {
        return Ok(Ok(Charged::FREE));
    }
    named(ChargeRefusal::ALL, ChargeRefusal::as_str, read.reason.as_deref()).map(Err)
}

fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|e| Error::unexpected(format_args!("a double's answer: {e}")))
}

/// The reason of that name.
fn named<R: Copy>(all: &[R], name: impl Fn(R) -> &'static str, wanted: Option<&str>) -> Result<R, Error> {
    let found = all.iter().copied().find(|reason| Some(name(*reason)) == wanted);
    found.ok_or_else(|| Error::unexpected(format_args!("the reason {wanted:?}")))
}

#[derive(Deserialize)]
struct ReadVerdict {
    valid: bool,
    reason: Option<String>,
    limit: Option<ReadLimit>,
    #[serde(flatten)]
    key: ReadKey,
}

/// Every member but the id may be missing: the original's results know fewer.
#[derive(Default, Deserialize)]
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
            wildcards: false,
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
            budget_reserved_microcents: self
                .budget_reserved_cents
                .unwrap_or(0)
                .saturating_mul(MICROCENTS_PER_CENT),
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
    period: Option<String>,
    when_exceeded: Option<WhenExceeded>,
}

impl ReadLimit {
    fn limit(self) -> Limit {
        Limit {
            key_id: self.key_id,
            budget_cents: self.budget_cents,
            used_cents: self.used_cents,
            reserved_cents: self.reserved_cents,
            resets_at: self.resets_at,
            period: self.period,
            when_exceeded: self.when_exceeded,
            breaker: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadReserved {
    success: bool,
    reason: Option<String>,
    limit: Option<ReadLimit>,
    reservation_id: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    replayed: Option<bool>,
}
