//! Callers' time limits.

use std::time::Duration;

use super::catalogue::Table;
use super::{Engine, Work};
use crate::error::{Error, ErrorCode};

impl Engine {
    /// Gives up what has waited too long. A statement whose callers are all gone no longer counts as under way.
    pub fn expire(&mut self, now: Duration) {
        self.free_stalled(now);
        let mut expired = Vec::new();
        for lane in self.lanes.all_mut() {
            lane.take_expired(now, &mut expired);
        }
        let mut given_up = Vec::new();
        for (id, work) in &mut self.in_flight {
            let is_open = match work {
                Work::Catalogue(until) => *until > now,
                // The driver's own time limit ends these.
                Work::Refresh(_) | Work::Touch => true,
                work => {
                    // What only finds a key records nothing.
                    let was_sent = !self.held.contains(id) && !matches!(work, Work::Resolve(..));
                    work.callers().is_none_or(|callers| callers.expire(now, was_sent, &mut expired))
                }
            };
            if !is_open {
                given_up.push(*id);
            }
        }
        for id in given_up {
            if let Some(mut work) = self.in_flight.remove(&id) {
                self.meter.gave_up(id);
                self.meter.waited(id, &mut work, now);
                self.leave_lane(id, &work);
                self.give_up(work);
            }
        }
        for expired in expired {
            let waited = expired.waited;
            let error = match expired.is_uncertain {
                true => Error::new(
                    ErrorCode::Timeout,
                    format!("no answer within {waited:?}; if it was a charge, it may have been recorded"),
                )
                .after_sending(),
                false => Error::new(
                    ErrorCode::Timeout,
                    format!("not sent within {waited:?}; nothing was recorded"),
                ),
            };
            self.answer(expired.ticket, expired.operation, Err(error));
        }
    }

    /// A statement that nobody waits for any more: its keys may be in another one.
    fn give_up(&mut self, work: Work) {
        match work {
            Work::Charge(column, _, batch, _) => {
                let lane = &mut self.lanes.charge[column as usize];
                batch.keys.iter().for_each(|name| lane.release(name));
            }
            Work::Spend(column, _, batch, _) => {
                let lane = &mut self.lanes.spend[column as usize];
                batch.keys.iter().for_each(|name| lane.release(name));
            }
            Work::Change(_, batch) => batch.keys.iter().for_each(|name| self.lanes.change.release(name)),
            // It is asked again.
            Work::Catalogue(_) => self.table = Table::Unknown,
            Work::Validate(..) | Work::Resolve(..) | Work::Admin(..) | Work::Refresh(_) | Work::Touch => {}
        }
    }

    /// When the time of the next caller is over: `expire` has something to do then.
    pub fn next_deadline(&mut self) -> Option<Duration> {
        let waiting = self.lanes.all().into_iter().filter_map(|lane| lane.next_deadline()).min();
        let under_way = self.in_flight.values_mut().filter_map(|work| match work {
            Work::Catalogue(until) => Some(*until),
            work => work.callers()?.next_deadline(),
        });
        let earliest = under_way.chain(waiting).min();
        [earliest, self.next_stall()].into_iter().flatten().min()
    }
}
