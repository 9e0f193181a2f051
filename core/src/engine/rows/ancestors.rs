//! `ancestor_state.sql`: how a key's ancestors, and its limits, bear on it.

use std::borrow::Cow;

use super::lookup::{balance, reason};
use super::time::{Moment, is_over};
use super::{integer, is_true, read_key_id};
use crate::budget::limit::{Limit, LimitState, WhenExceeded};
use crate::error::Error;
use crate::id::KeyId;
use crate::key::grant::DenialReason;
use crate::table::literal::{parse_array, parse_row};
use crate::table::shape::TableShape;

/// An ancestor, as far as it bears on its descendants.
pub(super) struct Ancestor {
    /// `None` of a limit, which is of the key before it, and if the chain that says there is one cannot be.
    pub(super) id: Option<KeyId>,
    /// Whether it is a limit, and no key.
    pub(super) is_limit: bool,
    /// What is used of a limit that is in force.
    pub(super) state: Option<LimitState>,
    pub(super) reason: Option<DenialReason>,
    pub(super) limit: Option<Limit>,
    pub(super) seconds_left: Option<i64>,
}

/// Reads what `validate.sql` says of ancestors: an array of rows. One that was deleted stops its descendants too.
pub(super) fn read_ancestors(
    states: &str,
    key_id: &KeyId,
    now: Moment,
    shape: &TableShape,
) -> Result<Vec<Ancestor>, Error> {
    let wrong = || Error::unexpected("an ancestor");
    // A limit is of the nearest key before it.
    let mut owner = Some(key_id.clone());
    let states = parse_array(states).ok_or_else(wrong)?;
    states
        .iter()
        .map(|state| {
            let fields = parse_row(state.as_deref().ok_or_else(wrong)?).ok_or_else(wrong)?;
            let Ok(fields): Result<[_; 13], _> = fields.try_into() else { return Err(wrong()) };
            let [
                id,
                exists,
                budget,
                used,
                used_micro,
                reserved,
                reset_at,
                expires_at,
                revoked,
                disabled,
                next_reset,
                period,
                when_exceeded,
            ] = fields;
            let expires_at = Moment::read(expires_at.as_deref(), "expires_at")?;
            let when_exceeded = WhenExceeded::of_row(when_exceeded.as_deref());
            // NULL if the chain that says there is one cannot be.
            let id = id.map(|id| read_key_id(&id, shape)).transpose()?;
            if when_exceeded.is_none() {
                owner.clone_from(&id);
            }
            let budget_cents = integer(&budget, "budget_cents")?;
            let period_used = next_reset.is_none().then_some((&used, &used_micro));
            let reserved = integer(&reserved, "budget_reserved_cents")?.unwrap_or(0);
            let balance = balance(budget_cents, period_used, reserved)?;
            let reason = match is_true(&exists) {
                true => reason(&revoked, &disabled, is_over(expires_at, now), &balance),
                false => Some(DenialReason::Revoked),
            };
            let resets_at = Moment::read(next_reset.as_deref().or(reset_at.as_deref()), "budget_reset_at")?
                .and_then(Moment::reset);
            let period = period.filter(|_| when_exceeded.is_some()).map(Cow::into_owned);
            let state = when_exceeded.zip(budget_cents).map(|(when_exceeded, cents)| LimitState {
                cents,
                period: period.clone(),
                when_exceeded,
                used_cents: balance.used_cents(),
                reserved_cents: balance.reserved_cents(),
                remaining_cents: balance.remaining_cents().unwrap_or_default(),
                resets_at,
            });
            let limit = match (reason, budget_cents, &owner) {
                (Some(DenialReason::BudgetExceeded), Some(budget_cents), Some(key_id)) => Some(Limit {
                    key_id: key_id.clone(),
                    budget_cents,
                    used_cents: balance.used_cents(),
                    reserved_cents: balance.reserved_cents(),
                    resets_at,
                    period,
                    when_exceeded,
                    breaker: id.clone().filter(|_| when_exceeded.is_some_and(WhenExceeded::is_breaker)),
                }),
                _ => None,
            };
            let seconds_left = expires_at.and_then(|at| at.seconds_after(now));
            let is_limit = when_exceeded.is_some();
            Ok(Ancestor { id: id.filter(|_| !is_limit), is_limit, state, reason, limit, seconds_left })
        })
        .collect()
}
