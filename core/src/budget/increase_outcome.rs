//! What became of a request for more budget, or of its decision.

use super::increase::Increase;
use crate::id::KeyId;

/// A request or decision that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct IncreaseRecorded {
    /// The request as it is now.
    pub request: Increase,
    /// Whether it was recorded earlier, by the same call.
    pub replayed: bool,
}

/// Why a request or a decision was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IncreaseRefusalReason {
    /// There is no such key.
    InvalidKey,
    /// The key or an ancestor was revoked.
    Revoked,
    /// The key or an ancestor is switched off for now.
    Disabled,
    /// The time of the key or an ancestor is over.
    Expired,
    /// The key has no budget that could be raised.
    NoBudget,
    /// The key has asked for something else, which is not decided yet.
    AlreadyPending,
    /// The idempotency key was used for another request.
    IdempotencyConflict,
    /// There is no such request, or it is not the decider's to decide.
    UnknownRequest,
    /// Somebody decided otherwise before.
    AlreadyDecided,
    /// The budget would pass that of an ancestor.
    ExceedsAncestor,
}

impl IncreaseRefusalReason {
    /// Every reason.
    pub const ALL: &'static [IncreaseRefusalReason] = &[
        IncreaseRefusalReason::InvalidKey,
        IncreaseRefusalReason::Revoked,
        IncreaseRefusalReason::Disabled,
        IncreaseRefusalReason::Expired,
        IncreaseRefusalReason::NoBudget,
        IncreaseRefusalReason::AlreadyPending,
        IncreaseRefusalReason::IdempotencyConflict,
        IncreaseRefusalReason::UnknownRequest,
        IncreaseRefusalReason::AlreadyDecided,
        IncreaseRefusalReason::ExceedsAncestor,
    ];

    /// The reason's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            IncreaseRefusalReason::InvalidKey => "invalid_key",
            IncreaseRefusalReason::Revoked => "revoked",
            IncreaseRefusalReason::Disabled => "disabled",
            IncreaseRefusalReason::Expired => "expired",
            IncreaseRefusalReason::NoBudget => "no_budget",
            IncreaseRefusalReason::AlreadyPending => "already_pending",
            IncreaseRefusalReason::IdempotencyConflict => "idempotency_conflict",
            IncreaseRefusalReason::UnknownRequest => "unknown_request",
            IncreaseRefusalReason::AlreadyDecided => "already_decided",
            IncreaseRefusalReason::ExceedsAncestor => "exceeds_ancestor",
        }
    }
}

/// A request or decision that was not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct IncreaseRefusal {
    /// Why.
    pub reason: IncreaseRefusalReason,
    /// The request that it is about, as it stands, where there is one.
    pub request: Option<Increase>,
    /// The ancestor whose budget is too small, where that is the reason.
    pub limit_key_id: Option<KeyId>,
}

impl IncreaseRefusal {
    pub(crate) fn new(reason: IncreaseRefusalReason) -> Self {
        IncreaseRefusal { reason, request: None, limit_key_id: None }
    }
}

impl std::fmt::Display for IncreaseRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing is recorded: {}", self.reason.as_str())
    }
}

impl std::error::Error for IncreaseRefusal {}

/// What became of a request or a decision.
pub type IncreaseOutcome = Result<IncreaseRecorded, IncreaseRefusal>;
