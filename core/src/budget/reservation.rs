//! Reservations: an amount that is held before a call whose cost is known only afterwards. Each ends exactly once: it
//! is settled, released, or it expires.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::money::{Balance, Cost};
use crate::duration;
use crate::error::{Error, ErrorCode, shortened};

/// How long a reservation holds unless it says otherwise.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(600);
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);

/// Names a reservation: a random UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReservationId(String);

impl ReservationId {
    /// A new one.
    pub(crate) fn mint() -> Result<Self, Error> {
        crate::random::uuid().map(ReservationId)
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

    /// The id that a caller wrote. Malformed ids map to the nil UUID, which matches nothing.
    pub(crate) fn of_text(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| ReservationId("00000000-0000-0000-0000-000000000000".to_owned()))
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

/// Reads a time to live such as `10m`, between a second and 30 days.
pub(crate) fn read_ttl(text: &str) -> Result<Duration, Error> {
    let ttl = duration::read_with_seconds(text)?;
    ttl.filter(|ttl| check_ttl(*ttl).is_ok()).ok_or_else(|| invalid_ttl(&shortened(text)))
}

/// Refuses a time to live that is too short or too long.
pub(crate) fn check_ttl(ttl: Duration) -> Result<(), Error> {
    match (Duration::from_secs(1)..=MAX_TTL).contains(&ttl) {
        true => Ok(()),
        false => Err(invalid_ttl(&format!("{ttl:?}"))),
    }
}

fn invalid_ttl(shown: &str) -> Error {
    Error::new(
        ErrorCode::InvalidDuration,
        format!("Invalid duration: {shown}; a reservation lives between 1s and 30d"),
    )
}

/// What a reservation is worth that nobody ends before its time is over: its process was killed, perhaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfExpired {
    /// Nothing: it gives back what it holds. A settlement that comes later is recorded still.
    #[default]
    Release,
    /// What it holds, which is recorded as spent.
    Settle,
}

impl IfExpired {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            IfExpired::Release => "release",
            IfExpired::Settle => "settle",
        }
    }
}

impl FromStr for IfExpired {
    type Err = Error;

    /// `release` or `settle`.
    fn from_str(name: &str) -> Result<Self, Error> {
        let all = [IfExpired::Release, IfExpired::Settle];
        all.into_iter().find(|worth| worth.as_str() == name).ok_or_else(|| {
            let message = format!("Invalid ifExpired: {}; it must be release or settle", shortened(name));
            Error::new(ErrorCode::InvalidText, message)
        })
    }
}

/// A reserve, with its options. A number of cents, or a [`Cost`], is held for 10 minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    pub(crate) cost: Cost,
    pub(crate) ttl: Duration,
    pub(crate) if_expired: IfExpired,
    pub(crate) scope: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) metadata: Option<Map<String, Value>>,
}

impl Reserve {
    /// A plain reserve.
    pub fn new(cost: impl Into<Cost>) -> Self {
        Reserve {
            cost: cost.into(),
            ttl: DEFAULT_TTL,
            if_expired: IfExpired::Release,
            scope: None,
            idempotency_key: None,
            metadata: None,
        }
    }

    /// Sets how long it holds, between a second and 30 days.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets what it is worth if nobody ends it in time.
    pub fn if_expired(mut self, worth: IfExpired) -> Self {
        self.if_expired = worth;
        self
    }

    /// Sets the scope that the key must have. A key that lacks it holds nothing.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Sets the idempotency key. A second reserve of the same API key under it answers the first one's reservation.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets what is kept with the reservation, and in the ledger: a JSON object of at most 16 KiB.
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.metadata = Some(metadata);
        self
    }
}

impl<C: Into<Cost>> From<C> for Reserve {
    fn from(cost: C) -> Self {
        Reserve::new(cost)
    }
}

/// A settled reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Settlement {
    /// What was spent, in micro-cents.
    pub cost_microcents: i64,
    /// By how much that is more than was held, in micro-cents.
    pub overage_microcents: i64,
    /// The key's budget after it.
    pub balance: Balance,
    /// Whether it was settled earlier. The first settlement counts, and the balance is that of then.
    pub replayed: bool,
}

/// Why a reservation was not settled, released or extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use]
pub enum ReservationRefusal {
    /// What was spent is not a number, or infinite.
    InvalidCost,
    /// There is no such reservation.
    UnknownReservation,
    /// It was released.
    Released,
    /// It was settled.
    Settled,
    /// Its time was over, and it gave back what it held.
    Expired,
    /// The columns cannot hold the key's, or an ancestor's, total with this cost: nothing was recorded, and the
    /// reservation still holds its amount.
    Unrecordable {
        /// What was to be recorded.
        cost_microcents: i64,
    },
}

impl ReservationRefusal {
    /// Every refusal.
    pub const ALL: &'static [ReservationRefusal] = &[
        ReservationRefusal::InvalidCost,
        ReservationRefusal::UnknownReservation,
        ReservationRefusal::Released,
        ReservationRefusal::Settled,
        ReservationRefusal::Expired,
        ReservationRefusal::Unrecordable { cost_microcents: 0 },
    ];

    /// The refusal's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReservationRefusal::InvalidCost => "invalid_cost",
            ReservationRefusal::UnknownReservation => "unknown_reservation",
            ReservationRefusal::Released => "released",
            ReservationRefusal::Settled => "settled",
            ReservationRefusal::Expired => "expired",
            ReservationRefusal::Unrecordable { .. } => "unrecordable",
        }
    }
}

impl std::fmt::Display for ReservationRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for ReservationRefusal {}

/// What `settle` answers. Refusals: `invalid_cost`, `unknown_reservation`, `released`, `unrecordable`.
pub type Settled = Result<Settlement, ReservationRefusal>;
/// What `release` answers: whether it gave an amount back. Refusal: `unknown_reservation`.
pub type Released = Result<bool, ReservationRefusal>;
/// What `extend` answers: the new expiry. Refusals: all but `invalid_cost`.
pub type Extended = Result<DateTime<Utc>, ReservationRefusal>;
