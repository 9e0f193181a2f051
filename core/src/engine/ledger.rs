//! Operations on the ledger: read, added up, pruned.

use std::time::Duration;

use super::Answer;
use super::admin::{Next, Plan};
use super::follow::Follow;
use super::rows::ledger::{event_params, read_events, read_json};
use super::rows::only_field;
use super::spends::NEEDED;
use crate::budget::ledger::{EventFilter, UsageFilter};
use crate::error::Error;
use crate::id::KeyId;
use crate::table::shape::ALARMS;
use crate::table::template::{StatementKind, Statements};

/// Entries that one statement deletes at most.
const PRUNED_AT_ONCE: u64 = 1_000_000;

/// An operation on the ledger.
#[derive(Debug, Clone)]
pub(super) enum LedgerWork {
    Events(EventFilter),
    Follow(Follow),
    Usage(UsageFilter),
    Verify(Option<KeyId>),
    Prune(Duration),
}

impl LedgerWork {
    fn is_of_alarms(&self) -> bool {
        match self {
            LedgerWork::Events(filter) => filter.alarms,
            LedgerWork::Follow(follow) => follow.filter.alarms,
            LedgerWork::Usage(_) | LedgerWork::Verify(_) | LedgerWork::Prune(_) => false,
        }
    }

    pub(super) fn plan(&self, statements: &Statements) -> Result<Plan, Error> {
        let shape = &statements.shape;
        let send = |kind, params| Ok(Plan::Send(kind, statements.sql(kind), params));
        let none = || Ok(Plan::Answer(Answer::Events(Vec::new())));
        shape.require(&["+events"])?;
        if self.is_of_alarms() {
            shape.require(&[ALARMS])?;
        }
        match self {
            LedgerWork::Events(filter) => match event_params(filter, shape) {
                Some([key_id, account_id, kind, most]) => {
                    let before = filter.before.map(|id| id.to_string());
                    let alarms = filter.alarms.then(|| "true".to_owned());
                    send(StatementKind::Events, vec![key_id, account_id, kind, before, most, alarms])
                }
                None => none(),
            },
            LedgerWork::Follow(follow) => match follow.params(shape) {
                Some(params) => send(StatementKind::EventsAfter, params),
                None => none(),
            },
            LedgerWork::Usage(UsageFilter { key_id, from, to, by }) => {
                let key_id = key_id.to_string();
                if !shape.fits_id(&key_id) {
                    return Ok(Plan::Answer(Answer::Usage(Vec::new())));
                }
                let time = |at: &Option<chrono::DateTime<chrono::Utc>>| at.map(|at| at.to_rfc3339());
                send(StatementKind::Usage, vec![Some(key_id), time(from), time(to), Some(by.to_string())])
            }
            LedgerWork::Verify(id) => {
                shape.require(NEEDED)?;
                let id = id.as_ref().map(KeyId::to_string);
                if id.as_ref().is_some_and(|id| !shape.fits_id(id)) {
                    return Ok(Plan::Answer(Answer::Verified(Vec::new())));
                }
                send(StatementKind::VerifyLedger, vec![id])
            }
            LedgerWork::Prune(age) => {
                let params = vec![Some(age.as_secs().to_string()), Some(PRUNED_AT_ONCE.to_string())];
                send(StatementKind::PruneEvents, params)
            }
        }
    }

    pub(super) fn after(&self, rows: &[String]) -> Result<Next, Error> {
        Ok(Next::Answer(match self {
            LedgerWork::Events(_) => Answer::Events(read_events(rows)?),
            LedgerWork::Follow(follow) => return follow.after(rows),
            LedgerWork::Usage(_) => Answer::Usage(read_json(rows)?),
            LedgerWork::Verify(_) => Answer::Verified(read_json(rows)?),
            LedgerWork::Prune(_) => {
                let deleted = rows.first().and_then(|row| only_field(row)?.parse().ok());
                Answer::Pruned(deleted.ok_or_else(|| Error::unexpected("a count of entries"))?)
            }
        }))
    }
}
