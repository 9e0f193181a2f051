//! The engine: requests in, statements out; rows in, answers out. No I/O, no clock, no threads.
//!
//! A driver submits requests, takes statements with [`Engine::poll`] while there are any, runs them, hands the rows to
//! [`Engine::receive`], and gives [`Engine::answers`] to the callers. Times are durations since any moment of the
//! driver's choice; the engine uses them for timeouts and retries alone. What a key may do and spend is decided by the
//! database's clock.

mod admin;
mod batch;
mod catalogue;
mod deadline;
mod lane;
mod retry;
mod spend;
mod sweep;
mod touch;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorCode};
use crate::literal::parse_row;
use crate::money::Cost;
use crate::options::Options;
use crate::request::{Answer, ChargeRefusal, Credential, Outcome, Request, Usage};
use crate::reservation::{Finish, FinishRefusal};
use crate::statement::{Fault, Statement, StatementId, StatementKind};
use crate::verdict::Denial;
use admin::Admin;
use batch::{Charge, LookUp};
pub(crate) use catalogue::Statements;
use catalogue::Table;
use lane::{Batch, KeyLane, Pending, Queue};
use spend::Spending;
use sweep::Sweep;
use touch::Touches;

/// Names a request between `submit` and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Counters for watching an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Statements sent.
    pub statements: u64,
    /// Requests that wait or are under way.
    pub pending: usize,
    /// Statements that were tried again.
    pub retries: u64,
    /// Background writes of `last_used_at` that failed. They fail no call.
    pub failed_touches: u64,
}

/// A statement under way.
#[derive(Debug)]
enum Work {
    Catalogue,
    Refresh(Arc<Statements>),
    Validate(Column, Batch<LookUp>, Arc<Statements>),
    Charge(Column, StatementKind, Batch<Charge>),
    Spend(Column, StatementKind, Batch<Spending>, Arc<Statements>),
    Finish(Batch<Finish>),
    Touch,
    Admin(Pending<Admin>, Option<Arc<Statements>>),
}

/// The column that a batch is keyed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    KeyHash,
    Subject,
}

impl Column {
    const ALL: [Column; 2] = [Column::KeyHash, Column::Subject];

    const fn name(self) -> &'static str {
        match self {
            Column::KeyHash => "key_hash",
            Column::Subject => "external_subject",
        }
    }
}

/// The engine. See the module's text.
#[derive(Debug)]
pub struct Engine {
    options: Options,
    table: Table,
    validate: [KeyLane<LookUp>; 2],
    charge: [KeyLane<Charge>; 2],
    spend: [KeyLane<Spending>; 2],
    finish: KeyLane<Finish>,
    /// Keys that are known to have a parent.
    children: [HashSet<Arc<str>>; 2],
    /// Keys that the plain statements could not charge last time: the next charge does not try them.
    refused: [HashSet<Arc<str>>; 2],
    /// Whether a sweep of the engine's own waits or is under way, and the keys whose spends wait for it.
    is_sweeping: bool,
    waiting_for_sweep: Vec<(Column, Arc<str>)>,
    admin: Queue<Admin>,
    touches: Touches,
    in_flight: BTreeMap<StatementId, Work>,
    answers: Vec<(Ticket, Answer)>,
    cancelled: HashSet<Ticket>,
    pending: usize,
    last_id: u64,
    closed: bool,
    stats: Stats,
}

impl Engine {
    /// An engine that knows nothing of its table yet: it asks before its first statement.
    pub fn new(options: Options) -> Self {
        Engine {
            options,
            table: Table::Unknown,
            validate: [KeyLane::new(false), KeyLane::new(false)],
            charge: [KeyLane::new(true), KeyLane::new(true)],
            spend: [KeyLane::new(true), KeyLane::new(true)],
            finish: KeyLane::new(true),
            children: [HashSet::new(), HashSet::new()],
            refused: [HashSet::new(), HashSet::new()],
            is_sweeping: false,
            waiting_for_sweep: Vec::new(),
            admin: Queue::new(),
            touches: Touches::default(),
            in_flight: BTreeMap::new(),
            answers: Vec::new(),
            cancelled: HashSet::new(),
            pending: 0,
            last_id: 0,
            closed: false,
            stats: Stats::default(),
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats { pending: self.pending, ..self.stats }
    }

    /// Takes a request. Its answer comes out of [`Engine::answers`], perhaps at once. Refused, with nothing sent, when
    /// too many wait or the engine is closed.
    pub fn submit(&mut self, now: Duration, request: Request) -> Result<Ticket, Error> {
        if self.closed {
            return Err(Error::new(ErrorCode::Closed, "the client is closed"));
        }
        if self.pending >= self.options.max_waiting {
            return Err(Error::new(
                ErrorCode::Overloaded,
                format!("{} calls are waiting already", self.pending),
            ));
        }
        if let Request::Spend(_, spend) = &request {
            spend.check()?;
        }
        let ticket = Ticket(self.next_id());
        self.pending += 1;
        let deadline = Some(now.saturating_add(self.options.timeout));
        match request {
            Request::Validate(credential) => match text_of(credential) {
                Some((column, lookup)) => {
                    let is_general = self.children[column as usize].contains(&lookup);
                    self.validate[column as usize]
                        .push(lookup, pending(ticket, deadline, LookUp { is_general }));
                }
                None => self.answer(ticket, Ok(Outcome::Validated(Err(Denial::invalid())))),
            },
            Request::Charge(credential, cost) => match (cost, text_of(credential)) {
                (Cost::Invalid, _) => self.answer_usage(ticket, Usage::Refused(ChargeRefusal::InvalidCost)),
                (Cost::Free, _) => self.answer_usage(ticket, Usage::Free),
                (Cost::Microcents(_), None) => {
                    self.answer_usage(ticket, Usage::Refused(ChargeRefusal::InvalidKey))
                }
                (Cost::Microcents(microcents), Some((column, lookup)))
                    if self.options.ledger || self.children[column as usize].contains(&lookup) =>
                {
                    let charge = pending(ticket, deadline, microcents);
                    self.spend_in_full(column, &lookup, vec![charge], self.options.ledger);
                }
                (Cost::Microcents(microcents), Some((column, lookup))) => {
                    let needs_batch = self.refused[column as usize].contains(&lookup);
                    let charge = Charge { microcents, needs_batch };
                    self.charge[column as usize].push(lookup, pending(ticket, deadline, charge));
                }
            },
            Request::Spend(credential, spend) if spend.is_plain() => {
                self.pending -= 1;
                return self.submit(now, Request::Charge(credential, spend.cost));
            }
            Request::Spend(credential, spend) => match (spend.without_statement(), text_of(credential)) {
                (Some(outcome), _) => self.answer(ticket, Ok(outcome)),
                (None, None) => self.answer(ticket, Ok(spend.of_no_key())),
                (None, Some((column, lookup))) => {
                    let spending = Spending { spend, is_general: true, sweeps: 0 };
                    self.spend[column as usize].push(lookup, pending(ticket, deadline, spending));
                }
            },
            Request::Finish(id, finish) => match finish {
                Finish::Settle(Cost::Invalid) => {
                    self.answer(ticket, Ok(finish.refused(FinishRefusal::InvalidCost)));
                }
                _ => self.finish.push(Arc::from(id.as_str()), pending(ticket, deadline, finish)),
            },
            Request::Insert(row) => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::Insert(row)))
            }
            Request::Revoke { id, account, within } => {
                let work = Admin::Revoke { id, account, within };
                self.admin.waiting.push_back(pending(ticket, deadline, work));
            }
            Request::RevokeAll(filter) => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::RevokeAll(filter)));
            }
            Request::Sweep => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::Sweep(Sweep::default())));
            }
            Request::Events(filter) => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::Events(filter)));
            }
            Request::Usage(filter) => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::Usage(filter)));
            }
            Request::VerifyLedger(id) => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::VerifyLedger(id)));
            }
            Request::PruneEvents(seconds) => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::PruneEvents(seconds)));
            }
            Request::Migrate => {
                self.admin.waiting.push_back(pending(ticket, None, Admin::Migrate { step: 0 }))
            }
        }
        Ok(ticket)
    }

    /// Forgets a request whose caller is gone. If its statement was not sent, it never will be.
    /// Only for tickets that were not answered.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.cancelled.insert(ticket);
    }

    /// The next statement to run, if one may be sent now. May also make answers.
    pub fn poll(&mut self, now: Duration) -> Option<Statement> {
        self.end_pauses(now);
        loop {
            if let Some(statement) = self.poll_admin(now) {
                return Some(statement);
            }
            let statements = match &self.table {
                Table::Known { statements, .. } => Arc::clone(statements),
                Table::Asked { .. } => return None,
                Table::Unknown if self.needs_table(now) => return Some(self.ask_catalogue()),
                Table::Unknown => return None,
            };
            if let Some(statement) = self.poll_refresh(now) {
                return Some(statement);
            }
            if let Some(statement) = self.poll_finish(now, &statements) {
                return Some(statement);
            }
            for column in Column::ALL {
                if let Some(statement) = self.poll_spend(column, now, &statements) {
                    return Some(statement);
                }
                if let Some(statement) = self.poll_charge(column, now, &statements) {
                    return Some(statement);
                }
                if let Some(statement) = self.poll_validate(column, now, &statements) {
                    return Some(statement);
                }
            }
            // A lane that missed a column wants the catalogue asked again.
            if matches!(self.table, Table::Known { .. }) {
                return self.poll_touch(now, &statements);
            }
        }
    }

    /// Takes what became of a statement: its rows, each the text of its only column, or why there are none. An unknown
    /// id (a statement given up after its callers' time was over) is ignored.
    pub fn receive(&mut self, now: Duration, id: StatementId, result: Result<&[String], Fault>) {
        let Some(work) = self.in_flight.remove(&id) else { return };
        match work {
            Work::Catalogue => self.receive_catalogue(now, result),
            Work::Refresh(asked_for) => self.receive_refresh(now, &asked_for, result),
            Work::Validate(column, batch, statements) => {
                self.validate[column as usize].in_flight -= 1;
                match result {
                    Ok(rows) => self.receive_lookups(now, column, batch, rows, &statements.shape),
                    Err(fault) => self.batch_fault(|e| &mut e.validate[column as usize], now, batch, &fault),
                }
            }
            Work::Charge(column, kind, batch) => {
                self.charge[column as usize].in_flight -= 1;
                match result {
                    Ok(rows) => self.receive_charges(column, kind, batch, rows),
                    Err(fault) => self.batch_fault(|e| &mut e.charge[column as usize], now, batch, &fault),
                }
            }
            Work::Spend(column, kind, batch, statements) => {
                self.spend[column as usize].in_flight -= 1;
                match result {
                    Ok(rows) if kind == StatementKind::ChargeTree => {
                        self.receive_tree_charges(column, batch, rows)
                    }
                    Ok(rows) => self.receive_spends(column, batch, rows, &statements.shape),
                    Err(fault) => self.batch_fault(|e| &mut e.spend[column as usize], now, batch, &fault),
                }
            }
            Work::Finish(batch) => {
                self.finish.in_flight -= 1;
                match result {
                    Ok(rows) => self.receive_finishes(batch, rows),
                    Err(fault) => self.batch_fault(|e| &mut e.finish, now, batch, &fault),
                }
            }
            Work::Touch => {
                match result.map(|rows| rows.iter().map(|row| read_id(row)).collect::<Option<Vec<_>>>()) {
                    Ok(Some(left_out)) => self.touches.finish(now, left_out.iter().map(|id| &**id)),
                    Ok(None) | Err(_) => {
                        self.stats.failed_touches += 1;
                        self.touches.fail(now);
                    }
                }
            }
            Work::Admin(request, statements) => {
                self.admin.in_flight -= 1;
                self.receive_admin(now, request, statements.as_deref(), result);
            }
        }
    }

    /// When a pause after an aborted statement ends: `poll` may have something then.
    pub fn next_retry(&self) -> Option<Duration> {
        let batched = self.validate.iter().map(KeyLane::pause).chain(self.charge.iter().map(KeyLane::pause));
        let spent = self.spend.iter().map(KeyLane::pause).chain([self.finish.pause()]);
        batched.chain(spent).chain([self.admin.pause(), self.touches.next_retry()]).flatten().min()
    }

    /// The answers that are ready. A request gets exactly one.
    pub fn answers(&mut self) -> Vec<(Ticket, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// Takes no more requests; what was submitted goes on, and touches are flushed.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.pending == 0 && self.in_flight.is_empty() && self.touches.is_idle()
    }

    fn needs_table(&self, now: Duration) -> bool {
        let max = self.options.max_in_flight;
        self.validate.iter().any(|lane| lane.is_ready(now, max))
            || self.charge.iter().any(|lane| lane.is_ready(now, max))
            || self.spend.iter().any(|lane| lane.is_ready(now, max))
            || self.finish.is_ready(now, max)
            || self.admin.is_ready(now, admin::MAX_IN_FLIGHT)
            || self.touches.is_ready(now)
    }

    fn end_pauses(&mut self, now: Duration) {
        let end = |pause: &mut Duration| {
            if *pause <= now {
                *pause = Duration::ZERO;
            }
        };
        self.validate.iter_mut().for_each(|lane| end(&mut lane.blocked_until));
        self.charge.iter_mut().for_each(|lane| end(&mut lane.blocked_until));
        self.spend.iter_mut().for_each(|lane| end(&mut lane.blocked_until));
        end(&mut self.finish.blocked_until);
        end(&mut self.admin.blocked_until);
        self.touches.end_pause(now);
    }

    fn poll_touch(&mut self, now: Duration, statements: &Statements) -> Option<Statement> {
        let ids = self.touches.take(now, self.options.max_batch)?;
        let params = vec![
            Some(crate::literal::text_array(ids)),
            Some(self.options.touch_interval_seconds.to_string()),
        ];
        Some(self.send(StatementKind::Touch, Arc::clone(&statements.touch), params, Work::Touch))
    }

    fn send(
        &mut self,
        kind: StatementKind,
        sql: Arc<str>,
        params: Vec<Option<String>>,
        work: Work,
    ) -> Statement {
        let id = StatementId(self.next_id());
        self.in_flight.insert(id, work);
        self.stats.statements += 1;
        Statement { id, kind, sql, params }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.pending -= 1;
        if self.cancelled.is_empty() || !self.cancelled.remove(&ticket) {
            self.answers.push((ticket, answer));
        }
    }

    fn answer_usage(&mut self, ticket: Ticket, usage: Usage) {
        self.answer(ticket, Ok(Outcome::Charged(usage)));
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

fn pending<T>(ticket: Ticket, deadline: Option<Duration>, work: T) -> Pending<T> {
    Pending { ticket: Some(ticket), deadline, attempts: 0, work }
}

/// The column and text of a credential; `None` if no row can have it.
fn text_of(credential: Credential) -> Option<(Column, Arc<str>)> {
    match credential {
        Credential::Key(hash) => Some((Column::KeyHash, hash.into_text())),
        Credential::Subject(subject) => {
            (!subject.contains('\0')).then(|| (Column::Subject, Arc::from(subject)))
        }
    }
}

/// The only field of a row.
fn read_id(row: &str) -> Option<Cow<'_, str>> {
    parse_row(row)?.into_iter().next()?
}

fn database_error(fault: &Fault) -> Error {
    Error::new(ErrorCode::Database, &fault.message)
}

#[cfg(test)]
mod tests;
