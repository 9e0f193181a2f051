//! A lane: requests of one kind that wait to share a statement.

use std::collections::VecDeque;
use std::time::Duration;

use super::Ticket;

/// A request that waits, or whose statement is under way.
#[derive(Debug)]
pub(crate) struct Pending<T> {
    /// `None` once it was answered early: its time ran out while the statement was under way.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) work: T,
}

/// Requests that wait, and how many statements are under way.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    pub(crate) waiting: VecDeque<Pending<T>>,
    pub(crate) in_flight: usize,
    /// After a statement that was aborted: nothing is sent before this time.
    pub(crate) blocked_until: Duration,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Lane { waiting: VecDeque::new(), in_flight: 0, blocked_until: Duration::ZERO }
    }
}

impl<T> Lane<T> {
    /// Whether a statement may be sent.
    pub(crate) fn is_ready(&self, now: Duration, max_in_flight: usize) -> bool {
        !self.waiting.is_empty() && self.in_flight < max_in_flight && self.blocked_until <= now
    }

    /// Takes requests for a statement: at most `max`, the oldest first.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Pending<T>> {
        let count = self.waiting.len().min(max);
        self.waiting.drain(..count).collect()
    }

    /// Puts requests back, before all others, in their order.
    pub(crate) fn put_back(&mut self, requests: Vec<Pending<T>>) {
        for request in requests.into_iter().rev() {
            self.waiting.push_front(request);
        }
    }

    /// Takes those whose time is over.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Vec<Pending<T>> {
        // Deadlines ascend but for what was put back, which is older still and in front.
        let is_expired = |p: &Pending<T>| p.deadline.is_some_and(|deadline| deadline <= now);
        let count = self.waiting.iter().take_while(|p| is_expired(p)).count();
        self.waiting.drain(..count).collect()
    }
}
