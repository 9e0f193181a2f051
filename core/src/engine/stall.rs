//! Statements that take long: they do not keep those of others waiting.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::batch::Batch;
use super::{Engine, StatementId, Work};

/// A statement that is under way for so long leaves its place in the lane to the next one.
pub(super) const STALL: Duration = Duration::from_millis(100);
/// So many at most, or they would take every connection of the pool.
pub(super) const MAX_STALLED: usize = 2;

/// Statements under way, by how long.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// The driver's clock at the last poll.
    pub(super) now: Duration,
    /// When statements were sent that hold a place in a lane. Some may be over.
    sent: VecDeque<(StatementId, Duration)>,
    /// Those that have left it.
    stalled: HashSet<StatementId>,
}

impl Engine {
    pub(super) fn note_sent(&mut self, id: StatementId, work: &Work) {
        if has_place(work) {
            self.stalls.sent.push_back((id, self.stalls.now));
        }
    }

    /// Frees the places of statements that take long.
    pub(super) fn free_stalled(&mut self, now: Duration) {
        while let Some((id, sent_at)) = self.stalls.sent.front().copied() {
            if sent_at + STALL > now {
                break;
            }
            self.stalls.sent.pop_front();
            if self.stalls.stalled.len() >= MAX_STALLED {
                continue;
            }
            if let Some(work) = self.in_flight.remove(&id) {
                self.leave_lane(id, &work);
                self.stalls.stalled.insert(id);
                self.in_flight.insert(id, work);
            }
        }
    }

    /// When the next statement will have taken long.
    pub(super) fn next_stall(&mut self) -> Option<Duration> {
        let sent = &mut self.stalls.sent;
        while sent.front().is_some_and(|(id, _)| !self.in_flight.contains_key(id)) {
            sent.pop_front();
        }
        let can_stall = self.stalls.stalled.len() < MAX_STALLED;
        sent.front().filter(|_| can_stall).map(|(_, sent_at)| *sent_at + STALL)
    }

    /// Whether a statement takes long that is like this.
    pub(super) fn has_stalled(&self, is_like: impl Fn(&Work) -> bool) -> bool {
        self.stalls.stalled.iter().any(|id| self.in_flight.get(id).is_some_and(&is_like))
    }

    /// A statement is over, or takes long: the next one may take its place.
    pub(super) fn leave_lane(&mut self, id: StatementId, work: &Work) {
        if self.stalls.stalled.remove(&id) {
            return;
        }
        match work {
            Work::Validate(column, _, batch, _) => self.lanes.validate[*column as usize].ended(batch),
            Work::Charge(column, _, batch, _) => self.lanes.charge[*column as usize].ended(batch),
            Work::Spend(column, _, batch, _) => self.lanes.spend[*column as usize].ended(batch),
            Work::Change(batch) => self.lanes.change.ended(batch),
            Work::Admin(..) => self.lanes.admin.in_flight -= 1,
            Work::Catalogue(_) | Work::Refresh(_) | Work::Touch => {}
        }
    }
}

/// Whether a statement holds a place in a lane.
fn has_place(work: &Work) -> bool {
    fn is_counted<T>(batch: &Batch<T>) -> bool {
        batch.waits_for.is_none()
    }
    match work {
        Work::Validate(_, _, batch, _) => is_counted(batch),
        Work::Charge(_, _, batch, _) => is_counted(batch),
        Work::Spend(_, _, batch, _) => is_counted(batch),
        Work::Change(batch) => is_counted(batch),
        Work::Admin(..) => true,
        Work::Catalogue(_) | Work::Refresh(_) | Work::Touch => false,
    }
}
