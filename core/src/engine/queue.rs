//! Requests that share no statement.

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::{Expired, Pending};
use super::lane::AnyLane;

/// Requests that wait for a statement of their own.
#[derive(Debug)]
pub(super) struct Queue<T> {
    pub(super) waiting: VecDeque<Pending<T>>,
    pub(super) in_flight: usize,
    pub(super) blocked_until: Duration,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Queue { waiting: VecDeque::new(), in_flight: 0, blocked_until: Duration::ZERO }
    }
}

impl<T> AnyLane for Queue<T> {
    fn is_ready(&self, now: Duration, max_in_flight: usize) -> bool {
        !self.waiting.is_empty() && self.in_flight < max_in_flight && self.blocked_until <= now
    }

    fn has_backlog(&self) -> bool {
        false
    }

    fn take_expired(&mut self, now: Duration, expired: &mut Vec<Expired>) {
        self.waiting.retain_mut(|request| {
            let is_expired = request.is_expired(now);
            expired.extend(request.expire(now, false));
            !is_expired
        });
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.waiting.iter().filter_map(|request| request.deadline).min()
    }

    fn pause(&self) -> Option<Duration> {
        (!self.waiting.is_empty() && self.blocked_until > Duration::ZERO).then_some(self.blocked_until)
    }

    fn end_pause(&mut self, now: Duration) {
        if self.blocked_until <= now {
            self.blocked_until = Duration::ZERO;
        }
    }
}
