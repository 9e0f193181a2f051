//! Requests that share no statement.

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::{Expired, Pending};
use super::lane::AnyLane;

/// Requests that wait for a statement of their own.
#[derive(Debug)]
pub(super) struct Queue<T> {
    pub(super) waiting: VecDeque<Pending<T>>,
    /// Those that are sent again at a time of their own: a row that they need is locked.
    paused: Vec<(Duration, Pending<T>)>,
    pub(super) in_flight: usize,
    pub(super) blocked_until: Duration,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Queue { waiting: VecDeque::new(), paused: Vec::new(), in_flight: 0, blocked_until: Duration::ZERO }
    }

    /// Sends a request again at a time, and no other waits for it.
    pub(super) fn pause_until(&mut self, time: Duration, request: Pending<T>) {
        self.paused.push((time, request));
    }

    /// Takes everything that waits.
    pub(super) fn take_all(&mut self) -> Vec<Pending<T>> {
        let paused = self.paused.drain(..).map(|(_, request)| request);
        self.waiting.drain(..).chain(paused).collect()
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
        let mut is_left = |request: &mut Pending<T>| {
            let is_expired = request.is_expired(now);
            expired.extend(request.expire(now, false));
            !is_expired
        };
        self.waiting.retain_mut(&mut is_left);
        self.paused.retain_mut(|(_, request)| is_left(request));
    }

    fn next_deadline(&self) -> Option<Duration> {
        let paused = self.paused.iter().map(|(_, request)| request);
        self.waiting.iter().chain(paused).filter_map(|request| request.deadline).min()
    }

    fn pause(&self) -> Option<Duration> {
        let blocked =
            (!self.waiting.is_empty() && self.blocked_until > Duration::ZERO).then_some(self.blocked_until);
        self.paused.iter().map(|(time, _)| *time).chain(blocked).min()
    }

    fn end_pause(&mut self, now: Duration) {
        if self.blocked_until <= now {
            self.blocked_until = Duration::ZERO;
        }
        let due = self.paused.extract_if(.., |(time, _)| *time <= now);
        self.waiting.extend(due.map(|(_, request)| request));
    }
}
