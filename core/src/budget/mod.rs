//! Budgets: money, periods, limits, charges, reservations, the ledger. Pure rules, no SQL and no request.

pub(crate) mod charge;
pub(crate) mod increase;
pub(crate) mod increase_outcome;
pub(crate) mod ledger;
pub(crate) mod limit;
pub(crate) mod money;
pub(crate) mod period;
pub(crate) mod reservation;
pub(crate) mod thresholds;
