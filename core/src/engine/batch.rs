//! Requests, one by one and as many as share a statement.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Ticket;
use super::operation::Operation;

/// A request that waits, or whose statement is under way.
#[derive(Debug)]
pub(super) struct Pending<T> {
    /// `None` once it was answered early: its time ran out while the statement was under way.
    pub(super) ticket: Option<Ticket>,
    pub(super) deadline: Option<Duration>,
    /// How long it may take.
    limit: Option<Duration>,
    pub(super) attempts: u32,
    /// Whether an earlier attempt may have taken effect.
    pub(super) is_uncertain: bool,
    /// What it asks for; `None` of the engine's own.
    pub(super) operation: Option<Operation>,
    /// Since when it waits for a statement.
    queued_at: Duration,
    pub(super) work: T,
}

impl<T> Pending<T> {
    pub(super) fn new(ticket: Option<Ticket>, now: Duration, limit: Option<Duration>, work: T) -> Self {
        let deadline = limit.map(|limit| now.saturating_add(limit));
        Pending {
            ticket,
            deadline,
            limit,
            attempts: 0,
            is_uncertain: false,
            operation: None,
            queued_at: now,
            work,
        }
    }

    /// The same, of a caller who asks for this.
    pub(super) fn asking(self, operation: Operation) -> Self {
        Pending { operation: Some(operation), ..self }
    }

    /// The same request as other work, which starts anew.
    pub(super) fn with_work<U>(self, work: U) -> Pending<U> {
        Pending {
            ticket: self.ticket,
            deadline: self.deadline,
            limit: self.limit,
            attempts: 0,
            is_uncertain: self.is_uncertain,
            operation: self.operation,
            queued_at: self.queued_at,
            work,
        }
    }

    /// The caller, and what it wants.
    pub(super) fn split(self) -> (Pending<()>, T) {
        let Pending { ticket, deadline, limit, attempts, is_uncertain, operation, queued_at, work } = self;
        let caller =
            Pending { ticket, deadline, limit, attempts, is_uncertain, operation, queued_at, work: () };
        (caller, work)
    }

    pub(super) fn is_expired(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Its ticket, if its time is over: it is answered then.
    pub(super) fn expire(&mut self, now: Duration, was_sent: bool) -> Option<Expired> {
        let ticket = self.ticket.take_if(|_| self.deadline.is_some_and(|deadline| deadline <= now))?;
        let waited = self.limit.unwrap_or_default();
        let is_uncertain = was_sent || self.is_uncertain;
        Some(Expired { ticket, operation: self.operation, waited, is_uncertain })
    }
}

/// A request whose time is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expired {
    pub(super) ticket: Ticket,
    pub(super) operation: Option<Operation>,
    /// How long it might take.
    pub(super) waited: Duration,
    pub(super) is_uncertain: bool,
}

/// The requests of a statement: the keys, each once, and for each its requests.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) keys: Vec<Arc<str>>,
    pub(super) requests: Vec<Vec<Pending<T>>>,
    /// The id of the only row that the statement waits for.
    pub(super) waits_for: Option<Arc<str>>,
    /// It may need rows that other batches of its lane need too: ancestors.
    pub(super) shares_rows: bool,
}

impl<T> Batch<T> {
    pub(super) fn new() -> Self {
        Batch { keys: Vec::new(), requests: Vec::new(), waits_for: None, shares_rows: false }
    }

    /// Both halves, of keys or of the requests of the only key. `None` if there is one request alone.
    pub(super) fn halves(mut self) -> Result<[Self; 2], Self> {
        let mut second = Batch { waits_for: self.waits_for.clone(), ..Batch::new() };
        if self.keys.len() > 1 {
            second.keys = self.keys.split_off(self.keys.len() / 2);
            second.requests = self.requests.split_off(self.requests.len() / 2);
            return Ok([self, second]);
        }
        match self.requests.first_mut() {
            Some(group) if group.len() > 1 => {
                second.keys.clone_from(&self.keys);
                second.requests.push(group.split_off(group.len() / 2));
                Ok([self, second])
            }
            _ => Err(self),
        }
    }

    pub(super) fn open_requests(&self) -> impl Iterator<Item = &Pending<T>> {
        self.requests.iter().flatten().filter(|request| request.ticket.is_some())
    }
}

/// What all batches under way have in common, whatever is in them.
pub(super) trait AnyBatch {
    /// Answers those whose time is over. Whether anybody still waits for the batch.
    fn expire(&mut self, now: Duration, was_sent: bool, expired: &mut Vec<Expired>) -> bool;
    /// Whether some of its callers stopped waiting.
    fn has_lost_callers(&self, cancelled: &HashSet<Ticket>) -> bool;
    /// When the time of the next one is over.
    fn next_deadline(&self) -> Option<Duration>;
    /// Since when each waits for a statement.
    fn each_queued(&mut self, see: &mut dyn FnMut(&mut Duration));
}

impl<T> AnyBatch for Batch<T> {
    fn expire(&mut self, now: Duration, was_sent: bool, expired: &mut Vec<Expired>) -> bool {
        let mut open = false;
        for request in self.requests.iter_mut().flatten() {
            expired.extend(request.expire(now, was_sent));
            open |= request.ticket.is_some();
        }
        open
    }

    fn has_lost_callers(&self, cancelled: &HashSet<Ticket>) -> bool {
        self.requests.iter().flatten().any(|request| request.has_lost_callers(cancelled))
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.open_requests().filter_map(|request| request.deadline).min()
    }

    fn each_queued(&mut self, see: &mut dyn FnMut(&mut Duration)) {
        self.requests.iter_mut().flatten().for_each(|request| see(&mut request.queued_at));
    }
}

impl<T> AnyBatch for Pending<T> {
    fn expire(&mut self, now: Duration, was_sent: bool, expired: &mut Vec<Expired>) -> bool {
        expired.extend(Pending::expire(self, now, was_sent));
        self.ticket.is_some() || self.deadline.is_none()
    }

    /// One without a time limit has perhaps no caller.
    fn has_lost_callers(&self, cancelled: &HashSet<Ticket>) -> bool {
        self.ticket.map_or(self.deadline.is_some(), |ticket| cancelled.contains(&ticket))
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.ticket.and(self.deadline)
    }

    fn each_queued(&mut self, see: &mut dyn FnMut(&mut Duration)) {
        see(&mut self.queued_at);
    }
}
