//! The engine: requests in, statements out; rows in, answers out. No I/O, no clock, no threads.
//!
//! A driver submits requests, takes statements with [`Engine::poll`] while there are any, runs them, hands the rows to
//! [`Engine::receive`], and gives [`Engine::answers`] to the callers. Times are durations since any moment of the
//! driver's choice; the engine uses them for timeouts and retries alone. What a key may do and spend is decided by the
//! database's clock.

mod admin;
mod batch;
mod lane;
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
use crate::shape::{TableShape, render};
use crate::statement::{Fault, Statement, StatementId, StatementKind};
use crate::verdict::Denial;
use admin::Admin;
use batch::{Charge, LookUp};
use lane::{Batch, KeyLane, Pending, Queue};
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

/// What is known of the table.
#[derive(Debug)]
enum Table {
    Unknown,
    /// The catalogue was asked; `outdated` if the table may have changed since.
    Asked {
        outdated: bool,
    },
    Known(Arc<Statements>),
}

/// The statements for the table as it is.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) shape: TableShape,
    by_key: BatchStatements,
    by_subject: BatchStatements,
    touch: Arc<str>,
    insert: Arc<str>,
    revoke: Arc<str>,
}

#[derive(Debug)]
struct BatchStatements {
    validate_one: Arc<str>,
    validate: Arc<str>,
    charge_one: Arc<str>,
    charge_batch: Arc<str>,
}

/// A statement under way.
#[derive(Debug)]
enum Work {
    Catalogue,
    Validate(Column, StatementKind, Batch<LookUp>, Arc<Statements>),
    Charge(Column, StatementKind, Batch<Charge>),
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

/// Whether the database says that a statement lost against concurrent ones and certainly had no effect.
pub(crate) fn aborted_by_concurrency(sqlstate: &str) -> bool {
    const SERIALIZATION_FAILURE: &str = "40001";
    const DEADLOCK_DETECTED: &str = "40P01";
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    [SERIALIZATION_FAILURE, DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE].contains(&sqlstate)
}

/// Whether the table is not as the catalogue said: somebody changed it meanwhile.
fn shape_is_outdated(sqlstate: &str) -> bool {
    const UNDEFINED_COLUMN: &str = "42703";
    const UNDEFINED_TABLE: &str = "42P01";
    [UNDEFINED_COLUMN, UNDEFINED_TABLE].contains(&sqlstate)
}

impl Engine {
    /// An engine that knows nothing of its table yet: it asks before its first statement.
    pub fn new(options: Options) -> Self {
        Engine {
            options,
            table: Table::Unknown,
            validate: [KeyLane::new(false), KeyLane::new(false)],
            charge: [KeyLane::new(true), KeyLane::new(true)],
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
        let ticket = Ticket(self.next_id());
        self.pending += 1;
        let deadline = Some(now.saturating_add(self.options.timeout));
        match request {
            Request::Validate(credential) => match text_of(credential) {
                Some((column, lookup)) => {
                    self.validate[column as usize].push(lookup, pending(ticket, deadline, LookUp::default()));
                }
                None => self.answer(ticket, Ok(Outcome::Validated(Err(Denial::invalid())))),
            },
            Request::Charge(credential, cost) => match (cost, text_of(credential)) {
                (Cost::Invalid, _) => self.answer_usage(ticket, Usage::Refused(ChargeRefusal::InvalidCost)),
                (Cost::Free, _) => self.answer_usage(ticket, Usage::Free),
                (Cost::Microcents(_), None) => {
                    self.answer_usage(ticket, Usage::Refused(ChargeRefusal::InvalidKey))
                }
                (Cost::Microcents(microcents), Some((column, lookup))) => {
                    let charge = Charge { microcents, needs_batch: false };
                    self.charge[column as usize].push(lookup, pending(ticket, deadline, charge));
                }
            },
            Request::Insert(row) => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::Insert(row)))
            }
            Request::Revoke { id, account } => {
                self.admin.waiting.push_back(pending(ticket, deadline, Admin::Revoke { id, account }));
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
                Table::Known(statements) => Arc::clone(statements),
                Table::Asked { .. } => return None,
                Table::Unknown if self.needs_table(now) => return Some(self.ask_catalogue()),
                Table::Unknown => return None,
            };
            for column in Column::ALL {
                if let Some(statement) = self.poll_charge(column, now, &statements) {
                    return Some(statement);
                }
                if let Some(statement) = self.poll_validate(column, now, &statements) {
                    return Some(statement);
                }
            }
            // A lane that missed a column wants the catalogue asked again.
            if matches!(self.table, Table::Known(_)) {
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
            Work::Validate(column, kind, batch, statements) => {
                self.validate[column as usize].in_flight -= 1;
                match result {
                    Ok(rows) => self.receive_lookups(now, column, kind, batch, rows, &statements.shape),
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

    /// Gives up what has waited too long. A statement whose callers are all gone no longer counts as under way.
    pub fn expire(&mut self, now: Duration) {
        let mut tickets = self.admin.take_expired(now);
        for column in Column::ALL {
            tickets.extend(self.validate[column as usize].take_expired(now));
            tickets.extend(self.charge[column as usize].take_expired(now));
        }
        let mut given_up = Vec::new();
        for (id, work) in &mut self.in_flight {
            let open = match work {
                Work::Validate(_, _, batch, _) => {
                    expire_requests(batch.requests.iter_mut().flatten(), now, &mut tickets)
                }
                Work::Charge(_, _, batch) => {
                    expire_requests(batch.requests.iter_mut().flatten(), now, &mut tickets)
                }
                Work::Admin(request, _) => expire_requests(std::iter::once(request), now, &mut tickets),
                // Without callers of their own: the driver's own time limit ends them.
                Work::Catalogue | Work::Touch => continue,
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
                Some(Work::Admin(..)) => self.admin.in_flight -= 1,
                Some(Work::Catalogue | Work::Touch) | None => {}
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

    /// When a pause after an aborted statement ends: `poll` may have something then.
    pub fn next_retry(&self) -> Option<Duration> {
        let batched = self.validate.iter().map(KeyLane::pause).chain(self.charge.iter().map(KeyLane::pause));
        batched.chain([self.admin.pause(), self.touches.next_retry()]).flatten().min()
    }

    /// When the time of the next caller is over: `expire` has something to do then.
    pub fn next_deadline(&self) -> Option<Duration> {
        let validate = self.validate.iter().map(KeyLane::next_deadline);
        let waiting = validate
            .chain(self.charge.iter().map(KeyLane::next_deadline))
            .chain([self.admin.next_deadline()]);
        let under_way = self.in_flight.values().map(|work| match work {
            Work::Validate(_, _, batch, _) => {
                batch.open_requests().filter_map(|request| request.deadline).min()
            }
            Work::Charge(_, _, batch) => batch.open_requests().filter_map(|request| request.deadline).min(),
            Work::Admin(request, _) => request.ticket.and(request.deadline),
            Work::Catalogue | Work::Touch => None,
        });
        waiting.chain(under_way).flatten().min()
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
        end(&mut self.admin.blocked_until);
        self.touches.end_pause(now);
    }

    fn ask_catalogue(&mut self) -> Statement {
        self.table = Table::Asked { outdated: false };
        let params = vec![Some(self.options.table.quoted())];
        self.send(
            StatementKind::Catalogue,
            Arc::from(include_str!("../sql/catalogue.sql")),
            params,
            Work::Catalogue,
        )
    }

    fn receive_catalogue(&mut self, now: Duration, result: Result<&[String], Fault>) {
        let outdated = matches!(self.table, Table::Asked { outdated: true });
        self.table = Table::Unknown;
        if outdated {
            return;
        }
        let shape = match result {
            Ok(rows) => TableShape::read(&self.options.table, rows),
            Err(fault) => Err(database_error(&fault)),
        };
        match shape {
            Ok(shape) => self.table = Table::Known(Arc::new(Statements::new(&self.options, shape))),
            Err(error) => {
                self.touches.fail(now);
                self.fail_all_waiting(&error);
            }
        }
    }

    /// No statement can be built: whoever waits for one learns why.
    fn fail_all_waiting(&mut self, error: &Error) {
        let mut tickets = Vec::new();
        for column in Column::ALL {
            tickets.extend(self.charge[column as usize].take_all());
            tickets.extend(self.validate[column as usize].take_all());
        }
        let (migrations, rest): (Vec<_>, Vec<_>) =
            self.admin.waiting.drain(..).partition(|p| matches!(p.work, Admin::Migrate { .. }));
        self.admin.waiting.extend(migrations);
        tickets.extend(rest.into_iter().filter_map(|p| p.ticket));
        for ticket in tickets {
            self.answer(ticket, Err(error.clone()));
        }
    }

    /// Whether and when a failed statement is tried again: if it certainly had no effect, and can do better.
    fn retry_at(&mut self, now: Duration, attempts: u32, fault: &Fault) -> Option<Duration> {
        let sqlstate = fault.sqlstate.as_deref().unwrap_or_default();
        if shape_is_outdated(sqlstate) && attempts == 1 {
            self.stats.retries += 1;
            self.forget_table();
            return Some(now);
        }
        if !aborted_by_concurrency(sqlstate) || attempts >= self.options.max_attempts {
            return None;
        }
        self.stats.retries += 1;
        Some(now + self.retry_delay(attempts))
    }

    fn answer_fault<T>(&mut self, requests: Vec<Pending<T>>, fault: &Fault) {
        for ticket in requests.into_iter().filter_map(|request| request.ticket) {
            self.answer(ticket, Err(database_error(fault)));
        }
    }

    /// 5 ms, doubling, each spread over half to one and a half of it.
    fn retry_delay(&mut self, attempts: u32) -> Duration {
        let base = 5_000u64 << attempts.min(10);
        // SplitMix64: enough to keep engines from retrying in step.
        let mut z = self.options.seed ^ self.next_id().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Duration::from_micros(base / 2 + (z ^ (z >> 31)) % base)
    }

    /// The catalogue is asked again before the next statement.
    fn forget_table(&mut self) {
        match &mut self.table {
            Table::Known(_) => self.table = Table::Unknown,
            Table::Asked { outdated } => *outdated = true,
            Table::Unknown => {}
        }
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

impl Statements {
    fn new(options: &Options, shape: TableShape) -> Self {
        let render = |template: &str, lookup: &str| render(template, &options.table, &shape, lookup);
        let batch = |column: Column| BatchStatements {
            validate_one: render(include_str!("../sql/validate_one.sql"), column.name()),
            validate: render(include_str!("../sql/validate.sql"), column.name()),
            charge_one: render(include_str!("../sql/charge_one.sql"), column.name()),
            charge_batch: render(include_str!("../sql/charge_batch.sql"), column.name()),
        };
        Statements {
            by_key: batch(Column::KeyHash),
            by_subject: batch(Column::Subject),
            touch: render(include_str!("../sql/touch.sql"), ""),
            insert: render(include_str!("../sql/insert_key.sql"), ""),
            revoke: render(include_str!("../sql/revoke.sql"), ""),
            shape,
        }
    }

    fn batch(&self, column: Column) -> &BatchStatements {
        match column {
            Column::KeyHash => &self.by_key,
            Column::Subject => &self.by_subject,
        }
    }
}

fn pending<T>(ticket: Ticket, deadline: Option<Duration>, work: T) -> Pending<T> {
    Pending { ticket: Some(ticket), deadline, attempts: 0, work }
}

/// The column and text of a credential; `None` if no row can have it.
fn text_of(credential: Credential) -> Option<(Column, String)> {
    match credential {
        Credential::Key(hash) => Some((Column::KeyHash, hash.into_string())),
        Credential::Subject(subject) => (!subject.contains('\0')).then_some((Column::Subject, subject)),
    }
}

/// The only field of a row.
fn read_id(row: &str) -> Option<Cow<'_, str>> {
    parse_row(row)?.into_iter().next()?
}

fn database_error(fault: &Fault) -> Error {
    Error::new(ErrorCode::Database, &fault.message)
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

#[cfg(test)]
mod tests;
