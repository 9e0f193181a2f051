//! The lane of ends and extensions of reservations.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Pending};
use super::retry::{Repeatable, Repeats};
use super::rows::Unread;
use super::rows::ended::{EndedRow, ReservationChange};
use super::spends::{MAX_IN_FLIGHT, MAX_SHARING, NEEDED};
use super::{Answer, Cost, Engine, Statement, Work};
use crate::budget::reservation::{ReservationId, ReservationRefusal};
use crate::error::Error;
use crate::table::literal::{integer_array, text_array};
use crate::table::template::{StatementKind, Statements};

/// A change of a reservation that waits.
#[derive(Debug)]
pub(super) struct Ending {
    change: ReservationChange,
    /// Whether the statement for the common case need not be tried, or left it.
    needs_general: bool,
}

/// Ends are recorded once, however often they are asked for.
impl Repeatable for Ending {
    fn repeats(&self) -> Repeats {
        Repeats::UntilDeadline
    }
}

impl Engine {
    pub(super) fn route_change(
        &mut self,
        caller: Pending<()>,
        id: &ReservationId,
        change: ReservationChange,
    ) {
        if let ReservationChange::Settle(Cost::Invalid) = change {
            let refusal = Answer::Settled(Err(ReservationRefusal::InvalidCost));
            return self.answer_with(&caller, refusal);
        }
        let needs_general =
            matches!(change, ReservationChange::Extend(_)) || self.held_by_children.contains(id.as_str());
        let ending = caller.with_work(Ending { change, needs_general });
        self.lanes.change.push(Arc::from(id.as_str()), ending);
    }

    pub(super) fn poll_changes(&mut self, now: Duration, statements: &Arc<Statements>) -> Option<Statement> {
        if self.lanes.change.is_idle() {
            return None;
        }
        let mut batch = match self.take_waiting_batch(|lanes| &mut lanes.change) {
            Some(batch) => batch,
            // Without alarms, too: what was spent is recorded.
            None => {
                let most = if self.lanes.change.is_sharing() { MAX_SHARING } else { MAX_IN_FLIGHT };
                let mut batch = self.take_batch(|lanes| &mut lanes.change, now, statements, NEEDED, most)?;
                let is_general = batch.open_requests().any(|request| request.work.needs_general);
                self.lanes.change.note_sharing(&mut batch, is_general);
                batch
            }
        };
        // One after the other: what becomes of the second depends on the first.
        for (name, group) in batch.keys.iter().zip(&mut batch.requests) {
            let later = group.split_off(1);
            self.lanes.change.put_back(name, later);
        }
        let changes = || batch.requests.iter().flatten().map(|request| request.work.change);
        let mut params = vec![
            Some(text_array(&batch.keys)),
            Some(text_array(changes().map(ReservationChange::action))),
            Some(integer_array(changes().map(ReservationChange::amount))),
        ];
        let is_general =
            batch.waits_for.is_some() || batch.open_requests().any(|request| request.work.needs_general);
        let kind = if is_general {
            params.push(batch.waits_for.as_deref().map(str::to_owned));
            StatementKind::Settle
        } else {
            StatementKind::SettleFlat
        };
        Some(self.send(kind, statements.sql(kind), params, Work::Change(kind, batch)))
    }

    pub(super) fn receive_changes(
        &mut self,
        now: Duration,
        kind: StatementKind,
        batch: Batch<Ending>,
        rows: &[String],
    ) {
        let mut read: Vec<Option<EndedRow>> = batch.keys.iter().map(|_| None).collect();
        let mut unread = Unread::default();
        for row in rows {
            match EndedRow::read(row) {
                Ok(row) => match read.get_mut(row.place) {
                    Some(place @ None) => *place = Some(row),
                    _ => unread.note_unknown(Error::unexpected("a reservation that was not asked for")),
                },
                Err(error) => unread.note(row, error, |place| matches!(read.get(place), Some(None))),
            }
        }
        for (place, ((name, group), row)) in batch.keys.iter().zip(batch.requests).zip(read).enumerate() {
            if let Some(busy) = row.as_ref().and_then(EndedRow::busy_id) {
                let open = group.into_iter().filter(|request| request.ticket.is_some()).collect();
                self.put_back_busy(|l| &mut l.change, name, open, busy, now);
                continue;
            }
            if row.as_ref().is_some_and(EndedRow::is_undecided) {
                let open = group.into_iter().filter(|request| request.ticket.is_some()).collect();
                self.lanes.change.put_back(name, open);
                self.lanes.change.release(name);
                continue;
            }
            let mut undecided = Vec::new();
            for mut request in group {
                match (&row, unread.error_at(place)) {
                    (Some(row), _) => self.answer_with(&request, row.answer(request.work.change)),
                    (None, Some(error)) => self.answer_error(&request, error.clone()),
                    (None, None) if kind == StatementKind::Settle => {
                        self.answer_with(&request, request.work.change.of_nothing());
                    }
                    (None, None) if request.ticket.is_some() => {
                        request.work.needs_general = true;
                        undecided.push(request);
                    }
                    (None, None) => {}
                }
            }
            self.lanes.change.put_back(name, undecided);
            self.lanes.change.release(name);
        }
    }
}
