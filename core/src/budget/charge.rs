//! Charges: what can be asked of one, and what became of it.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::money::{Balance, Cost};
use crate::error::{Error, ErrorCode, shortened};
use crate::id::KeyId;

/// What happens to a charge that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overrun {
    /// It is refused.
    #[default]
    Reject,
    /// It is recorded, because the money is spent already. The key is over its budget then.
    Record,
}

impl FromStr for Overrun {
    type Err = Error;

    /// `reject` or `record`.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "reject" => Ok(Overrun::Reject),
            "record" => Ok(Overrun::Record),
            _ => {
                let message = format!("Invalid overrun: {}; it must be reject or record", shortened(name));
                Err(Error::new(ErrorCode::InvalidText, message))
            }
        }
    }
}

/// A charge, with its options. A number of cents, or a [`Cost`], is a plain one.
///
/// ```
/// # use agentkey::{Charge, Cost, Overrun};
/// let retried = Charge::new(Cost::from_usd("0.00042")).idempotency_key("request-7");
/// let spent_already = Charge::new(12).overrun(Overrun::Record);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub(crate) cost: Cost,
    pub(crate) overrun: Overrun,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) metadata: Option<Map<String, Value>>,
    /// A request that was let pass has spent it: it is recorded whatever became of the key since.
    pub(crate) is_admitted: bool,
    /// The key of such a request, which may have another secret by now.
    pub(crate) key_id: Option<KeyId>,
}

impl Charge {
    /// A plain charge.
    pub fn new(cost: impl Into<Cost>) -> Self {
        Charge {
            cost: cost.into(),
            overrun: Overrun::Reject,
            idempotency_key: None,
            metadata: None,
            is_admitted: false,
            key_id: None,
        }
    }

    /// What a request has spent that was let pass: recorded past the budget, and if the key was revoked or
    /// rotated since.
    pub(crate) fn of_admitted(cost: Cost, key_id: Option<KeyId>) -> Self {
        Charge { is_admitted: true, key_id, ..Charge::new(cost).overrun(Overrun::Record) }
    }

    /// Sets what happens if it does not fit.
    pub fn overrun(mut self, overrun: Overrun) -> Self {
        self.overrun = overrun;
        self
    }

    /// Sets the idempotency key. A second charge of the same API key under it answers what the first one did, and
    /// moves nothing.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets what the ledger keeps with it: a JSON object of at most 16 KiB.
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Whether the statements for plain charges can record it.
    pub(crate) fn is_plain(&self) -> bool {
        self.overrun == Overrun::Reject && self.idempotency_key.is_none() && self.metadata.is_none()
    }
}

impl<C: Into<Cost>> From<C> for Charge {
    fn from(cost: C) -> Self {
        Charge::new(cost)
    }
}

/// A charge that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Charged {
    /// The key's budget after this charge; `None` if it cost nothing, because there was nothing to record.
    pub balance: Option<Balance>,
    /// Whether it was recorded earlier, under the same idempotency key. The balance is that of then.
    pub replayed: bool,
}

impl Charged {
    pub(crate) const FREE: Charged = Charged { balance: None, replayed: false };

    /// What is used of this period's budget, in cents, with this charge; a started cent counts.
    pub fn budget_used_cents(&self) -> Option<i64> {
        self.balance.map(|balance| balance.used_cents())
    }

    /// What remains, in cents; `None` without a budget.
    pub fn budget_remaining_cents(&self) -> Option<i64> {
        self.balance.and_then(|balance| balance.remaining_cents())
    }
}

/// Why a charge is refused. Nothing was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use]
pub enum ChargeRefusal {
    /// The cost is not a number, or infinite.
    InvalidCost,
    /// There is no such key, or it or an ancestor was revoked.
    InvalidKey,
    /// It does not fit the budget of the key or an ancestor, or is more than the table can hold.
    BudgetExceeded,
    /// The idempotency key was used for another amount, or for a reservation.
    IdempotencyConflict,
}

/// What became of a charge.
pub type ChargeOutcome = Result<Charged, ChargeRefusal>;

impl ChargeRefusal {
    /// Every refusal.
    pub const ALL: &'static [ChargeRefusal] = &[
        ChargeRefusal::InvalidCost,
        ChargeRefusal::InvalidKey,
        ChargeRefusal::BudgetExceeded,
        ChargeRefusal::IdempotencyConflict,
    ];

    /// The refusal's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ChargeRefusal::InvalidCost => "invalid_cost",
            ChargeRefusal::InvalidKey => "invalid_key",
            ChargeRefusal::BudgetExceeded => "budget_exceeded",
            ChargeRefusal::IdempotencyConflict => "idempotency_conflict",
        }
    }
}

impl std::fmt::Display for ChargeRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for ChargeRefusal {}
