//! The ledger as a cursor: entries in the order of their ids, of which none appears before one that was told.

use std::time::Duration;

use super::admin::{Admin, Next};
use super::ledger::LedgerWork;
use super::rows::ledger::{event_params, read_events_after};
use super::{Answer, Event};
use crate::budget::ledger::EventFilter;
use crate::error::Error;
use crate::table::shape::TableShape;

/// Transactions that may still write entries are mostly over in a moment. So often they are waited for, each time twice as
/// long; then nothing is told, and the next call looks again.
const LOOKS: u32 = 8;
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// A page of the cursor.
#[derive(Debug, Clone)]
pub(super) struct Follow {
    filter: EventFilter,
    after: i64,
    /// The latest entry, and a transaction that was numbered after it: up to there all is settled once those of lower numbers
    /// are over.
    mark: Option<(i64, i64)>,
    looks: u32,
}

impl Follow {
    pub(super) fn new(filter: EventFilter, after: i64) -> Self {
        Follow { filter, after, mark: None, looks: 0 }
    }

    /// `None` if nothing in the columns can match.
    pub(super) fn params(&self, shape: &TableShape) -> Option<Vec<Option<String>>> {
        let [key_id, account_id, kind, most] = event_params(&self.filter, shape)?;
        let of_mark = |part: fn((i64, i64)) -> i64| self.mark.map(|mark| part(mark).to_string());
        let after = Some(self.after.to_string());
        Some(vec![key_id, account_id, kind, after, most, of_mark(|m| m.0), of_mark(|m| m.1)])
    }

    pub(super) fn after(&self, rows: &[String]) -> Result<Next, Error> {
        let read = read_events_after(rows)?;
        let told = |events: Vec<Event>| Ok(Next::Answer(Answer::Events(events)));
        if read.is_settled {
            return told(read.events);
        }
        let again = |follow| Admin::Ledger(LedgerWork::Follow(follow));
        let looks = self.looks + 1;
        match (self.mark, read.mark) {
            (None, Some(mark)) => {
                Ok(Next::Continue(again(Follow { mark: Some(mark), looks, ..self.clone() })))
            }
            (Some(_), _) if looks < LOOKS => {
                let pause = FIRST_LOOK * (1 << looks);
                Ok(Next::Pause(pause, again(Follow { looks, ..self.clone() })))
            }
            _ => told(Vec::new()),
        }
    }
}
