//! The ledger's readers.

use super::{AgentKey, mismatch};
use crate::error::Error;
use crate::ledger::{Discrepancy, Event, EventFilter, UsageFilter, UsageOfPeriod};
use crate::request::{Outcome, Request};
use crate::verdict::KeyId;

impl AgentKey {
    /// Ledger entries, the newest first.
    ///
    /// # Errors
    /// `migration_required` if there is no ledger.
    pub async fn events(&self, filter: EventFilter) -> Result<Vec<Event>, Error> {
        match self.call(Request::Events(filter)).await? {
            Outcome::Events(events) => Ok(events),
            other => Err(mismatch(other)),
        }
    }

    /// What a key and its descendants spent, by period of the calendar in UTC, as far as the ledger knows.
    ///
    /// # Errors
    /// `invalid_budget_period` for the period, `migration_required` if there is no ledger.
    pub async fn usage(&self, filter: UsageFilter) -> Result<Vec<UsageOfPeriod>, Error> {
        match self.call(Request::Usage(filter)).await? {
            Outcome::Usage(usage) => Ok(usage),
            other => Err(mismatch(other)),
        }
    }

    /// Which keys do not add up: used is what the ledger's entries say, reserved what open reservations hold. Empty is
    /// good. Means something only where every client of the table writes all money into the ledger (`ledger`).
    ///
    /// # Errors
    /// `migration_required` if there is no ledger.
    pub async fn verify_ledger(&self, id: Option<KeyId>) -> Result<Vec<Discrepancy>, Error> {
        match self.call(Request::VerifyLedger(id.map(|id| id.to_string()))).await? {
            Outcome::Verified(discrepancies) => Ok(discrepancies),
            other => Err(mismatch(other)),
        }
    }

    /// Deletes ledger entries that are older than this; how many. What is left still adds up, but an idempotency key
    /// whose entry is gone is as new.
    ///
    /// # Errors
    /// `migration_required` if there is no ledger.
    pub async fn prune_events(&self, older_than: std::time::Duration) -> Result<u64, Error> {
        match self.call(Request::PruneEvents(older_than.as_secs())).await? {
            Outcome::Pruned(count) => Ok(count),
            other => Err(mismatch(other)),
        }
    }
}
