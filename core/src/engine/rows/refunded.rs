//! `refund.sql`: what its row means.

use super::{fields, integer, is_true};
use crate::budget::charge::{ChargeOutcome, ChargeRefusal, Charged};
use crate::budget::money::Balance;
use crate::error::Error;

/// What became of a refund.
pub(crate) enum Refunded {
    Done(ChargeOutcome),
    /// Somebody else has locked the row of this id.
    Busy(String),
}

/// No row means that there is no such key.
pub(crate) fn refunded(rows: &[String]) -> Result<Refunded, Error> {
    let Some(row) = rows.first() else { return Ok(Refunded::Done(Err(ChargeRefusal::InvalidKey))) };
    let [budget, used, reserved, replayed, is_other, busy] = fields(row, "a refund's row")?;
    if let Some(id) = busy {
        return Ok(Refunded::Busy(id.into_owned()));
    }
    if is_true(&is_other) {
        return Ok(Refunded::Done(Err(ChargeRefusal::IdempotencyConflict)));
    }
    let (Some(used), Some(reserved)) =
        (integer(&used, "budget_used_cents")?, integer(&reserved, "budget_reserved_cents")?)
    else {
        return Err(Error::unexpected("a refund without a balance"));
    };
    let balance = Some(Balance::new(integer(&budget, "budget_cents")?, used, reserved));
    Ok(Refunded::Done(Ok(Charged { balance, replayed: is_true(&replayed) })))
}
