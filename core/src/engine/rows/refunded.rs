//! `refund.sql`: what its row means.

use super::{fields, integer, is_true};
use crate::budget::charge::{ChargeOutcome, ChargeRefusal, Charged};
use crate::budget::money::Balance;
use crate::error::Error;

/// No row means that there is no such key.
pub(crate) fn refunded(rows: &[String]) -> Result<ChargeOutcome, Error> {
    let Some(row) = rows.first() else { return Ok(Err(ChargeRefusal::InvalidKey)) };
    let [budget, used, reserved, replayed, is_other] = fields(row, "a refund's row")?;
    if is_true(&is_other) {
        return Ok(Err(ChargeRefusal::IdempotencyConflict));
    }
    let (Some(used), Some(reserved)) =
        (integer(&used, "budget_used_cents")?, integer(&reserved, "budget_reserved_cents")?)
    else {
        return Err(Error::unexpected("a refund without a balance"));
    };
    let balance = Some(Balance::new(integer(&budget, "budget_cents")?, used, reserved));
    Ok(Ok(Charged { balance, replayed: is_true(&replayed) }))
}
