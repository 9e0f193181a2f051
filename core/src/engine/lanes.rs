//! All lanes, declared once, and what happens to a batch of any of them.

use std::sync::Arc;
use std::time::Duration;

use super::admin::{self, Admin};
use super::batch::{Batch, Pending};
use super::changes::Ending;
use super::charges::Charge;
use super::lane::{AnyLane, KeyLane};
use super::lookups::Lookup;
use super::queue::Queue;
use super::resolve::Unresolved;
use super::retry::Repeatable;
use super::spends::Spending;
use super::stall::Long;
use super::{Answer, Engine, Fault};
use crate::error::Error;
use crate::table::template::Statements;

/// Requests by kind. Those of keys are in two lanes, by the column that the credential names.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) validate: [KeyLane<Lookup>; 2],
    pub(super) charge: [KeyLane<Charge>; 2],
    pub(super) spend: [KeyLane<Spending>; 2],
    pub(super) change: KeyLane<Ending>,
    /// By what a key is found instead of its hash.
    pub(super) resolve: [KeyLane<Unresolved>; 2],
    pub(super) admin: Queue<Admin>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Lanes {
            validate: [KeyLane::new(false), KeyLane::new(false)],
            charge: [KeyLane::new(true), KeyLane::new(true)],
            spend: [KeyLane::new(true), KeyLane::new(true)],
            change: KeyLane::new(true),
            resolve: [KeyLane::new(false), KeyLane::new(false)],
            admin: Queue::new(),
        }
    }

    pub(super) fn all(&self) -> [&dyn AnyLane; 10] {
        let Lanes { validate: [v, vs], charge: [c, cs], spend: [s, ss], change, resolve: [r, rs], admin } =
            self;
        [v, vs, c, cs, s, ss, change, r, rs, admin]
    }

    pub(super) fn all_mut(&mut self) -> [&mut dyn AnyLane; 10] {
        let Lanes { validate: [v, vs], charge: [c, cs], spend: [s, ss], change, resolve: [r, rs], admin } =
            self;
        [v, vs, c, cs, s, ss, change, r, rs, admin]
    }

    /// Takes all requests that wait for a statement which cannot be built. Migrations need no catalogue and stay.
    fn take_all(&mut self) -> Vec<Pending<()>> {
        fn forgotten<T>(requests: impl IntoIterator<Item = Pending<T>>) -> Vec<Pending<()>> {
            requests.into_iter().map(|request| request.with_work(())).collect()
        }
        let Lanes { validate, charge, spend, change, resolve, admin } = self;
        let mut taken = Vec::new();
        taken.extend(validate.iter_mut().flat_map(|lane| forgotten(lane.take_all())));
        taken.extend(charge.iter_mut().flat_map(|lane| forgotten(lane.take_all())));
        taken.extend(spend.iter_mut().flat_map(|lane| forgotten(lane.take_all())));
        taken.extend(forgotten(change.take_all()));
        taken.extend(resolve.iter_mut().flat_map(|lane| forgotten(lane.take_all())));
        let waiting =
            admin.take_all().into_iter().partition(|request| matches!(request.work, Admin::Migrate { .. }));
        let (migrations, others): (Vec<_>, Vec<_>) = waiting;
        admin.waiting.extend(migrations);
        taken.extend(forgotten(others));
        taken
    }
}

impl Engine {
    /// Whether anything waits that needs to know the table.
    pub(super) fn needs_table(&self, now: Duration) -> bool {
        let max = self.options.max_in_flight.max(admin::MAX_IN_FLIGHT);
        self.lanes.all().into_iter().any(|lane| lane.is_ready(now, max)) || self.touches.is_ready(now)
    }

    /// Whether plenty waits for one key, and no statement of that kind is under way. The next one is better sent before answers
    /// are given, so that the database does not idle meanwhile; otherwise after, so that whoever is answered and asks again
    /// shares it.
    pub fn has_backlog(&self) -> bool {
        self.lanes.all().into_iter().any(|lane| lane.has_backlog())
    }

    /// No statement can be built: whoever waits for one learns why.
    pub(super) fn fail_all_waiting(&mut self, error: &Error) {
        self.end_all_sweeps();
        for request in self.lanes.take_all() {
            self.answer_error(&request, error.clone());
        }
    }

    /// Takes a batch whose statement the table allows, while fewer than `most` are under way.
    pub(super) fn take_batch<T>(
        &mut self,
        lane: impl Fn(&mut Lanes) -> &mut KeyLane<T>,
        now: Duration,
        statements: &Statements,
        needed: &[&str],
        most: usize,
    ) -> Option<Batch<T>> {
        let (max_in_flight, max_batch) = (self.options.max_in_flight, self.options.max_batch);
        let most = if lane(&mut self.lanes).is_contended() { 1 } else { most.min(max_in_flight) };
        while lane(&mut self.lanes).is_ready(now, most) {
            let mut batch = lane(&mut self.lanes).take(max_batch, max_in_flight);
            self.drop_cancelled(&lane, &mut batch);
            if batch.keys.is_empty() {
                continue;
            }
            let Err(error) = statements.shape.require(needed) else {
                lane(&mut self.lanes).in_flight += 1;
                return Some(batch);
            };
            // A migration may have run since the catalogue was asked: each request causes one more look.
            let mut again = false;
            for (name, group) in batch.keys.iter().zip(batch.requests) {
                let group = self.after_missing_column(group, &error);
                again |= !group.is_empty();
                lane(&mut self.lanes).put_back(name, group);
                lane(&mut self.lanes).release(name);
            }
            if again {
                return None;
            }
        }
        None
    }

    /// Takes a batch whose statement waits for a row that somebody else has locked. It holds no place in its lane.
    pub(super) fn take_waiting_batch<T>(
        &mut self,
        lane: impl Fn(&mut Lanes) -> &mut KeyLane<T>,
    ) -> Option<Batch<T>> {
        let max_batch = self.options.max_batch;
        while self.stalls.has_room(Long::Waiting) {
            let mut batch = lane(&mut self.lanes).take_waiting(max_batch)?;
            self.drop_cancelled(&lane, &mut batch);
            if !batch.keys.is_empty() {
                return Some(batch);
            }
            lane(&mut self.lanes).leave(&batch);
        }
        None
    }

    /// Puts the requests of a key back whose row, or an ancestor's, somebody else has locked.
    pub(super) fn put_back_busy<T>(
        &mut self,
        lane: impl Fn(&mut Lanes) -> &mut KeyLane<T>,
        name: &Arc<str>,
        requests: Vec<Pending<T>>,
        row: &str,
        now: Duration,
    ) {
        self.meter.found_busy(Some(row));
        lane(&mut self.lanes).put_back_busy(name, requests, row, now);
    }

    /// Puts a batch whose statement failed back into its lane, or answers it.
    pub(super) fn batch_fault<T: Repeatable>(
        &mut self,
        lane: impl Fn(&mut Lanes) -> &mut KeyLane<T>,
        now: Duration,
        batch: Batch<T>,
        fault: &Fault,
    ) {
        // The more keys there are in a statement, the likelier a conflict.
        let is_conflict = fault.is_conflict();
        let batch = match fault.is_of_one() || is_conflict && batch.keys.len() > 1 {
            true => match lane(&mut self.lanes).split(batch) {
                Some(alone) => alone,
                None => return,
            },
            false => batch,
        };
        let mut pause = None;
        for (name, group) in batch.keys.iter().zip(batch.requests) {
            let (mut again, mut attempts) = (Vec::new(), None);
            for mut request in group {
                if request.ticket.is_none() {
                    continue;
                }
                if self.may_be_repeated(&mut request, fault) {
                    attempts = attempts.max(Some(request.attempts));
                    again.push(request);
                } else {
                    self.answer_error(&request, fault.error());
                }
            }
            lane(&mut self.lanes).put_back(name, again);
            match attempts {
                // A conflict is this key's: no other pauses.
                Some(attempts) if is_conflict => {
                    let at = self.retry_at(now, fault, attempts);
                    lane(&mut self.lanes).release_at(name, at);
                }
                _ => lane(&mut self.lanes).release(name),
            }
            pause = pause.max(attempts.filter(|_| !is_conflict));
        }
        if let Some(attempts) = pause {
            lane(&mut self.lanes).blocked_until = self.retry_at(now, fault, attempts);
        }
    }

    pub(super) fn answer_with<T>(&mut self, request: &Pending<T>, answer: Answer) {
        if let Some(ticket) = request.ticket {
            self.answer(ticket, request.operation, Ok(answer));
        }
    }

    /// Answers a request with an error. An earlier attempt may have taken effect, whatever became of the last one.
    pub(super) fn answer_error<T>(&mut self, request: &Pending<T>, error: Error) {
        if let Some(ticket) = request.ticket {
            let error = if request.is_uncertain { error.after_sending() } else { error };
            self.answer(ticket, request.operation, Err(error));
        }
    }

    /// The table lacked a column when the catalogue was asked. Requests that have not yet caused a second look come
    /// back, others are answered.
    pub(super) fn after_missing_column<T>(
        &mut self,
        requests: Vec<Pending<T>>,
        error: &Error,
    ) -> Vec<Pending<T>> {
        let (mut again, answered): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| request.attempts == 0);
        for request in answered {
            self.answer_error(&request, error.clone());
        }
        if !again.is_empty() {
            again.iter_mut().for_each(|request| request.attempts = 1);
            self.forget_table();
        }
        again
    }

    /// Drops requests whose callers are gone, and keys that then have none.
    pub(super) fn drop_cancelled<T>(
        &mut self,
        lane: impl Fn(&mut Lanes) -> &mut KeyLane<T>,
        batch: &mut Batch<T>,
    ) {
        if self.cancelled.is_empty() {
            return;
        }
        for group in &mut batch.requests {
            group.retain(|request| !self.is_cancelled(request));
        }
        let mut place = 0;
        while place < batch.keys.len() {
            if batch.requests[place].is_empty() {
                batch.requests.remove(place);
                let name: Arc<str> = batch.keys.remove(place);
                lane(&mut self.lanes).release(&name);
            } else {
                place += 1;
            }
        }
    }

    /// Whether the caller of a request that was not sent is gone. It is forgotten then.
    pub(super) fn is_cancelled<T>(&mut self, request: &Pending<T>) -> bool {
        let gone = request.ticket.is_some_and(|ticket| self.cancelled.remove(&ticket));
        self.pending -= usize::from(gone);
        gone
    }
}
