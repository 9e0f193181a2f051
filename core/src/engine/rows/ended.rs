//! `settle.sql`: ends and extensions of reservations. What is sent, and what its rows mean.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::time::timestamp;
use super::{fields, integer, place};
use crate::budget::money::{Balance, Cost};
use crate::budget::reservation::{ReservationRefusal, Settlement};
use crate::engine::answer::Answer;
use crate::error::Error;

/// What a reservation is to become.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReservationChange {
    /// What was spent is recorded, and what was held is given back.
    Settle(Cost),
    /// What was held is given back.
    Release,
    /// It lives so long from now.
    Extend(Duration),
}

impl ReservationChange {
    pub(crate) fn action(self) -> &'static str {
        match self {
            ReservationChange::Settle(_) => "settle",
            ReservationChange::Release => "release",
            ReservationChange::Extend(_) => "extend",
        }
    }

    pub(crate) fn amount(self) -> i64 {
        match self {
            ReservationChange::Settle(Cost::Microcents(amount)) => amount,
            ReservationChange::Settle(Cost::Free | Cost::Invalid) | ReservationChange::Release => 0,
            ReservationChange::Extend(ttl) => i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
        }
    }

    /// The answer for a reservation that does not exist.
    pub(crate) fn of_nothing(self) -> Answer {
        self.refused(ReservationRefusal::UnknownReservation)
    }

    pub(crate) fn refused(self, refusal: ReservationRefusal) -> Answer {
        match self {
            ReservationChange::Settle(_) => Answer::Settled(Err(refusal)),
            ReservationChange::Release => Answer::Released(Err(refusal)),
            ReservationChange::Extend(_) => Answer::Extended(Err(refusal)),
        }
    }
}

/// A row of `settle.sql`, which declares the order.
pub(crate) struct EndedRow {
    /// The place in the batch, from 0.
    pub(crate) place: usize,
    state: String,
    /// `None` if nothing changed.
    new_state: Option<String>,
    held: i64,
    cost: Option<i64>,
    balance: Option<Balance>,
    expires_at: Option<DateTime<Utc>>,
}

impl EndedRow {
    pub(crate) fn read(row: &str) -> Result<Self, Error> {
        let [n, state, new_state, held, cost, budget, used, reserved, expires_at] =
            fields(row, "a reservation's row")?;
        let balance =
            match (integer(&used, "budget_used_cents")?, integer(&reserved, "budget_reserved_cents")?) {
                (Some(used), Some(reserved)) => {
                    Some(Balance::new(integer(&budget, "budget_cents")?, used, reserved))
                }
                _ => None,
            };
        Ok(EndedRow {
            place: place(&n)?,
            state: state.ok_or_else(|| Error::unexpected("no state"))?.into_owned(),
            new_state: new_state.map(Cow::into_owned),
            held: integer(&held, "amount_microcents")?.ok_or_else(|| Error::unexpected("no amount"))?,
            cost: integer(&cost, "settled_microcents")?,
            balance,
            expires_at: timestamp(expires_at.as_deref(), "expires_at")?,
        })
    }

    /// The id of a row that somebody else has locked: nothing was decided.
    pub(crate) fn busy_id(&self) -> Option<&str> {
        self.new_state.as_deref().filter(|_| self.state == "busy")
    }

    /// Others of the batch took the room that its cost needs: nothing was decided.
    pub(crate) fn is_undecided(&self) -> bool {
        self.state == "again"
    }

    /// Whether the reservation ended by this, or was extended.
    pub(crate) fn has_changed(&self) -> bool {
        self.new_state.is_some() && self.state != "busy"
    }

    /// What the row means for whoever asked for the change.
    pub(crate) fn answer(&self, change: ReservationChange) -> Answer {
        let has_changed = self.has_changed();
        match (change, self.state.as_str()) {
            (ReservationChange::Settle(_), "unrecordable") => {
                change.refused(ReservationRefusal::Unrecordable { cost_microcents: change.amount() })
            }
            (ReservationChange::Settle(_), "released") => change.refused(ReservationRefusal::Released),
            (ReservationChange::Settle(_), _) => match (self.cost, self.balance) {
                (Some(cost), Some(balance)) => Answer::Settled(Ok(Settlement {
                    cost_microcents: cost,
                    overage_microcents: cost.saturating_sub(self.held).max(0),
                    balance,
                    replayed: !has_changed,
                })),
                // Its key is gone, and all that there was to draw on.
                _ => change.of_nothing(),
            },
            (ReservationChange::Release, _) => Answer::Released(Ok(has_changed)),
            (ReservationChange::Extend(_), _) => match (has_changed, self.expires_at, self.state.as_str()) {
                (true, Some(expires_at), _) => Answer::Extended(Ok(expires_at)),
                (_, _, "settled") => change.refused(ReservationRefusal::Settled),
                (_, _, "released") => change.refused(ReservationRefusal::Released),
                _ => change.refused(ReservationRefusal::Expired),
            },
        }
    }
}
