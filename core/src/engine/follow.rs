//! The ledger as a cursor: entries in the order of their ids, of which none appears before one that was told.

use std::time::Duration;

use super::Answer;
use super::admin::{Admin, Next};
use super::ledger::LedgerWork;
use super::rows::ledger::{Mark, event_params, read_events_after};
use crate::budget::ledger::EventFilter;
use crate::error::Error;
use crate::table::literal::text_array;
use crate::table::shape::TableShape;

/// Those who write entries are mostly done in a moment. So often they are looked at, each time after twice
/// as long; then nothing is told, and the next call looks again.
const LOOKS: u32 = 8;
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// A page of the cursor.
#[derive(Debug, Clone)]
pub(super) struct Follow {
    pub(super) filter: EventFilter,
    after: i64,
    /// How far all is settled once those who held the ledger for writing are gone.
    mark: Option<Mark>,
    looks: u32,
}

impl Follow {
    pub(super) fn new(filter: EventFilter, after: i64) -> Self {
        Follow { filter, after, mark: None, looks: 0 }
    }

    /// `None` if nothing in the columns can match.
    pub(super) fn params(&self, shape: &TableShape) -> Option<Vec<Option<String>>> {
        let [key_id, account_id, kind, most] = event_params(&self.filter, shape)?;
        let after = Some(self.after.to_string());
        let alarms = self.filter.alarms.then(|| "true".to_owned());
        let latest = self.mark.as_ref().map(|(latest, _)| latest.to_string());
        let holders = self.mark.as_ref().map(|(_, holders)| text_array(holders));
        Some(vec![key_id, account_id, kind, after, most, alarms, latest, holders])
    }

    pub(super) fn after(&self, rows: &[String]) -> Result<Next, Error> {
        let (read, events) = read_events_after(rows)?;
        let told = |events| Ok(Next::Answer(Answer::Events(events)));
        if self.mark.as_ref().is_some_and(|(_, holders)| holders.is_empty()) {
            return told(events);
        }
        let Some((latest, left)) = read else { return told(Vec::new()) };
        let looks = self.looks + 1;
        let is_settled = left.is_empty();
        let latest = self.mark.as_ref().map_or(latest, |(latest, _)| *latest);
        let again = Follow { mark: Some((latest, left)), looks, ..self.clone() };
        let again = Admin::Ledger(LedgerWork::Follow(again));
        match looks {
            _ if is_settled => Ok(Next::Continue(again)),
            LOOKS.. => told(Vec::new()),
            looks => Ok(Next::Pause(FIRST_LOOK * (1 << looks), again)),
        }
    }
}
