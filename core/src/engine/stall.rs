//! Statements that take long, of themselves or for a locked row. They keep nobody else waiting, and they never take the
//! whole pool.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::batch::Batch;
use super::{Engine, StatementId, Work};

/// A statement that is under way for so long leaves its place in the lane to the next one.
pub(super) const STALL: Duration = Duration::from_millis(100);

/// Why a statement holds a connection longer than others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Long {
    /// It waits for a locked row.
    Waiting,
    /// It takes long.
    Slow,
    /// The same, of an operation that shares no statement.
    SlowAdmin,
}

impl Long {
    /// How many there may be. Together they leave connections of the smallest usual pool, of ten, to others.
    pub(super) const fn most(self) -> usize {
        match self {
            Long::Waiting => 3,
            Long::Slow => 2,
            Long::SlowAdmin => 1,
        }
    }
}

/// Statements under way, by how long.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// The driver's clock at the last poll.
    pub(super) now: Duration,
    /// When statements were sent that hold a place in a lane. Some may be over.
    sent: VecDeque<(StatementId, Duration)>,
    /// Those that take long, also ones that nobody waits for any more: they have a connection still.
    long: HashMap<StatementId, Long>,
}

impl Stalls {
    pub(super) fn has_room(&self, why: Long) -> bool {
        self.long.values().filter(|other| **other == why).count() < why.most()
    }

    /// Whether none takes long of itself.
    pub(super) fn is_fast(&self) -> bool {
        !self.long.values().any(|why| *why == Long::Slow)
    }

    /// A statement waits for a connection yet.
    pub(super) fn unsend(&mut self, id: StatementId) {
        // Mostly it is the one that was polled last; there may be thousands of others.
        match self.sent.back() {
            Some((last, _)) if *last == id => _ = self.sent.pop_back(),
            _ => self.sent.retain(|(sent, _)| *sent != id),
        }
    }

    /// The driver has reported on a statement.
    pub(super) fn forget(&mut self, id: StatementId) {
        self.long.remove(&id);
    }
}

impl Engine {
    /// After so long a statement that is under way leaves its place to the next one: a driver must look by then.
    pub const STALL: Duration = STALL;

    pub(super) fn note_sent(&mut self, id: StatementId, work: &Work) {
        self.meter.sent(id, work, self.stalls.now);
        if waits(work) {
            self.stalls.long.insert(id, Long::Waiting);
        } else if class(work).is_some() {
            self.stalls.sent.push_back((id, self.stalls.now));
        }
    }

    /// Frees the places of statements that take long.
    pub(super) fn free_stalled(&mut self, now: Duration) {
        let is_due = |sent: &&(StatementId, Duration)| sent.1 + STALL <= now;
        while let Some((id, _)) = self.stalls.sent.front().filter(is_due).copied() {
            self.stalls.sent.pop_front();
            let Some(work) = self.in_flight.remove(&id) else { continue };
            if let Some(why) = class(&work).filter(|why| self.stalls.has_room(*why)) {
                self.leave_lane(id, &work);
                self.stalls.long.insert(id, why);
            }
            self.in_flight.insert(id, work);
        }
    }

    /// When the next statement will have taken long, if it may leave its place then.
    pub(super) fn next_stall(&mut self) -> Option<Duration> {
        let is_over = |sent: &(StatementId, Duration)| !self.in_flight.contains_key(&sent.0);
        while self.stalls.sent.front().is_some_and(is_over) {
            self.stalls.sent.pop_front();
        }
        let may_leave = |id| {
            let class = self.in_flight.get(id).and_then(class);
            class.is_some_and(|why| self.stalls.has_room(why))
        };
        let next = self.stalls.sent.iter().find(|(id, _)| may_leave(id));
        next.map(|(_, sent_at)| *sent_at + STALL)
    }

    /// A statement is over, or takes long, or nobody waits for it: the next one may take its place.
    pub(super) fn leave_lane(&mut self, id: StatementId, work: &Work) {
        if matches!(self.stalls.long.get(&id), Some(Long::Slow | Long::SlowAdmin)) {
            return;
        }
        match work {
            Work::Validate(column, _, batch, _) => self.lanes.validate[*column as usize].leave(batch),
            Work::Charge(column, _, batch, _) => self.lanes.charge[*column as usize].leave(batch),
            Work::Spend(column, _, batch, _) => self.lanes.spend[*column as usize].leave(batch),
            Work::Change(_, batch) => self.lanes.change.leave(batch),
            Work::Resolve(by, batch) => self.lanes.resolve[*by as usize].leave(batch),
            Work::Admin(request, _) => {
                self.lanes.admin.in_flight -= usize::from(!request.work.is_waiting());
            }
            Work::Catalogue(_) | Work::Refresh(_) | Work::Touch => {}
        }
    }
}

/// What a statement is if it takes long; `None` if it holds no place in a lane.
fn class(work: &Work) -> Option<Long> {
    match work {
        Work::Validate(..) | Work::Charge(..) | Work::Spend(..) | Work::Change(..) | Work::Resolve(..) => {
            Some(Long::Slow)
        }
        Work::Admin(..) => Some(Long::SlowAdmin),
        Work::Catalogue(_) | Work::Refresh(_) | Work::Touch => None,
    }
}

fn waits(work: &Work) -> bool {
    fn of<T>(batch: &Batch<T>) -> bool {
        batch.waits_for.is_some()
    }
    match work {
        Work::Charge(_, _, batch, _) => of(batch),
        Work::Spend(_, _, batch, _) => of(batch),
        Work::Change(_, batch) => of(batch),
        Work::Admin(request, _) => request.work.is_waiting(),
        Work::Validate(..) | Work::Resolve(..) | Work::Catalogue(_) | Work::Refresh(_) | Work::Touch => false,
    }
}
