//! What the engine answers, one kind for each kind of request.

use chrono::{DateTime, Utc};

use super::deliveries::OpenDelivery;
use super::diagnosis::Finding;
use super::webhook::Delivery;
use crate::budget::charge::{ChargeOutcome, ChargeRefusal};
use crate::budget::increase::Increase;
use crate::budget::increase_outcome::IncreaseOutcome;
use crate::budget::ledger::{Discrepancy, Event, UsageOfPeriod};
use crate::budget::limit::Limit;
use crate::budget::money::Balance;
use crate::budget::reservation::{Extended, Released, ReservationId, Settled};
use crate::error::Error;
use crate::key::explanation::Explanation;
use crate::key::grant::{Denial, DenialReason, Grant, Verdict};
use crate::key::new_key::Created;
use crate::key::record::KeyRecord;
use crate::key::rotation::RotateOutcome;

/// An answer. There is one variant for each of [`Request`](super::Request), so that a binding that forgets one does not
/// compile.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "every binding must handle every answer")]
pub enum Answer {
    /// To `Validate`.
    Validated(Verdict),
    /// To `Charge`.
    Charged(ChargeOutcome),
    /// To `Reserve`.
    Reserved(Reserved),
    /// To `Settle`.
    Settled(Settled),
    /// To `Release`.
    Released(Released),
    /// To `Extend`.
    Extended(Extended),
    /// To `Refund`: the key's budget after it.
    Refunded(ChargeOutcome),
    /// To `SweepReservations`: how many reservations ended by it.
    Swept(u64),
    /// To `Create`.
    Created(Box<Created>),
    /// To `EnsureSubject`.
    SubjectEnsured,
    /// To `Get` and `Update`; `None` if there is no such key.
    Key(Option<Box<KeyRecord>>),
    /// To `Explain`.
    Explained(Box<Explanation>),
    /// To `List`.
    Keys(Vec<KeyRecord>),
    /// To `Rotate`.
    Rotated(RotateOutcome),
    /// To `RequestIncrease`.
    IncreaseRequested(Box<IncreaseOutcome>),
    /// To `ListIncreases`.
    Increases(Vec<Increase>),
    /// To `DecideIncrease`.
    IncreaseDecided(Box<IncreaseOutcome>),
    /// To `Revoke`: whether a live key was revoked.
    Revoked(bool),
    /// To `RevokeAll`: how many live keys were revoked.
    RevokedAll(u64),
    /// To `Events`.
    Events(Vec<Event>),
    /// To `Usage`.
    Usage(Vec<UsageOfPeriod>),
    /// To `VerifyLedger`: what does not add up.
    Verified(Vec<Discrepancy>),
    /// To `PruneEvents`: how many entries were deleted.
    Pruned(u64),
    /// To `ClaimDeliveries`: what is to be sent.
    Claimed(Vec<Delivery>),
    /// To `EndDelivery`: whether that attempt was the latest.
    DeliveryEnded(bool),
    /// To `Deliveries`.
    Deliveries(Vec<OpenDelivery>),
    /// To `CountSignup`: whether it was counted, or else the seconds until the client may sign up again.
    SignupCounted(Result<(), u32>),
    /// To `Diagnose`: what was found.
    Diagnosed(Vec<Finding>),
    /// To `Migrate`.
    Migrated,
}

impl Answer {
    /// Why the call was refused, if it was.
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Answer::Validated(verdict) => verdict.as_ref().err().map(|denial| denial.reason.as_str()),
            Answer::Charged(outcome) | Answer::Refunded(outcome) => {
                outcome.as_ref().err().map(|refusal| refusal.as_str())
            }
            Answer::Reserved(reserved) => reserved.as_ref().err().map(|refusal| refusal.reason.as_str()),
            Answer::Settled(settled) => settled.as_ref().err().map(|refusal| refusal.as_str()),
            Answer::Released(released) => released.as_ref().err().map(|refusal| refusal.as_str()),
            Answer::Extended(extended) => extended.as_ref().err().map(|refusal| refusal.as_str()),
            Answer::Rotated(outcome) => outcome.as_ref().err().map(|refusal| refusal.as_str()),
            Answer::IncreaseRequested(outcome) | Answer::IncreaseDecided(outcome) => {
                outcome.as_ref().as_ref().err().map(|refusal| refusal.reason.as_str())
            }
            Answer::SignupCounted(counted) => counted.err().map(|_| "rate_limited"),
            Answer::Swept(_)
            | Answer::Created(_)
            | Answer::SubjectEnsured
            | Answer::Key(_)
            | Answer::Explained(_)
            | Answer::Keys(_)
            | Answer::Increases(_)
            | Answer::Revoked(_)
            | Answer::RevokedAll(_)
            | Answer::Events(_)
            | Answer::Usage(_)
            | Answer::Verified(_)
            | Answer::Pruned(_)
            | Answer::Claimed(_)
            | Answer::DeliveryEnded(_)
            | Answer::Deliveries(_)
            | Answer::Diagnosed(_)
            | Answer::Migrated => None,
        }
    }
}

/// An amount that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Reservation {
    /// Names it to `settle`, `release` and `extend`.
    pub id: ReservationId,
    /// When it gives its amount back by itself, by the database's clock.
    pub expires_at: DateTime<Utc>,
    /// The key's budget with it.
    pub balance: Balance,
    /// Whether it was made earlier, under the same idempotency key, and holds its amount still.
    pub replayed: bool,
    /// The key as it was before the amount was held, or as it is now if that was earlier: what `validate` would have
    /// answered.
    pub grant: Box<Grant>,
}

/// Why nothing is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReserveRefusalReason {
    /// The amount is not a number, or infinite.
    InvalidCost,
    /// There is no such key.
    InvalidKey,
    /// The key or an ancestor was revoked.
    Revoked,
    /// The key or an ancestor is switched off for now.
    Disabled,
    /// The time of the key or an ancestor is over.
    Expired,
    /// The key lacks the scope.
    InsufficientScope,
    /// It does not fit the budget of the key or an ancestor.
    BudgetExceeded,
    /// The idempotency key was used for another amount, or for a charge.
    IdempotencyConflict,
    /// The reservation that was made under the same idempotency key was settled: what it was for is done.
    AlreadySettled,
    /// The reservation that was made under the same idempotency key was deleted, and the ledger does not say how it ended.
    UnknownReservation,
}

/// What the reservation of a repeated reserve was settled with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettledBefore {
    /// The reservation.
    pub id: ReservationId,
    /// What was spent, in micro-cents.
    pub cost_microcents: i64,
}

impl From<ChargeRefusal> for ReserveRefusalReason {
    fn from(refusal: ChargeRefusal) -> Self {
        match refusal {
            ChargeRefusal::InvalidCost => ReserveRefusalReason::InvalidCost,
            ChargeRefusal::InvalidKey => ReserveRefusalReason::InvalidKey,
            ChargeRefusal::BudgetExceeded => ReserveRefusalReason::BudgetExceeded,
            ChargeRefusal::IdempotencyConflict => ReserveRefusalReason::IdempotencyConflict,
        }
    }
}

impl ReserveRefusalReason {
    /// Every reason.
    pub const ALL: &'static [ReserveRefusalReason] = &[
        ReserveRefusalReason::InvalidCost,
        ReserveRefusalReason::InvalidKey,
        ReserveRefusalReason::Revoked,
        ReserveRefusalReason::Disabled,
        ReserveRefusalReason::Expired,
        ReserveRefusalReason::InsufficientScope,
        ReserveRefusalReason::BudgetExceeded,
        ReserveRefusalReason::IdempotencyConflict,
        ReserveRefusalReason::AlreadySettled,
        ReserveRefusalReason::UnknownReservation,
    ];

    /// The reason's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReserveRefusalReason::InvalidCost => "invalid_cost",
            ReserveRefusalReason::InvalidKey => "invalid_key",
            ReserveRefusalReason::Revoked => "revoked",
            ReserveRefusalReason::Disabled => "disabled",
            ReserveRefusalReason::Expired => "expired",
            ReserveRefusalReason::InsufficientScope => "insufficient_scope",
            ReserveRefusalReason::BudgetExceeded => "budget_exceeded",
            ReserveRefusalReason::IdempotencyConflict => "idempotency_conflict",
            ReserveRefusalReason::AlreadySettled => "already_settled",
            ReserveRefusalReason::UnknownReservation => "unknown_reservation",
        }
    }
}

impl std::fmt::Display for ReserveRefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<DenialReason> for ReserveRefusalReason {
    fn from(reason: DenialReason) -> Self {
        match reason {
            DenialReason::Invalid => ReserveRefusalReason::InvalidKey,
            DenialReason::Revoked => ReserveRefusalReason::Revoked,
            DenialReason::Disabled => ReserveRefusalReason::Disabled,
            DenialReason::Expired => ReserveRefusalReason::Expired,
            DenialReason::BudgetExceeded => ReserveRefusalReason::BudgetExceeded,
        }
    }
}

/// A refused reserve: nothing is held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct ReserveRefusal {
    /// Why.
    pub reason: ReserveRefusalReason,
    /// The budget that has no room, where that is the reason.
    pub limit: Option<Limit>,
    /// The key, where there is one.
    pub key: Option<Box<Grant>>,
    /// What was recorded, where the reason is `AlreadySettled`.
    pub settled: Option<SettledBefore>,
}

impl ReserveRefusal {
    pub(crate) fn new(reason: ReserveRefusalReason) -> Self {
        ReserveRefusal { reason, limit: None, key: None, settled: None }
    }
}

impl From<Denial> for ReserveRefusal {
    fn from(denial: Denial) -> Self {
        ReserveRefusal { limit: denial.limit, key: denial.key, ..ReserveRefusal::new(denial.reason.into()) }
    }
}

impl std::fmt::Display for ReserveRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing is reserved: {}", self.reason)
    }
}

impl std::error::Error for ReserveRefusal {}

/// What `reserve` answers.
pub type Reserved = Result<Reservation, ReserveRefusal>;

/// Takes answers as they come, a batch at a time. For bindings to a runtime of another language, which would rather be
/// woken once a batch than once a call.
pub trait Sink: Send + Sync {
    /// Takes answers, each with the token of its request. Called from a task of the runtime; must not block.
    fn deliver(&self, answers: Vec<(u64, Result<Answer, Error>)>);
}
