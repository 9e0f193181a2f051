//! The engine: requests in, statements out; rows in, answers out. No I/O, no clock, no threads.
//!
//! A driver submits requests, takes statements with [`Engine::poll`] while there are any, runs them, hands the rows to
//! [`Engine::receive`], and gives [`Engine::answers`] to the callers. Times are durations since any moment of the
//! driver's choice. The engine uses them for timeouts and retries alone: the database's clock decides about keys.
//!
//! What a driver must keep:
//!
//! - It runs each statement as one implicit transaction, with all parameters as text, and hands back the only column of
//!   each row as text.
//! - It calls [`Engine::receive`] once for each statement that it sent or tried to, with the rows or with a [`Fault`] that
//!   says what it knows.
//! - Where a statement has to wait for a connection, it calls [`Engine::hold`] before, and sends what [`Engine::begin`]
//!   answers after. What nobody waits for any more is left out then, and callers whose time is over learn that nothing
//!   was sent.
//! - It polls after each `submit`, `receive` and `expire`, and at [`Engine::next_retry`].
//! - It calls [`Engine::expire`] at [`Engine::next_deadline`].
//! - It tells [`Engine::cancel`] of callers that are gone.

mod admin;
mod answer;
mod batch;
mod breaker;
mod busy;
mod catalogue;
mod changes;
mod charges;
mod deadline;
mod deliveries;
mod diagnosis;
mod explain;
mod fault;
mod follow;
mod hold;
mod increases;
pub(crate) mod json;
mod keys;
mod lane;
mod lanes;
mod ledger;
mod list;
mod lookups;
mod memory;
mod meter;
mod notices;
mod operation;
pub(crate) mod options;
mod queue;
mod refund;
mod request;
mod resolve;
mod retry;
mod revoke;
mod rotate;
mod route;
pub(crate) mod rows;
mod signups;
mod spends;
mod stall;
mod statement;
mod stats;
mod sweep;
mod touch;
mod trees;
mod webhook;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub use self::answer::{
    Answer, Reservation, ReserveRefusal, ReserveRefusalReason, Reserved, SettledBefore, Sink,
};
pub use self::deliveries::{DeliveryFilter, OpenDelivery};
pub use self::diagnosis::{Diagnosis, Finding};
pub use self::fault::Fault;
pub use self::hold::Begun;
pub use self::increases::*;
pub use self::json::error_json;
pub use self::options::{Align, Options};
pub use self::request::{AccountFilter, Request, Revocation, RevokeFilter, SignupCount};
pub use self::statement::{Statement, StatementId};
pub use self::stats::{CallCount, CallOutcome, FamilyStats, Histogram, Stats, Ticket};
pub use self::webhook::{Delivery, DeliveryEnd, Webhook};
pub use crate::budget::charge::{ChargeOutcome, ChargeRefusal, Charged};
pub use crate::budget::ledger::{Discrepancy, Event, EventFilter, UsageFilter, UsageOfPeriod};
pub use crate::budget::limit::{KeyLimit, Limit, LimitState, WhenExceeded};
pub use crate::budget::money::{Balance, Cost, MAX_CENTS, MICROCENTS_PER_CENT, Rounding};
pub use crate::budget::period::{AcceptedPeriods, Window};
pub use crate::budget::reservation::{Extended, Released, ReservationRefusal, Settled, Settlement};
pub use crate::budget::thresholds::Thresholds;
pub use crate::duration::read as read_duration;
pub use crate::id::{AccountId, KeyId};
pub use crate::key::credential::Credential;
pub use crate::key::delegation::Parent;
pub use crate::key::explanation::{ExplainedLimit, Explanation, Hold, Holds};
pub use crate::key::grant::{DenialReason, Verdict};
pub use crate::key::raw::{KeyFormat, KeyHash, KeyPrefix};
pub use crate::key::rotation::RotateOutcome;
pub use crate::key::scope::{ADMIN, has_scope, invalid_scopes};
pub use crate::table::literal::parse_row;
pub use crate::table::migrations::all as migration_sql;
pub use crate::table::name::TableName;
pub use crate::table::template::StatementKind;
pub use crate::time::timestamp;

use self::admin::Admin;
use self::batch::{Batch, Pending};
use self::catalogue::Table;
use self::lanes::Lanes;
use self::lookups::Lookup;
use self::memory::{Memory, Question};
use self::meter::Meter;
use self::operation::Operation;
use self::resolve::{FoundBy, Unresolved};
use self::spends::Spending;
use self::stall::Stalls;
use self::sweep::SweepWaiters;
use self::touch::Touches;
use crate::error::{Error, ErrorCode};
use crate::table::template::{KeyColumn, Statements};

/// A statement under way.
#[derive(Debug)]
enum Work {
    /// With the time after which it is asked again.
    Catalogue(Duration),
    Refresh(Arc<Statements>),
    Validate(KeyColumn, Question, Batch<Lookup>, Arc<Statements>),
    Charge(KeyColumn, StatementKind, Batch<charges::Charge>, Arc<Statements>),
    Spend(KeyColumn, StatementKind, Batch<Spending>, Arc<Statements>),
    Change(StatementKind, Batch<changes::Ending>),
    Resolve(FoundBy, Batch<Unresolved>),
    Touch,
    Admin(Pending<Admin>, Option<Arc<Statements>>),
}

/// The engine. See the module's text.
pub struct Engine {
    options: Options,
    table: Table,
    /// Whether columns or tables of our own were ever seen there: if they go, keys must not get wider.
    was_migrated: bool,
    /// How often in a row the catalogue could not be asked, and when it is asked again.
    catalogue_attempts: u32,
    catalogue_at: Duration,
    lanes: Lanes,
    memory: Memory,
    /// Keys that are known to have a parent.
    children: [HashSet<Arc<str>>; 2],
    /// Reservations of such keys.
    held_by_children: HashSet<Arc<str>>,
    /// Hashes of secrets that were replaced, and still count.
    former: HashSet<Arc<str>>,
    /// Keys that the plain statements could not charge last time: the next charge does not try them.
    refused: [HashSet<Arc<str>>; 2],
    /// Sweeps of the engine's own that wait or are under way.
    sweeps: Vec<SweepWaiters>,
    touches: Touches,
    /// When alarms of time may be raised again.
    notices_at: Duration,
    in_flight: BTreeMap<StatementId, Work>,
    stalls: Stalls,
    /// Those of them that wait for a connection.
    held: HashSet<StatementId>,
    answers: Vec<(Ticket, Result<Answer, Error>)>,
    cancelled: HashSet<Ticket>,
    pending: usize,
    last_id: u64,
    is_closed: bool,
    meter: Meter,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("table", &self.options.table.quoted())
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that knows nothing of its table yet: it asks before its first statement.
    pub fn new(options: Options) -> Self {
        Engine {
            memory: Memory::new(options.remembered_keys),
            options,
            table: Table::Unknown,
            was_migrated: false,
            catalogue_attempts: 0,
            catalogue_at: Duration::ZERO,
            lanes: Lanes::new(),
            children: [HashSet::new(), HashSet::new()],
            held_by_children: HashSet::new(),
            former: HashSet::new(),
            refused: [HashSet::new(), HashSet::new()],
            sweeps: Vec::new(),
            touches: Touches::default(),
            notices_at: Duration::ZERO,
            in_flight: BTreeMap::new(),
            stalls: Stalls::default(),
            held: HashSet::new(),
            answers: Vec::new(),
            cancelled: HashSet::new(),
            pending: 0,
            last_id: 0,
            is_closed: false,
            meter: Meter::new(),
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes a request. Its answer comes out of [`Engine::answers`], perhaps at once.
    ///
    /// # Errors
    /// `overloaded`, `closed`, and the errors of bad input. Nothing is sent then.
    pub fn submit(&mut self, now: Duration, request: Request) -> Result<Ticket, Error> {
        let operation = request.kind();
        let taken = self.take(now, operation, request);
        if let Err(error) = &taken {
            self.meter.ended(operation, CallOutcome::Error, error.code().as_str());
        }
        taken
    }

    fn take(&mut self, now: Duration, operation: Operation, request: Request) -> Result<Ticket, Error> {
        if self.is_closed {
            return Err(Error::new(ErrorCode::Closed, "the client is closed"));
        }
        if self.pending >= self.options.max_waiting {
            let message = format!("{} calls are waiting already", self.pending);
            return Err(Error::new(ErrorCode::Overloaded, message));
        }
        let ticket = Ticket(self.next_id());
        let limit = self.options.limit_of(&request);
        self.pending += 1;
        let caller = Pending::new(Some(ticket), now, limit, ()).asking(operation);
        let routed = self.route(caller, request);
        self.pending -= usize::from(routed.is_err());
        routed.map(|()| ticket)
    }

    /// Forgets a request whose caller is gone. If its statement was not sent, it never will be. Only for tickets that
    /// were not answered.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.cancelled.insert(ticket);
    }

    /// The next statement to run, if one may be sent now. May also make answers.
    pub fn poll(&mut self, now: Duration) -> Option<Statement> {
        self.stalls.now = now;
        for lane in self.lanes.all_mut() {
            lane.end_pause(now);
        }
        self.touches.end_pause(now);
        if self.catalogue_at <= now {
            self.catalogue_at = Duration::ZERO;
        }
        loop {
            if let Some(statement) = self.poll_admin(now) {
                return Some(statement);
            }
            let statements = match &self.table {
                Table::Known { statements, .. } => Arc::clone(statements),
                Table::Asked { .. } => return None,
                Table::Unknown if self.catalogue_at <= now && self.needs_table(now) => {
                    return Some(self.ask_catalogue(now));
                }
                Table::Unknown => return None,
            };
            if let Some(statement) = self.poll_refresh(now) {
                return Some(statement);
            }
            if let Some(statement) = self.poll_changes(now, &statements) {
                return Some(statement);
            }
            for by in FoundBy::ALL {
                if let Some(statement) = self.poll_resolve(by, now, &statements) {
                    return Some(statement);
                }
            }
            for column in KeyColumn::OF_CREDENTIALS {
                let statement = self
                    .poll_spends(column, now, &statements)
                    .or_else(|| self.poll_charges(column, now, &statements))
                    .or_else(|| self.poll_lookups(column, now, &statements));
                if statement.is_some() {
                    return statement;
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
        let was_held = self.held.remove(&id);
        let result = result.map_err(|fault| if was_held { fault.before_sending() } else { fault });
        let mut work = self.in_flight.remove(&id);
        if let Some(work) = &mut work {
            self.leave_lane(id, work);
            self.meter.waited(id, work, now);
        }
        self.meter.over(id, now);
        self.stalls.forget(id);
        let Some(work) = work else { return };
        match work {
            Work::Catalogue(_) => self.receive_catalogue(now, result),
            Work::Refresh(asked_for) => self.receive_refresh(now, &asked_for, result),
            Work::Validate(column, question, batch, statements) => match result {
                Ok(rows) => self.receive_lookups(now, column, &question, batch, rows, &statements.shape),
                Err(fault) => self.lookups_fault(now, column, question.kind, batch, &fault),
            },
            Work::Charge(column, kind, batch, statements) => match result {
                Ok(rows) => self.receive_charges(now, column, kind, batch, rows, &statements.shape),
                Err(fault) => self.batch_fault(|l| &mut l.charge[column as usize], now, batch, &fault),
            },
            Work::Spend(column, kind, batch, statements) => match result {
                Ok(rows)
                    if matches!(kind, StatementKind::ChargeTree | StatementKind::ChargeTreeContended) =>
                {
                    self.receive_tree_charges(now, column, batch, rows);
                }
                Ok(rows) => self.receive_spends(now, column, kind, batch, rows, &statements.shape),
                Err(fault) => self.batch_fault(|l| &mut l.spend[column as usize], now, batch, &fault),
            },
            Work::Change(kind, batch) => match result {
                Ok(rows) => self.receive_changes(now, kind, batch, rows),
                Err(fault) => self.batch_fault(|l| &mut l.change, now, batch, &fault),
            },
            Work::Resolve(by, batch) => self.receive_resolved(now, by, batch, result),
            Work::Touch => self.receive_touch(now, result),
            Work::Admin(request, statements) => {
                self.receive_admin(now, request, statements.as_deref(), result);
            }
        }
    }

    /// When a pause after an aborted statement ends: `poll` may have something then.
    pub fn next_retry(&self) -> Option<Duration> {
        let catalogue = (self.catalogue_at > Duration::ZERO).then_some(self.catalogue_at);
        let pauses = self.lanes.all().into_iter().filter_map(|lane| lane.pause());
        pauses.chain(self.touches.next_retry()).chain(catalogue).min()
    }

    /// The answers that are ready. A request gets exactly one.
    pub fn answers(&mut self) -> Vec<(Ticket, Result<Answer, Error>)> {
        std::mem::take(&mut self.answers)
    }

    /// Takes no more requests. What was submitted goes on, and touches are flushed.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.pending == 0 && self.in_flight.is_empty() && self.touches.is_idle()
    }

    fn send(
        &mut self,
        kind: StatementKind,
        sql: Arc<str>,
        params: Vec<Option<String>>,
        work: Work,
    ) -> Statement {
        let id = StatementId(self.next_id());
        self.note_sent(id, &work);
        self.in_flight.insert(id, work);
        Statement { id, kind, sql, params }
    }

    fn answer(&mut self, ticket: Ticket, operation: Option<Operation>, answer: Result<Answer, Error>) {
        self.pending -= 1;
        if let Some(operation) = operation {
            self.meter.answered(operation, &answer);
        }
        if self.cancelled.is_empty() || !self.cancelled.remove(&ticket) {
            self.answers.push((ticket, answer));
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

#[cfg(test)]
mod tests;
