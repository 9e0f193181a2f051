//! Callers' time limits.

use std::time::Duration;

use super::lane::{KeyLane, Pending};
use super::{Column, Engine, Ticket, Work};
use crate::error::{Error, ErrorCode};

impl Engine {
    /// Gives up what has waited too long. A statement whose callers are all gone no longer counts as under way.
    pub fn expire(&mut self, now: Duration) {
        let mut tickets = self.admin.take_expired(now);
        for column in Column::ALL {
            tickets.extend(self.validate[column as usize].take_expired(now));
            tickets.extend(self.charge[column as usize].take_expired(now));
            tickets.extend(self.spend[column as usize].take_expired(now));
        }
        tickets.extend(self.finish.take_expired(now));
        let mut given_up = Vec::new();
        for (id, work) in &mut self.in_flight {
            let open = match work {
                Work::Validate(_, batch, _) => {
                    expire_requests(batch.requests.iter_mut().flatten(), now, &mut tickets)
                }
                Work::Charge(_, _, batch) => {
                    expire_requests(batch.requests.iter_mut().flatten(), now, &mut tickets)
                }
                Work::Spend(_, _, batch, _) => {
                    expire_requests(batch.requests.iter_mut().flatten(), now, &mut tickets)
                }
                Work::Finish(batch) => {
                    expire_requests(batch.requests.iter_mut().flatten(), now, &mut tickets)
                }
                Work::Admin(request, _) if request.deadline.is_some() => {
                    expire_requests(std::iter::once(request), now, &mut tickets)
                }
                // Without a time limit: migrations, and what the engine does by itself.
                Work::Admin(..) => continue,
                // Without callers of their own: the driver's own time limit ends them.
                Work::Catalogue | Work::Refresh(_) | Work::Touch => continue,
            };
            if !open {
                given_up.push(*id);
            }
        }
        for id in given_up {
            match self.in_flight.remove(&id) {
                Some(Work::Validate(column, ..)) => self.validate[column as usize].in_flight -= 1,
                Some(Work::Charge(column, _, batch)) => {
                    let lane = &mut self.charge[column as usize];
                    lane.in_flight -= 1;
                    batch.keys.iter().for_each(|name| lane.release(name));
                }
                Some(Work::Spend(column, _, batch, _)) => {
                    let lane = &mut self.spend[column as usize];
                    lane.in_flight -= 1;
                    batch.keys.iter().for_each(|name| lane.release(name));
                }
                Some(Work::Finish(batch)) => {
                    self.finish.in_flight -= 1;
                    batch.keys.iter().for_each(|name| self.finish.release(name));
                }
                Some(Work::Admin(..)) => self.admin.in_flight -= 1,
                Some(Work::Catalogue | Work::Refresh(_) | Work::Touch) | None => {}
            }
        }
        for ticket in tickets {
            let message = format!(
                "no answer within {:?}; if it was a charge, it may have been recorded",
                self.options.timeout
            );
            self.answer(ticket, Err(Error::new(ErrorCode::Timeout, message)));
        }
    }

    /// When the time of the next caller is over: `expire` has something to do then.
    pub fn next_deadline(&self) -> Option<Duration> {
        let validate = self.validate.iter().map(KeyLane::next_deadline);
        let waiting = validate
            .chain(self.charge.iter().map(KeyLane::next_deadline))
            .chain(self.spend.iter().map(KeyLane::next_deadline))
            .chain([self.finish.next_deadline(), self.admin.next_deadline()]);
        let under_way = self.in_flight.values().map(|work| match work {
            Work::Validate(_, batch, _) => batch.open_requests().filter_map(|request| request.deadline).min(),
            Work::Charge(_, _, batch) => batch.open_requests().filter_map(|request| request.deadline).min(),
            Work::Spend(_, _, batch, _) => batch.open_requests().filter_map(|request| request.deadline).min(),
            Work::Finish(batch) => batch.open_requests().filter_map(|request| request.deadline).min(),
            Work::Admin(request, _) => request.ticket.and(request.deadline),
            Work::Catalogue | Work::Refresh(_) | Work::Touch => None,
        });
        waiting.chain(under_way).flatten().min()
    }
}

/// Collects the tickets of requests whose time is over. Whether any request is still open.
fn expire_requests<'p, T: 'p>(
    requests: impl Iterator<Item = &'p mut Pending<T>>,
    now: Duration,
    tickets: &mut Vec<Ticket>,
) -> bool {
    let mut open = false;
    for request in requests {
        if request.is_expired(now) {
            tickets.extend(request.ticket.take());
        }
        open |= request.ticket.is_some();
    }
    open
}
