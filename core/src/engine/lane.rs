//! Lanes: requests of one kind that wait to share a statement.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::batch::{AnyBatch, Batch, Expired, Pending};
use super::busy::BusyRows;

/// As many keys are not worth a second statement.
const FEW_KEYS: usize = 32;
/// As many requests of one key are worth a statement before those that are answered ask again. Many keys are not: the
/// more requests there are of each, the less each costs.
const BACKLOG: usize = 16;

/// What all lanes have in common, whatever waits in them.
pub(super) trait AnyLane {
    /// Whether a statement may be sent.
    fn is_ready(&self, now: Duration, max_in_flight: usize) -> bool;
    /// Whether plenty waits for one key, and nothing is under way.
    fn has_backlog(&self) -> bool;
    /// Takes those whose time is over.
    fn take_expired(&mut self, now: Duration, expired: &mut Vec<Expired>);
    /// When the time of the next one is over.
    fn next_deadline(&self) -> Option<Duration>;
    /// When a pause ends that keeps something waiting.
    fn pause(&self) -> Option<Duration>;
    fn end_pause(&mut self, now: Duration);
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
    /// How many of those share rows with others.
    sharing: usize,
    /// After a statement that was aborted: nothing is sent before this time.
    pub(super) blocked_until: Duration,
    /// Parts of a batch that failed, each to be sent as it is, until whoever is at fault is alone.
    parts: VecDeque<Batch<T>>,
    /// Keys that are neither `ready` nor in a statement: a row that they need is locked.
    busy: BusyRows,
}

#[derive(Debug)]
struct Key<T> {
    waiting: Vec<Pending<T>>,
    in_flight: bool,
    /// How often in a row it, or an ancestor, was found locked.
    looks: u32,
}

impl<T> KeyLane<T> {
    pub(super) fn new(exclusive: bool) -> Self {
        KeyLane {
            keys: HashMap::new(),
            ready: VecDeque::new(),
            exclusive,
            in_flight: 0,
            sharing: 0,
            blocked_until: Duration::ZERO,
            parts: VecDeque::new(),
            busy: BusyRows::default(),
        }
    }

    pub(super) fn push(&mut self, key: Arc<str>, request: Pending<T>) {
        if let Some(known) = self.keys.get_mut(&key) {
            known.waiting.push(request);
            if known.waiting.len() > 1 || known.in_flight {
                return;
            }
        } else {
            let known = Key { waiting: vec![request], in_flight: false, looks: 0 };
            self.keys.insert(Arc::clone(&key), known);
        }
        self.enqueue(key);
    }

    /// Lets a key be sent: with others, or in a statement that waits for the row that was locked lately.
    fn enqueue(&mut self, name: Arc<str>) {
        if !self.busy.park_hot(&name) {
            self.ready.push_back(name);
        }
    }

    /// Takes requests for a statement: at most `max`, of the keys that wait longest. Many keys are shared out evenly
    /// among the statements that may be under way.
    pub(super) fn take(&mut self, max: usize, max_in_flight: usize) -> Batch<T> {
        if let Some(part) = self.parts.pop_front() {
            return part;
        }
        let mut batch = Batch::new();
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
            key.looks = 0;
            if key.waiting.is_empty() {
                self.keys.remove(name);
            } else {
                self.enqueue(Arc::clone(name));
            }
        }
    }

    /// The same, but not before a time, where a key may be in one statement only. Otherwise the lane pauses.
    pub(super) fn release_at(&mut self, name: &Arc<str>, time: Duration) {
        match self.keys.get_mut(name) {
            Some(key) if self.exclusive && !key.waiting.is_empty() => {
                key.in_flight = false;
                self.busy.pause_key(name, time);
            }
            _ => {
                self.blocked_until = time;
                self.release(name);
            }
        }
    }

    /// Puts requests back, before others of their key. A key that was taken must then be released.
    pub(super) fn put_back(&mut self, name: &Arc<str>, mut requests: Vec<Pending<T>>) {
        if requests.is_empty() {
            return;
        }
        let exclusive = self.exclusive;
        let key = self.keys.entry(Arc::clone(name)).or_insert_with(|| Key {
            waiting: Vec::new(),
            in_flight: exclusive,
            looks: 0,
        });
        if key.waiting.is_empty() && !key.in_flight {
            self.ready.push_back(Arc::clone(name));
        }
        requests.append(&mut key.waiting);
        key.waiting = requests;
    }

    /// Puts the requests of a key back whose row, or an ancestor's, somebody else has locked.
    pub(super) fn put_back_busy(
        &mut self,
        name: &Arc<str>,
        requests: Vec<Pending<T>>,
        row: &str,
        now: Duration,
    ) {
        self.put_back(name, requests);
        let Some(key) = self.keys.get_mut(name) else { return };
        key.in_flight = false;
        if key.waiting.is_empty() {
            self.keys.remove(name);
        } else {
            key.looks += 1;
            let (looks, requests) = (key.looks, key.waiting.len());
            self.busy.park(name, requests, row, looks, now);
        }
    }

    /// Takes requests for a statement that waits for a locked row: all that need that row, at most `max`.
    pub(super) fn take_waiting(&mut self, max: usize) -> Option<Batch<T>> {
        let (row, names) = self.busy.next_to_wait_for()?;
        let mut batch = Batch::new();
        let mut left = Vec::new();
        let mut room = max;
        for name in names {
            match self.keys.get_mut(&name) {
                Some(key) if room > 0 => {
                    let rest = key.waiting.split_off(key.waiting.len().min(room));
                    let taken = std::mem::replace(&mut key.waiting, rest);
                    room -= taken.len();
                    key.in_flight = true;
                    batch.requests.push(taken);
                    batch.keys.push(name);
                }
                Some(_) => left.push(name),
                None => {}
            }
        }
        self.busy.give_back(&row, left);
        batch.waits_for = Some(row);
        Some(batch)
    }

    /// Whether there is nothing to send, now or later.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.parts.is_empty() && self.busy.is_empty()
    }

    /// Whether others lock the rows of these keys.
    pub(super) fn is_contended(&self) -> bool {
        self.busy.are_contended()
    }

    /// Says of a batch that was just taken whether it shares rows.
    pub(super) fn note_sharing(&mut self, batch: &mut Batch<T>, shares_rows: bool) {
        batch.shares_rows = shares_rows;
        self.sharing += usize::from(shares_rows);
    }

    /// Whether a batch that shares rows is under way.
    pub(super) fn is_sharing(&self) -> bool {
        self.sharing > 0
    }

    /// The requests of a key that are in no statement.
    pub(super) fn waiting_mut(&mut self, name: &Arc<str>) -> impl Iterator<Item = &mut Pending<T>> {
        self.keys.get_mut(name).into_iter().flat_map(|key| &mut key.waiting)
    }

    /// The statement of a batch is over, or takes long.
    pub(super) fn leave(&mut self, batch: &Batch<T>) {
        match &batch.waits_for {
            None => {
                self.in_flight -= 1;
                self.sharing -= usize::from(batch.shares_rows);
            }
            Some(row) => self.busy.waited(row),
        }
    }

    /// Puts a batch back that failed for one of its requests, in halves. A request alone comes back.
    pub(super) fn split(&mut self, batch: Batch<T>) -> Option<Batch<T>> {
        match batch.halves() {
            Ok(halves) => {
                self.parts.extend(halves.map(|half| Batch { waits_for: None, ..half }));
                // Some may have been answered meanwhile, for their time was over.
                self.drop_closed_parts();
                None
            }
            Err(alone) => Some(alone),
        }
    }

    /// Takes everything that waits.
    pub(super) fn take_all(&mut self) -> Vec<Pending<T>> {
        let mut waiting = Vec::new();
        for part in std::mem::take(&mut self.parts) {
            for (name, group) in part.keys.iter().zip(part.requests) {
                waiting.extend(group);
                self.release(name);
            }
        }
        waiting.extend(self.keys.values_mut().flat_map(|key| key.waiting.drain(..)));
        self.drop_idle_keys();
        waiting
    }

    fn drop_closed_parts(&mut self) {
        let mut closed = Vec::new();
        for part in &mut self.parts {
            let groups = std::mem::take(&mut part.keys).into_iter().zip(std::mem::take(&mut part.requests));
            for (name, mut group) in groups {
                group.retain(|request| request.ticket.is_some());
                if group.is_empty() {
                    closed.push(name);
                } else {
                    part.keys.push(name);
                    part.requests.push(group);
                }
            }
        }
        self.parts.retain(|part| !part.keys.is_empty());
        closed.iter().for_each(|name| self.release(name));
    }

    fn drop_idle_keys(&mut self) {
        self.keys.retain(|_, key| key.in_flight || !key.waiting.is_empty());
        let keys = &self.keys;
        self.ready.retain(|name| keys.contains_key(name));
        self.busy.retain(|name| keys.contains_key(name));
    }
}

impl<T> AnyLane for KeyLane<T> {
    fn is_ready(&self, now: Duration, max_in_flight: usize) -> bool {
        let has_work = !self.ready.is_empty() || !self.parts.is_empty();
        has_work && self.in_flight < max_in_flight && self.blocked_until <= now
    }

    fn has_backlog(&self) -> bool {
        let first = || self.ready.front().and_then(|name| self.keys.get(name));
        self.in_flight == 0 && first().is_some_and(|key| key.waiting.len() >= BACKLOG)
    }

    fn take_expired(&mut self, now: Duration, expired: &mut Vec<Expired>) {
        for part in &mut self.parts {
            for request in part.requests.iter_mut().flatten() {
                expired.extend(request.expire(now, false));
            }
        }
        self.drop_closed_parts();
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
        let parts = self.parts.iter().filter_map(AnyBatch::next_deadline);
        let waiting = self.keys.values().flat_map(|key| &key.waiting);
        parts.chain(waiting.filter_map(|request| request.deadline)).min()
    }

    fn pause(&self) -> Option<Duration> {
        let has_work = !self.ready.is_empty() || !self.parts.is_empty();
        let pause = Some(self.blocked_until).filter(|until| has_work && *until > Duration::ZERO);
        [pause, self.busy.pause()].into_iter().flatten().min()
    }

    fn end_pause(&mut self, now: Duration) {
        if self.blocked_until <= now {
            self.blocked_until = Duration::ZERO;
        }
        self.ready.extend(self.busy.take_due(now));
    }
}
