//! Why a charge passes or not: every limit of a key's chain, and what is held of each.

use chrono::{DateTime, Utc};

use super::grant::DenialReason;
use crate::budget::charge::ChargeRefusal;
use crate::budget::limit::WhenExceeded;
use crate::budget::money::{Balance, Cost};
use crate::budget::reservation::ReservationId;
use crate::id::KeyId;

/// The smallest charge: what `explain` asks about unless it is told an amount.
pub(crate) const LEAST_COST: Cost = Cost::Microcents(1);

/// What a charge of a key would meet: each limit of its chain, and which one binds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Why the charge would be refused; `None` if it would pass.
    pub reason: Option<ChargeRefusal>,
    /// The key whose budget or state refuses it: of several, the one that leaves the least.
    pub limit_key_id: Option<KeyId>,
    /// The key, its ancestors and the limits of each, what binds first: keys that are revoked or gone, then those that are switched off or
    /// whose time is over, then the others, the one with the least room first. Empty if there is no such key.
    pub limits: Vec<ExplainedLimit>,
}

/// A key of a chain and its budget, or one of its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedLimit {
    /// The key; `None` if the row names an ancestor that cannot be.
    pub key_id: Option<KeyId>,
    /// Its name; `None` if there is no such key.
    pub name: Option<String>,
    /// Why it is not live: revoked, disabled, expired, or `Invalid` of one that is not there. Budgets do not count.
    pub reason: Option<DenialReason>,
    /// The budget in cents; `None` is no budget.
    pub budget_cents: Option<i64>,
    /// By how much the budget is raised now, in cents: part of it. `None` if it is not.
    pub boost_cents: Option<i64>,
    /// Until when.
    pub boost_until: Option<DateTime<Utc>>,
    /// `hour`, `day`, `week`, `month`, `year`, or `None` for one budget for life.
    pub budget_period: Option<String>,
    /// Of one of the key's limits: what a charge does that would pass it. `None` of a budget.
    pub when_exceeded: Option<WhenExceeded>,
    /// What is used and held of the budget in this period.
    pub balance: Balance,
    /// When the budget starts afresh, if it does.
    pub resets_at: Option<DateTime<Utc>>,
    /// The open reservations that hold of the budget: the key's own and those of its descendants.
    pub holds: Holds,
    /// What a charge may take, also of a key without a budget: its row holds no more. Below 0 if the budget is passed.
    pub(crate) room_microcents: i64,
}

/// What open reservations hold of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Holds {
    /// How many there are.
    pub count: i64,
    /// What they hold together, in micro-cents.
    pub amount_microcents: i64,
    /// What of it a charge gets back that finds it in its way: the time of these reservations is over, and nothing counts
    /// as spent of them. 0 without a budget.
    pub recoverable_microcents: i64,
    /// The oldest of them, ten at most.
    pub oldest: Vec<Hold>,
}

/// An open reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// The reservation.
    pub reservation_id: ReservationId,
    /// The key that made it.
    pub key_id: KeyId,
    /// What it holds, in micro-cents.
    pub amount_microcents: i64,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
    /// Whether its time is over.
    pub expired: bool,
}

impl Explanation {
    /// What a charge of `cost` meets on a chain, the nearest key first.
    pub(crate) fn of(mut limits: Vec<ExplainedLimit>, cost: Cost) -> Self {
        limits.sort_by_key(|limit| (!limit.refuses_all(), limit.is_live(), limit.attainable_microcents()));
        let stops = |limit: &&ExplainedLimit| match cost {
            Cost::Microcents(amount) => limit.refuses_all() || amount > limit.attainable_microcents(),
            Cost::Free | Cost::Invalid => false,
        };
        // A key that is off or expired comes first, and can be charged: another one may leave less.
        let least = |limit: &&ExplainedLimit| (!limit.refuses_all(), limit.attainable_microcents());
        let binding = limits.iter().filter(stops).min_by_key(least);
        let reason = match (cost, binding) {
            (Cost::Free, _) => None,
            (Cost::Invalid, _) => Some(ChargeRefusal::InvalidCost),
            (_, _) if limits.is_empty() => Some(ChargeRefusal::InvalidKey),
            (_, Some(limit)) if limit.refuses_all() => Some(ChargeRefusal::InvalidKey),
            (_, Some(_)) => Some(ChargeRefusal::BudgetExceeded),
            (_, None) => None,
        };
        let limit_key_id = binding.and_then(|limit| limit.key_id.clone());
        Explanation { reason, limit_key_id, limits }
    }

    /// Whether the charge would pass.
    pub fn is_allowed(&self) -> bool {
        self.reason.is_none()
    }

    /// Whether the key is there and every key of its chain is live: `validate` and `reserve` refuse any other.
    pub fn is_live(&self) -> bool {
        !self.limits.is_empty() && self.limits.iter().all(ExplainedLimit::is_live)
    }
}

impl ExplainedLimit {
    /// Whether the key itself is neither revoked, switched off, expired nor gone.
    pub fn is_live(&self) -> bool {
        self.reason.is_none()
    }

    /// What is free of the budget beside what is used and held, in micro-cents, never below 0; `None` without a budget.
    pub fn remaining_microcents(&self) -> Option<i64> {
        self.budget_cents.map(|_| self.room_microcents.max(0))
    }

    /// Whether no charge passes, whatever its amount. One that is expired or switched off can still be charged.
    fn refuses_all(&self) -> bool {
        matches!(self.reason, Some(DenialReason::Invalid | DenialReason::Revoked))
    }

    /// The most that a charge can take, in micro-cents: what is free, and what comes back of reservations whose time is
    /// over. Also of a key without a budget, whose row holds no more. Below 0 if the budget is passed.
    pub fn attainable_microcents(&self) -> i64 {
        self.room_microcents.saturating_add(self.holds.recoverable_microcents)
    }
}
