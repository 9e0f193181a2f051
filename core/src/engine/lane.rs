//! Lanes: requests of one kind that wait to share a statement.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Ticket;

/// As many keys are not worth a second statement.
const FEW_KEYS: usize = 32;

/// A request that waits, or whose statement is under way.
#[derive(Debug)]
pub(crate) struct Pending<T> {
    /// `None` once it was answered early: its time ran out while the statement was under way.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) work: T,
}

impl<T> Pending<T> {
    pub(crate) fn is_expired(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// The requests of a statement: the keys, each once, and for each its requests.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) keys: Vec<Arc<str>>,
    pub(crate) requests: Vec<Vec<Pending<T>>>,
}

impl<T> Batch<T> {
    pub(crate) fn open_requests(&self) -> impl Iterator<Item = &Pending<T>> {
        self.requests.iter().flatten().filter(|request| request.ticket.is_some())
    }
}

/// Requests that wait, by key, and how many statements are under way.
#[derive(Debug)]
pub(crate) struct KeyLane<T> {
    keys: HashMap<Arc<str>, Key<T>>,
    /// Keys that have waiting requests and may be sent, the longest waiting first.
    ready: VecDeque<Arc<str>>,
    /// Whether a key may be in one statement at a time only: statements that write one row would wait for one another.
    exclusive: bool,
    pub(crate) in_flight: usize,
    /// After a statement that was aborted: nothing is sent before this time.
    pub(crate) blocked_until: Duration,
}

#[derive(Debug)]
struct Key<T> {
    waiting: Vec<Pending<T>>,
    in_flight: bool,
}

impl<T> KeyLane<T> {
    pub(crate) fn new(exclusive: bool) -> Self {
        KeyLane {
            keys: HashMap::new(),
            ready: VecDeque::new(),
            exclusive,
            in_flight: 0,
            blocked_until: Duration::ZERO,
        }
    }

    pub(crate) fn push(&mut self, key: Arc<str>, request: Pending<T>) {
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

    /// Whether a statement may be sent.
    pub(crate) fn is_ready(&self, now: Duration, max_in_flight: usize) -> bool {
        !self.ready.is_empty() && self.in_flight < max_in_flight && self.blocked_until <= now
    }

    /// Takes requests for a statement: at most `max`, of the keys that wait longest. Many keys are shared out evenly
    /// among the statements that may be under way.
    pub(crate) fn take(&mut self, max: usize, max_in_flight: usize) -> Batch<T> {
        let mut batch = Batch { keys: Vec::new(), requests: Vec::new() };
        let mut room = max;
        // Callers that call again when they are answered would else all wait for one statement, forever in step: the
        // database idles while the answers are read, the client while the statement runs.
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
    pub(crate) fn release(&mut self, name: &Arc<str>) {
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
    pub(crate) fn put_back(&mut self, name: &Arc<str>, mut requests: Vec<Pending<T>>) {
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

    /// Takes those whose time is over.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        for key in self.keys.values_mut() {
            key.waiting.retain(|request| {
                let expired = request.is_expired(now);
                tickets.extend(request.ticket.filter(|_| expired));
                !expired
            });
        }
        self.drop_idle_keys();
        tickets
    }

    /// Takes everything that waits.
    pub(crate) fn take_all(&mut self) -> Vec<Ticket> {
        let waiting = self.keys.values_mut().flat_map(|key| key.waiting.drain(..));
        let tickets = waiting.filter_map(|request| request.ticket).collect();
        self.drop_idle_keys();
        tickets
    }

    fn drop_idle_keys(&mut self) {
        self.keys.retain(|_, key| key.in_flight || !key.waiting.is_empty());
        let keys = &self.keys;
        self.ready.retain(|name| keys.contains_key(name));
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        // The first of each key is its oldest.
        self.keys.values().filter_map(|key| key.waiting.first()?.deadline).min()
    }

    pub(crate) fn pause(&self) -> Option<Duration> {
        (!self.ready.is_empty() && self.blocked_until > Duration::ZERO).then_some(self.blocked_until)
    }
}

/// Requests that wait for a statement of their own.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    pub(crate) waiting: VecDeque<Pending<T>>,
    pub(crate) in_flight: usize,
    pub(crate) blocked_until: Duration,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Queue { waiting: VecDeque::new(), in_flight: 0, blocked_until: Duration::ZERO }
    }

    pub(crate) fn is_ready(&self, now: Duration, max_in_flight: usize) -> bool {
        !self.waiting.is_empty() && self.in_flight < max_in_flight && self.blocked_until <= now
    }

    pub(crate) fn take_expired(&mut self, now: Duration) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        self.waiting.retain(|request| {
            let expired = request.is_expired(now);
            tickets.extend(request.ticket.filter(|_| expired));
            !expired
        });
        tickets
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.waiting.iter().filter_map(|request| request.deadline).min()
    }

    pub(crate) fn pause(&self) -> Option<Duration> {
        (!self.waiting.is_empty() && self.blocked_until > Duration::ZERO).then_some(self.blocked_until)
    }
}
