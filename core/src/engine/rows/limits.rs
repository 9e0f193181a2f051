//! Limits of keys: rows of their own, among the ancestors of their keys.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::time::Moment;
use super::{fields, integer, only_field, read_key_id};
use crate::budget::limit::{KeyLimit, Limit, WhenExceeded, invalid};
use crate::budget::money::cents_rounded_up;
use crate::engine::options::Options;
use crate::error::Error;
use crate::key::raw::{KeyHash, unusable_hash};
use crate::table::shape::TableShape;

/// Hashes that no key has.
pub(crate) fn unusable_hashes(count: usize) -> Result<Vec<KeyHash>, Error> {
    (0..count).map(|_| unusable_hash()).collect()
}

/// The rows of limits, as `insert_key.sql` and `update_limits.sql` take them.
pub(crate) fn limit_rows(limits: &[KeyLimit], hashes: &[KeyHash], options: &Options) -> Value {
    let row = |(limit, hash): (&KeyLimit, &KeyHash)| {
        json!({
            "key_hash": hash.as_str(),
            "budget_cents": limit.cents,
            "budget_period": limit.period,
            "align": options.align.as_str(),
            "when_exceeded": limit.when_exceeded.as_str(),
        })
    };
    limits.iter().zip(hashes).map(row).collect()
}

/// What became of a key that is to have other limits.
pub(crate) enum Relimited {
    Done,
    /// A row is locked, or changed just now.
    Busy,
}

/// Reads the row of `update_limits.sql`.
pub(crate) fn read_relimited(row: &str) -> Result<Relimited, Error> {
    match only_field(row).as_deref() {
        Some("done") => Ok(Relimited::Done),
        Some("busy") => Ok(Relimited::Busy),
        Some("parent") => Err(invalid(
            "a key that has children gets no more than it had before them; give it its limits before its children",
        )),
        _ => Err(Error::unexpected("what became of a key's limits")),
    }
}

/// The budget of a row that has no room; `None` if it has no budget, and more cannot be stored.
pub(crate) fn read_limit(row: &str, shape: &TableShape) -> Result<Option<Limit>, Error> {
    let [id, budget, used, reserved, reset_at, period, when_exceeded, row_id] =
        fields(row, "a budget's row")?;
    let Some(budget_cents) = integer(&budget, "budget_cents")? else { return Ok(None) };
    let amount = |field, column| integer(field, column).map(|amount| amount.map_or(0, cents_rounded_up));
    let when_exceeded = WhenExceeded::of_row(when_exceeded.as_deref());
    let breaker = row_id.filter(|_| when_exceeded.is_some_and(WhenExceeded::is_breaker));
    Ok(Some(Limit {
        key_id: read_key_id(&id.ok_or_else(|| Error::unexpected("a budget without a key"))?, shape)?,
        budget_cents,
        used_cents: amount(&used, "budget_used_cents")?,
        reserved_cents: amount(&reserved, "budget_reserved_cents")?,
        resets_at: Moment::read(reset_at.as_deref(), "budget_reset_at")?.and_then(Moment::reset),
        period: period.filter(|_| when_exceeded.is_some()).map(Cow::into_owned),
        when_exceeded,
        breaker: breaker.map(|id| read_key_id(&id, shape)).transpose()?,
    }))
}
