//! Reservations: an amount that is held before a call whose cost is known only afterwards. Each ends exactly once: it
//! is settled, released, or it expires.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::duration::seconds_until_expiry;
use crate::error::{Error, ErrorCode};
use crate::literal::parse_row;
use crate::lookup::{integer, place_in_batch, timestamp};
use crate::money::{Balance, Cost};
use crate::request::Outcome;
use crate::verdict::Limit;

/// How long a reservation holds unless it says otherwise.
pub(crate) const DEFAULT_TTL_SECONDS: u64 = 600;
const MAX_TTL_SECONDS: u64 = 30 * 86_400;

/// Names a reservation: a random UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReservationId(String);

impl ReservationId {
    /// A new one.
    ///
    /// # Errors
    /// `database` if the system has no random bytes.
    pub fn mint() -> Result<Self, Error> {
        let mut bytes = crate::key::random::<16>()?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = hex::encode(bytes);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Ok(ReservationId(parts.join("-")))
    }

    /// Reads one. `None` if no reservation has such an id.
    pub fn parse(text: &str) -> Option<Self> {
        let is_uuid = text.len() == 36
            && text.bytes().enumerate().all(|(i, b)| match i {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_hexdigit(),
            });
        is_uuid.then(|| ReservationId(text.to_ascii_lowercase()))
    }

    /// The id of no reservation: that of what cannot be one is looked up, and not found.
    pub fn nil() -> Self {
        ReservationId("00000000-0000-0000-0000-000000000000".to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ReservationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Seconds of a time to live such as `10m`.
pub(crate) fn ttl_seconds(ttl: &str) -> Result<u64, Error> {
    let seconds = match ttl.strip_suffix('s').filter(|digits| !digits.is_empty() && digits.len() <= 9) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => seconds_until_expiry(Some(ttl))?,
    };
    seconds.filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds)).ok_or_else(|| {
        let shown = crate::duration::shortened(ttl);
        Error::new(
            ErrorCode::InvalidDuration,
            format!("Invalid duration: {shown}; a reservation lives between 1s and 30d"),
        )
    })
}

/// How a reservation ends, or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// What was spent is recorded, and what was held is given back.
    Settle(Cost),
    /// What was held is given back.
    Release,
    /// It lives so many seconds from now.
    Extend {
        /// The seconds.
        ttl_seconds: u64,
    },
}

impl Finish {
    /// Extends a reservation: `10m`, `2h`.
    ///
    /// # Errors
    /// `invalid_duration` unless it is between a second and 30 days.
    pub fn extend(ttl: &str) -> Result<Self, Error> {
        ttl_seconds(ttl).map(|ttl_seconds| Finish::Extend { ttl_seconds })
    }

    pub(crate) fn action(self) -> &'static str {
        match self {
            Finish::Settle(_) => "settle",
            Finish::Release => "release",
            Finish::Extend { .. } => "extend",
        }
    }

    pub(crate) fn amount(self) -> i64 {
        match self {
            Finish::Settle(Cost::Microcents(amount)) => amount,
            Finish::Settle(Cost::Free | Cost::Invalid) | Finish::Release => 0,
            Finish::Extend { ttl_seconds } => i64::try_from(ttl_seconds).unwrap_or(i64::MAX),
        }
    }

    /// The answer for a reservation that does not exist.
    pub(crate) fn of_nothing(self) -> Outcome {
        self.refused(FinishRefusal::UnknownReservation)
    }

    pub(crate) fn refused(self, refusal: FinishRefusal) -> Outcome {
        match self {
            Finish::Settle(_) => Outcome::Settled(Err(refusal)),
            Finish::Release => Outcome::Released(Err(refusal)),
            Finish::Extend { .. } => Outcome::Extended(Err(refusal)),
        }
    }
}

/// An amount that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Names it to `settle`, `release` and `extend`.
    pub id: ReservationId,
    /// When it gives its amount back by itself, by the database's clock.
    pub expires_at: DateTime<Utc>,
    /// The key's budget with it.
    pub balance: Balance,
    /// Whether it was made earlier, under the same idempotency key. The balance is that of then.
    pub replayed: bool,
}

/// Why nothing is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReserveRefusal {
    /// The amount is not a number, or infinite.
    InvalidCost,
    /// There is no such key, or it or an ancestor was revoked.
    InvalidKey,
    /// The key or an ancestor is switched off for now.
    Disabled,
    /// The time of the key or an ancestor is over.
    Expired,
    /// It does not fit the budget of the key or an ancestor.
    BudgetExceeded,
    /// The idempotency key was used for another amount, or for a charge.
    IdempotencyConflict,
}

impl ReserveRefusal {
    /// Every refusal.
    pub const ALL: &'static [ReserveRefusal] = &[
        ReserveRefusal::InvalidCost,
        ReserveRefusal::InvalidKey,
        ReserveRefusal::Disabled,
        ReserveRefusal::Expired,
        ReserveRefusal::BudgetExceeded,
        ReserveRefusal::IdempotencyConflict,
    ];

    /// The refusal's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReserveRefusal::InvalidCost => "invalid_cost",
            ReserveRefusal::InvalidKey => "invalid_key",
            ReserveRefusal::Disabled => "disabled",
            ReserveRefusal::Expired => "expired",
            ReserveRefusal::BudgetExceeded => "budget_exceeded",
            ReserveRefusal::IdempotencyConflict => "idempotency_conflict",
        }
    }
}

impl std::fmt::Display for ReserveRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused reserve: nothing is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedReserve {
    /// Why.
    pub reason: ReserveRefusal,
    /// The budget that has no room, where that is the reason.
    pub limit: Option<Limit>,
}

impl From<ReserveRefusal> for RefusedReserve {
    fn from(reason: ReserveRefusal) -> Self {
        RefusedReserve { reason, limit: None }
    }
}

/// What `reserve` answers.
pub type Reserved = Result<Reservation, RefusedReserve>;

/// A settled reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// What was spent, in micro-cents.
    pub cost_microcents: i64,
    /// By how much that is more than was held, in micro-cents.
    pub overage_microcents: i64,
    /// The key's budget after it.
    pub balance: Balance,
    /// Whether it was settled earlier. What that settled counts, and the balance is that of then.
    pub replayed: bool,
}

/// Why a reservation was not settled, released or extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishRefusal {
    /// What was spent is not a number, or infinite.
    InvalidCost,
    /// There is no such reservation.
    UnknownReservation,
    /// It was released.
    Released,
    /// It was settled.
    Settled,
    /// Its time was over: what it held is given back.
    Expired,
}

impl FinishRefusal {
    /// Every refusal.
    pub const ALL: &'static [FinishRefusal] = &[
        FinishRefusal::InvalidCost,
        FinishRefusal::UnknownReservation,
        FinishRefusal::Released,
        FinishRefusal::Settled,
        FinishRefusal::Expired,
    ];

    /// The refusal's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            FinishRefusal::InvalidCost => "invalid_cost",
            FinishRefusal::UnknownReservation => "unknown_reservation",
            FinishRefusal::Released => "released",
            FinishRefusal::Settled => "settled",
            FinishRefusal::Expired => "expired",
        }
    }
}

impl std::fmt::Display for FinishRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `settle` answers. Refusals: `invalid_cost`, `unknown_reservation`, `released`.
pub type Settled = Result<Settlement, FinishRefusal>;
/// What `release` answers: whether it gave an amount back. Refusal: `unknown_reservation`.
pub type Released = Result<bool, FinishRefusal>;
/// What `extend` answers: the new expiry. Refusals: all but `invalid_cost`.
pub type Extended = Result<DateTime<Utc>, FinishRefusal>;

/// A row of `settle.sql`.
pub(crate) struct FinishedRow {
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

impl FinishedRow {
    pub(crate) fn read(row: &str) -> Result<Self, Error> {
        let fields = parse_row(row).ok_or_else(|| Error::unexpected("a reservation's row"))?;
        let Ok(fields): Result<[_; 9], _> = fields.try_into() else {
            return Err(Error::unexpected("a reservation's row of other columns"));
        };
        let [place, state, new_state, held, cost, budget, used, reserved, expires_at] = fields;
        let balance = match (integer(&used)?, integer(&reserved)?) {
            (Some(used), Some(reserved)) => Some(Balance::new(integer(&budget)?, used, reserved)),
            _ => None,
        };
        Ok(FinishedRow {
            place: place_in_batch(place.as_deref())?,
            state: state.ok_or_else(|| Error::unexpected("no state"))?.into_owned(),
            new_state: new_state.map(std::borrow::Cow::into_owned),
            held: integer(&held)?.ok_or_else(|| Error::unexpected("no amount"))?,
            cost: integer(&cost)?,
            balance,
            expires_at: timestamp(expires_at.as_deref())?,
        })
    }

    /// Whether the reservation ended by this, or was extended.
    pub(crate) fn has_changed(&self) -> bool {
        self.new_state.is_some()
    }

    /// What the row means for whoever wanted the reservation to end or go on.
    pub(crate) fn outcome(&self, finish: Finish) -> Result<Outcome, Error> {
        let has_changed = self.has_changed();
        Ok(match (finish, self.state.as_str()) {
            (Finish::Settle(_), "released") => finish.refused(FinishRefusal::Released),
            (Finish::Settle(_), _) => match (self.cost, self.balance) {
                (Some(cost), Some(balance)) => Outcome::Settled(Ok(Settlement {
                    cost_microcents: cost,
                    overage_microcents: cost.saturating_sub(self.held).max(0),
                    balance,
                    replayed: !has_changed,
                })),
                // Its key is gone, and all that there was to draw on.
                _ => finish.of_nothing(),
            },
            (Finish::Release, _) => Outcome::Released(Ok(has_changed)),
            (Finish::Extend { .. }, _) => match (has_changed, self.expires_at, self.state.as_str()) {
                (true, Some(expires_at), _) => Outcome::Extended(Ok(expires_at)),
                (_, _, "settled") => finish.refused(FinishRefusal::Settled),
                (_, _, "released") => finish.refused(FinishRefusal::Released),
                _ => finish.refused(FinishRefusal::Expired),
            },
        })
    }
}
