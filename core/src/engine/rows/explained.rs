//! `explain.sql`: a key of a chain, its budget, and what is held of it.

use super::time::{Moment, timestamp};
use super::{fields, integer, is_true, read_key_id};
use crate::budget::limit::WhenExceeded;
use crate::budget::money::Balance;
use crate::budget::reservation::ReservationId;
use crate::error::Error;
use crate::key::explanation::{ExplainedLimit, Hold, Holds};
use crate::key::grant::DenialReason;
use crate::key::record::KeyState;
use crate::table::literal::parse_array;
use crate::table::shape::TableShape;

/// `None` of a limit that is not in force any more.
pub(crate) fn read_limit(row: &str, shape: &TableShape) -> Result<Option<ExplainedLimit>, Error> {
    let [
        id,
        state,
        name,
        period,
        budget_cents,
        used,
        reserved,
        room,
        reset_at,
        boost,
        boost_until,
        holds,
        held,
        recoverable,
        oldest,
        when_exceeded,
    ] = fields(row, "a limit's row")?;
    let budget_cents = integer(&budget_cents, "budget_cents")?;
    let when_exceeded = WhenExceeded::of_row(when_exceeded.as_deref());
    if when_exceeded.is_some() && budget_cents.is_none() {
        return Ok(None);
    }
    let amount = |field, column: &str| {
        integer(field, column)?.ok_or_else(|| Error::unexpected(format_args!("a limit without {column}")))
    };
    let reason = match state.as_deref() {
        None => Some(DenialReason::Invalid),
        Some(state) => match state.parse()? {
            KeyState::Live => None,
            KeyState::Revoked => Some(DenialReason::Revoked),
            KeyState::Disabled => Some(DenialReason::Disabled),
            KeyState::Expired => Some(DenialReason::Expired),
        },
    };
    let exists = state.is_some();
    let used = amount(&used, "budget_used_cents")?;
    let reserved = amount(&reserved, "budget_reserved_cents")?;
    let oldest = match oldest {
        None => Vec::new(),
        Some(array) => {
            let rows = parse_array(&array).ok_or_else(|| Error::unexpected("a list of reservations"))?;
            rows.iter()
                .map(|row| read_hold(row.as_deref().unwrap_or_default(), shape))
                .collect::<Result<_, _>>()?
        }
    };
    Ok(Some(ExplainedLimit {
        key_id: id.map(|id| read_key_id(&id, shape)).transpose()?,
        name: exists.then(|| name.map_or_else(|| "default".to_owned(), |name| name.into_owned())),
        reason,
        budget_cents,
        budget_period: period.map(|period| period.into_owned()),
        balance: Balance::new(budget_cents, used, reserved),
        resets_at: Moment::read(reset_at.as_deref(), "budget_reset_at")?.and_then(Moment::reset),
        boost_cents: integer(&boost, "budget_boost_cents")?,
        boost_until: timestamp(boost_until.as_deref(), "budget_boost_until")?,
        holds: Holds {
            count: amount(&holds, "a count of reservations")?,
            amount_microcents: amount(&held, "amount_microcents")?,
            recoverable_microcents: amount(&recoverable, "amount_microcents")?,
            oldest,
        },
        room_microcents: amount(&room, "room")?,
        when_exceeded,
    }))
}

fn read_hold(row: &str, shape: &TableShape) -> Result<Hold, Error> {
    let [id, key_id, amount, created_at, expires_at, is_over] = fields(row, "a reservation's row")?;
    let lacks = |what: &str| Error::unexpected(format_args!("a reservation without {what}"));
    Ok(Hold {
        reservation_id: ReservationId::parse(&id.unwrap_or_default()).ok_or_else(|| lacks("an id"))?,
        key_id: read_key_id(&key_id.ok_or_else(|| lacks("a key"))?, shape)?,
        amount_microcents: integer(&amount, "amount_microcents")?.ok_or_else(|| lacks("an amount"))?,
        created_at: timestamp(created_at.as_deref(), "created_at")?.ok_or_else(|| lacks("its beginning"))?,
        expires_at: timestamp(expires_at.as_deref(), "expires_at")?.ok_or_else(|| lacks("its end"))?,
        expired: is_true(&is_over),
    })
}
