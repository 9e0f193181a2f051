//! Statements that wait for a connection. What nobody wants by then is not sent.

use std::time::Duration;

use super::batch::{AnyBatch, Batch};
use super::lane::KeyLane;
use super::lanes::Lanes;
use super::{Engine, Statement, StatementId, Work};

/// What is to be sent on a connection that a statement waited for.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_enums, reason = "a driver must handle each")]
#[must_use]
pub enum Begun {
    /// The statement.
    AsItIs,
    /// Another one: some of the statement's callers are gone.
    Instead(Statement),
    /// Nothing.
    Nothing,
}

impl Work {
    /// The callers that wait for it, if it has any.
    pub(super) fn callers(&mut self) -> Option<&mut dyn AnyBatch> {
        match self {
            Work::Validate(_, _, batch, _) => Some(batch),
            Work::Charge(_, _, batch, _) => Some(batch),
            Work::Spend(_, _, batch, _) => Some(batch),
            Work::Change(_, batch) => Some(batch),
            Work::Resolve(_, batch) => Some(batch),
            Work::Admin(request, _) => Some(request),
            Work::Catalogue(_) | Work::Refresh(_) | Work::Touch => None,
        }
    }
}

impl Engine {
    /// A statement that was polled waits for a connection: until [`Engine::begin`] it counts as not sent.
    pub fn hold(&mut self, id: StatementId) {
        if self.in_flight.contains_key(&id) && self.held.insert(id) {
            self.stalls.unsend(id);
            self.meter.held(id);
        }
    }

    /// A statement that was held has its connection: says what is to be sent there now. May also make answers.
    pub fn begin(&mut self, now: Duration, id: StatementId) -> Begun {
        self.held.remove(&id);
        self.stalls.now = now;
        match self.in_flight.remove(&id) {
            // Nobody waits for it any more.
            None => self.stalls.forget(id),
            Some(work) if work.has_lost_callers(self) => {
                self.leave_lane(id, &work);
                self.stalls.forget(id);
                self.take_back(work);
            }
            Some(work) => {
                self.note_sent(id, &work);
                self.in_flight.insert(id, work);
                return Begun::AsItIs;
            }
        }
        self.poll(now).map_or(Begun::Nothing, Begun::Instead)
    }

    /// Puts the requests of a statement back whose callers still wait.
    fn take_back(&mut self, work: Work) {
        match work {
            Work::Validate(column, _, batch, _) => {
                self.take_batch_back(|lanes| &mut lanes.validate[column as usize], batch);
            }
            Work::Charge(column, _, batch, _) => {
                self.take_batch_back(|lanes| &mut lanes.charge[column as usize], batch);
            }
            Work::Spend(column, _, batch, _) => {
                self.take_batch_back(|lanes| &mut lanes.spend[column as usize], batch);
            }
            Work::Change(_, batch) => self.take_batch_back(|lanes| &mut lanes.change, batch),
            Work::Resolve(by, batch) => {
                self.take_batch_back(|lanes| &mut lanes.resolve[by as usize], batch);
            }
            Work::Admin(request, _) => {
                if !self.is_cancelled(&request) {
                    self.lanes.admin.waiting.push_front(request);
                }
            }
            // They have no callers to lose.
            Work::Catalogue(_) | Work::Refresh(_) | Work::Touch => {}
        }
    }

    fn take_batch_back<T>(&mut self, lane: impl Fn(&mut Lanes) -> &mut KeyLane<T>, mut batch: Batch<T>) {
        self.drop_cancelled(&lane, &mut batch);
        for (name, group) in batch.keys.iter().zip(batch.requests) {
            let open = group.into_iter().filter(|request| request.ticket.is_some()).collect();
            lane(&mut self.lanes).put_back(name, open);
            lane(&mut self.lanes).release(name);
        }
    }
}

impl Work {
    /// Whether some of its callers stopped waiting.
    fn has_lost_callers(&self, engine: &Engine) -> bool {
        let cancelled = &engine.cancelled;
        match self {
            Work::Validate(_, _, batch, _) => batch.has_lost_callers(cancelled),
            Work::Charge(_, _, batch, _) => batch.has_lost_callers(cancelled),
            Work::Spend(_, _, batch, _) => batch.has_lost_callers(cancelled),
            Work::Change(_, batch) => batch.has_lost_callers(cancelled),
            Work::Resolve(_, batch) => batch.has_lost_callers(cancelled),
            Work::Admin(request, _) => request.has_lost_callers(cancelled),
            Work::Catalogue(_) | Work::Refresh(_) | Work::Touch => false,
        }
    }
}
