//! Lanes: requests of one kind that wait to share a statement.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Ticket;

/// As many keys are not worth a second statement.
const FEW_KEYS: usize = 32;

/// A request that waits, or whose statement is under way.
#[derive(Debug)]
pub(super) struct Pending<T> {
    /// `None` once it was answered early: its time ran out while the statement was under way.
    pub(super) ticket: Option<Ticket>,
    pub(super) deadline: Option<Duration>,
    pub(super) attempts: u32,
    /// Whether an earlier attempt may have taken effect.
    pub(super) is_uncertain: bool,
    pub(super) work: T,
}

impl<T> Pending<T> {
    pub(super) fn new(ticket: Option<Ticket>, deadline: Option<Duration>, work: T) -> Self {
        Pending { ticket, deadline, attempts: 0, is_uncertain: false, work }
    }

    /// The same request as other work, which starts anew.
    pub(super) fn with_work<U>(self, work: U) -> Pending<U> {
        Pending {
            ticket: self.ticket,
            deadline: self.deadline,
            attempts: 0,
            is_uncertain: self.is_uncertain,
            work,
        }
    }

    fn is_expired(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Its ticket, if its time is over: it is answered then.
    pub(super) fn expire(&mut self, now: Duration, was_sent: bool) -> Option<Expired> {
        let ticket = self.ticket.take_if(|_| self.deadline.is_some_and(|deadline| deadline <= now))?;
        Some(Expired { ticket, is_uncertain: was_sent || self.is_uncertain })
    }
}

/// A request whose time is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expired {
    pub(super) ticket: Ticket,
    pub(super) is_uncertain: bool,
}

/// What all lanes have in common, whatever waits in them.
pub(super) trait AnyLane {
    /// Whether a statement may be sent.
    fn is_ready(&self, now: Duration, max_in_flight: usize) -> bool;
    /// Takes those whose time is over.
    fn take_expired(&mut self, now: Duration, expired: &mut Vec<Expired>);
    /// When the time of the next one is over.
    fn next_deadline(&self) -> Option<Duration>;
    /// When a pause ends that keeps something waiting.
    fn pause(&self) -> Option<Duration>;
    fn end_pause(&mut self, now: Duration);
}

/// The requests of a statement: the keys, each once, and for each its requests.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) keys: Vec<Arc<str>>,
    pub(super) requests: Vec<Vec<Pending<T>>>,
}

impl<T> Batch<T> {
    pub(super) fn open_requests(&self) -> impl Iterator<Item = &Pending<T>> {
        self.requests.iter().flatten().filter(|request| request.ticket.is_some())
    }
}

/// What all batches under way have in common, whatever is in them.
pub(super) trait AnyBatch {
    /// Answers those whose time is over. Whether anybody still waits for the batch.
    fn expire(&mut self, now: Duration, expired: &mut Vec<Expired>) -> bool;
    /// When the time of the next one is over.
    fn next_deadline(&self) -> Option<Duration>;
}

impl<T> AnyBatch for Batch<T> {
    fn expire(&mut self, now: Duration, expired: &mut Vec<Expired>) -> bool {
        let mut open = false;
        for request in self.requests.iter_mut().flatten() {
            expired.extend(request.expire(now, true));
            open |= request.ticket.is_some();
        }
        open
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.open_requests().filter_map(|request| request.deadline).min()
    }
}

impl<T> AnyBatch for Pending<T> {
    fn expire(&mut self, now: Duration, expired: &mut Vec<Expired>) -> bool {
        expired.extend(Pending::expire(self, now, true));
        self.ticket.is_some() || self.deadline.is_none()
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.ticket.and(self.deadline)
    }
}

/// Requests that wait, by key, and how many statements are under way.
#[derive(Debug)]
pub(super) struct KeyLane<T> {
    keys: HashMap<Arc<str>, Key<T>>,
    /// Keys that have waiting requests and may be sent, the longest waiting first.
    ready: VecDeque<Arc<str>>,
    /// Whether a key may be in one statement at a time only: statements that write one row would wait for one another.
    exclusive: bool,
    pub(super) in_flight: usize,
    /// After a statement that was aborted: nothing is sent before this time.
    pub(super) blocked_until: Duration,
}

#[derive(Debug)]
struct Key<T> {
    waiting: Vec<Pending<T>>,
    in_flight: bool,
}

impl<T> KeyLane<T> {
    pub(super) fn new(exclusive: bool) -> Self {
        KeyLane {
            keys: HashMap::new(),
            ready: VecDeque::new(),
            exclusive,
            in_flight: 0,
            blocked_until: Duration::ZERO,
        }
    }

    pub(super) fn push(&mut self, key: Arc<str>, request: Pending<T>) {
        if let Some(known) = self.keys.get_mut(&key) {
            known.waiting.push(request);
            if known.waiting.len() > 1 || known.in_flight {
                return;
            }
            self.ready.push_back(key);
        } else {
            self.ready.push_back(Arc::clone(&key));
            self.keys.insert(key, Key { waiting: vec![request], in_flight: false });
        }
    }

    /// Takes requests for a statement: at most `max`, of the keys that wait longest. Many keys are shared out evenly
    /// among the statements that may be under way.
    pub(super) fn take(&mut self, max: usize, max_in_flight: usize) -> Batch<T> {
        let mut batch = Batch { keys: Vec::new(), requests: Vec::new() };
        let mut room = max;
        // Otherwise all callers synchronise on one statement: the database idles while they read their answers, and
        // they idle while it runs.
        let statements = max_in_flight.saturating_sub(self.in_flight).max(1);
        let max_keys = self.ready.len().div_ceil(statements).max(FEW_KEYS);
        while room > 0
            && batch.keys.len() < max_keys
            && let Some(name) = self.ready.pop_front()
        {
            let Some(key) = self.keys.get_mut(&name) else { continue };
            let count = key.waiting.len().min(room);
            if count == 0 {
                self.keys.remove(&name);
                continue;
            }
            room -= count;
            let rest = key.waiting.split_off(count);
            batch.requests.push(std::mem::replace(&mut key.waiting, rest));
            key.in_flight = self.exclusive;
            if !key.waiting.is_empty() && !self.exclusive {
                self.ready.push_back(Arc::clone(&name));
            } else if key.waiting.is_empty() && !self.exclusive {
                self.keys.remove(&name);
            }
            batch.keys.push(name);
        }
        batch
    }

    /// Lets a key be sent again, after `put_back` of what is to be repeated.
    pub(super) fn release(&mut self, name: &Arc<str>) {
        if !self.exclusive {
            return;
        }
        if let Some(key) = self.keys.get_mut(name) {
            key.in_flight = false;
            if key.waiting.is_empty() {
                self.keys.remove(name);
            } else {
                self.ready.push_back(Arc::clone(name));
            }
        }
    }

    /// Puts requests back, before others of their key. A key that was taken must then be released.
    pub(super) fn put_back(&mut self, name: &Arc<str>, mut requests: Vec<Pending<T>>) {
        if requests.is_empty() {
            return;
        }
        let exclusive = self.exclusive;
        let key = self
            .keys
            .entry(Arc::clone(name))
            .or_insert_with(|| Key { waiting: Vec::new(), in_flight: exclusive });
        if key.waiting.is_empty() && !key.in_flight {
            self.ready.push_back(Arc::clone(name));
        }
        requests.append(&mut key.waiting);
        key.waiting = requests;
    }

    /// Takes everything that waits.
    pub(super) fn take_all(&mut self) -> Vec<Pending<T>> {
        let waiting = self.keys.values_mut().flat_map(|key| key.waiting.drain(..)).collect();
        self.drop_idle_keys();
        waiting
    }

    fn drop_idle_keys(&mut self) {
        self.keys.retain(|_, key| key.in_flight || !key.waiting.is_empty());
        let keys = &self.keys;
        self.ready.retain(|name| keys.contains_key(name));
    }
}

impl<T> AnyLane for KeyLane<T> {
    fn is_ready(&self, now: Duration, max_in_flight: usize) -> bool {
        !self.ready.is_empty() && self.in_flight < max_in_flight && self.blocked_until <= now
    }

    fn take_expired(&mut self, now: Duration, expired: &mut Vec<Expired>) {
        for key in self.keys.values_mut() {
            key.waiting.retain_mut(|request| {
                let is_expired = request.is_expired(now);
                expired.extend(request.expire(now, false));
                !is_expired
            });
        }
        self.drop_idle_keys();
    }

    fn next_deadline(&self) -> Option<Duration> {
        // The first of each key is its oldest.
        self.keys.values().filter_map(|key| key.waiting.first()?.deadline).min()
    }

    fn pause(&self) -> Option<Duration> {
        (!self.ready.is_empty() && self.blocked_until > Duration::ZERO).then_some(self.blocked_until)
    }

    fn end_pause(&mut self, now: Duration) {
        if self.blocked_until <= now {
            self.blocked_until = Duration::ZERO;
        }
    }
}

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
