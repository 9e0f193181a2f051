//! What a look-up's row says of a key's ancestors.

use super::lookup::{balance, reason};
use super::time::{Moment, is_over};
use super::{integer, is_true, read_key_id};
use crate::budget::limit::Limit;
use crate::error::Error;
use crate::id::KeyId;
use crate::key::grant::DenialReason;
use crate::table::literal::{parse_array, parse_row};
use crate::table::shape::TableShape;

/// An ancestor, as far as it bears on its descendants.
pub(super) struct Ancestor {
    /// `None` if the chain that says there is one cannot be.
    pub(super) id: Option<KeyId>,
    pub(super) reason: Option<DenialReason>,
    pub(super) limit: Option<Limit>,
    pub(super) seconds_left: Option<i64>,
}

/// Reads what `validate.sql` says of ancestors: an array of rows. One that was deleted stops its descendants too.
pub(super) fn read_ancestors(states: &str, now: Moment, shape: &TableShape) -> Result<Vec<Ancestor>, Error> {
    let wrong = || Error::unexpected("an ancestor");
    let states = parse_array(states).ok_or_else(wrong)?;
    states
        .iter()
        .map(|state| {
            let fields = parse_row(state.as_deref().ok_or_else(wrong)?).ok_or_else(wrong)?;
            let Ok(fields): Result<[_; 11], _> = fields.try_into() else { return Err(wrong()) };
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
            ] = fields;
            let expires_at = Moment::read(expires_at.as_deref(), "expires_at")?;
            let id = id.map(|id| read_key_id(&id, shape)).transpose()?;
            let budget_cents = integer(&budget, "budget_cents")?;
            let period_used = next_reset.is_none().then_some((&used, &used_micro));
            let reserved = integer(&reserved, "budget_reserved_cents")?.unwrap_or(0);
            let balance = balance(budget_cents, period_used, reserved)?;
            let reason = match is_true(&exists) {
                true => reason(&revoked, &disabled, is_over(expires_at, now), &balance),
                false => Some(DenialReason::Revoked),
            };
            let limit = match (reason, budget_cents, &id) {
                (Some(DenialReason::BudgetExceeded), Some(budget_cents), Some(id)) => Some(Limit {
                    key_id: id.clone(),
                    budget_cents,
                    used_cents: balance.used_cents(),
                    reserved_cents: balance.reserved_cents(),
                    resets_at: Moment::read(
                        next_reset.as_deref().or(reset_at.as_deref()),
                        "budget_reset_at",
                    )?
                    .and_then(Moment::reset),
                }),
                _ => None,
            };
            Ok(Ancestor { id, reason, limit, seconds_left: expires_at.and_then(|at| at.seconds_after(now)) })
        })
        .collect()
}
