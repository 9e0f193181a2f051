//! Operations that are rare and unbatched: one statement each.

use std::sync::Arc;
use std::time::Duration;

use super::batch::Pending;
use super::breaker::Trip;
use super::busy::Look;
use super::catalogue::Table;
use super::deliveries::DeliveryWork;
use super::diagnosis::Diagnosis;
use super::keys::{KeyWork, find_parent};
use super::lane::AnyLane;
use super::ledger::LedgerWork;
use super::notices::Notices;
use super::refund::Refund;
use super::retry::{Repeatable, Repeats};
use super::revoke::{RevokeAll, is_busy, revoke_params};
use super::rotate::Rotation;
use super::rows::ledger::read_json;
use super::rows::lookup::KeyRow;
use super::rows::new_row::{LINK, NewRow};
use super::signups::SignupCount;
use super::spends::NEEDED;
use super::stall::Long;
use super::sweep::Sweep;
use super::{Answer, Engine, Fault, Revocation, Statement, Work};
use crate::error::{Error, ErrorCode};
use crate::table::literal::text_array;
use crate::table::migrations;
use crate::table::shape::ROTATION;
use crate::table::template::{StatementKind, Statements};

/// How many of them are under way at most.
pub(super) const MAX_IN_FLIGHT: usize = 4;
/// Migrations wait for one another and for long transactions on the table.
const MAX_MIGRATION_ATTEMPTS: u32 = 12;

#[derive(Debug)]
pub(super) enum Admin {
    Insert(Box<NewRow>),
    Keys(KeyWork),
    Trip(Box<Trip>),
    Rotate(Box<Rotation>),
    Revoke(Revocation, Look),
    RevokeAll(RevokeAll),
    Refund(Box<Refund>),
    Sweep(Sweep),
    Ledger(LedgerWork),
    Deliveries(DeliveryWork),
    Notices(Notices),
    CountSignup(SignupCount, Look),
    Diagnose(Diagnosis),
    Migrate { step: usize },
}

impl Repeatable for Admin {
    fn repeats(&self) -> Repeats {
        match self {
            Admin::Sweep(_)
            | Admin::Ledger(_)
            | Admin::Deliveries(_)
            | Admin::Notices(_)
            | Admin::Diagnose(_)
            | Admin::Trip(_) => Repeats::Few,
            Admin::Keys(work) if work.is_repeatable() => Repeats::Few,
            // A subject gets its row once, however often that is asked for. Looking for a parent only reads.
            Admin::Insert(row) if row.is_subject() || row.parent().is_some() => Repeats::Few,
            Admin::Refund(refund) => refund.repeats(),
            Admin::Rotate(rotation) if rotation.has_idempotency_key() => Repeats::UntilDeadline,
            Admin::Insert(_)
            | Admin::Keys(_)
            | Admin::Rotate(_)
            | Admin::Revoke(..)
            | Admin::CountSignup(..)
            | Admin::RevokeAll(_) => Repeats::Never,
            // Has rules of its own.
            Admin::Migrate { .. } => Repeats::Never,
        }
    }
}

impl Admin {
    /// How it goes about a row that somebody else has locked, if it needs one alone.
    fn look(&mut self) -> Option<&mut Look> {
        match self {
            Admin::Revoke(_, look) | Admin::CountSignup(_, look) => Some(look),
            Admin::Rotate(rotation) => Some(&mut rotation.look),
            Admin::RevokeAll(revoke) => Some(&mut revoke.look),
            Admin::Refund(refund) => Some(&mut refund.look),
            Admin::Keys(work) => work.look(),
            Admin::Trip(trip) => Some(&mut trip.look),
            _ => None,
        }
    }

    /// Whether its statement waits for a row: it holds no place in the lane.
    pub(super) fn is_waiting(&self) -> bool {
        match self {
            Admin::Revoke(_, look) | Admin::CountSignup(_, look) => look.is_waiting,
            Admin::Rotate(rotation) => rotation.look.is_waiting,
            Admin::RevokeAll(revoke) => revoke.look.is_waiting,
            Admin::Refund(refund) => refund.look.is_waiting,
            Admin::Keys(work) => work.is_waiting(),
            Admin::Trip(trip) => trip.look.is_waiting,
            _ => false,
        }
    }
}

/// What an operation needs of the database.
#[expect(clippy::large_enum_variant, reason = "taken apart at once")]
pub(super) enum Plan {
    Send(StatementKind, Arc<str>, Vec<Option<String>>),
    Answer(Answer),
}

/// What a statement's rows mean for the operation.
pub(super) enum Next {
    Answer(Answer),
    /// The same, and what people shall hear.
    Reported(Answer, Vec<String>),
    /// It goes on with another statement.
    Continue(Admin),
    /// The row that it needs was locked.
    LookAgain(Admin),
    /// It goes on after a pause.
    Pause(Duration, Admin),
}

impl Engine {
    pub(super) fn route_admin(&mut self, caller: Pending<()>, work: Admin) {
        self.lanes.admin.waiting.push_back(caller.with_work(work));
    }

    pub(super) fn poll_admin(&mut self, now: Duration) -> Option<Statement> {
        while self.lanes.admin.is_ready(now, MAX_IN_FLIGHT) {
            let is_first = |request: &Pending<Admin>| {
                matches!(request.work, Admin::Migrate { .. } | Admin::Diagnose(Diagnosis::Database))
            };
            let (statements, at) = match &self.table {
                Table::Known { statements, .. } => (Some(Arc::clone(statements)), 0),
                // These need no catalogue; all else waits for it.
                _ => (None, self.lanes.admin.waiting.iter().position(is_first)?),
            };
            let mut request = self.lanes.admin.waiting.remove(at)?;
            if self.is_cancelled(&request) {
                continue;
            }
            request = self.with_notices(now, request);
            if let Some(look) = request.work.look() {
                look.prepare(self.stalls.has_room(Long::Waiting));
            }
            match self.plan(&request.work, statements.as_deref()) {
                Ok(Plan::Send(kind, sql, params)) => {
                    self.lanes.admin.in_flight += usize::from(!request.work.is_waiting());
                    return Some(self.send(kind, sql, params, Work::Admin(request, statements)));
                }
                Ok(Plan::Answer(answer)) => self.answer_admin(&request, Ok(answer)),
                Err(error) if error.code() == ErrorCode::MigrationRequired => {
                    if let Some(again) = self.after_missing_column(vec![request], &error).pop() {
                        self.lanes.admin.waiting.push_front(again);
                        return None;
                    }
                }
                Err(error) => self.answer_admin(&request, Err(error)),
            }
        }
        None
    }

    fn plan(&self, work: &Admin, statements: Option<&Statements>) -> Result<Plan, Error> {
        if let Admin::Migrate { step } = work {
            return Ok(match migrations::step(*step, &self.options.table) {
                Some(sql) => Plan::Send(StatementKind::Migrate, sql, Vec::new()),
                None => Plan::Answer(Answer::Migrated),
            });
        }
        if matches!(work, Admin::Diagnose(Diagnosis::Database)) {
            return Ok(Diagnosis::of_database(&self.options.table));
        }
        let statements = statements.ok_or_else(|| Error::unexpected("no catalogue"))?;
        let shape = &statements.shape;
        let send = |kind, params| Ok(Plan::Send(kind, statements.sql(kind), params));
        match work {
            Admin::Migrate { .. } => Ok(Plan::Answer(Answer::Migrated)),
            Admin::Diagnose(_) => Diagnosis::of_keys(statements),
            Admin::Insert(row) => match row.parent() {
                Some(parent) => {
                    if !parent.is_optional() {
                        shape.require(LINK)?;
                    }
                    match row.former_parent() {
                        Some(hash) => {
                            send(StatementKind::FormerKeys, vec![Some(text_array([hash.as_str()]))])
                        }
                        None => find_parent(parent, statements),
                    }
                }
                None => {
                    if row.has_limits() {
                        shape.require(NEEDED)?;
                    }
                    send(StatementKind::Insert, vec![Some(row.parameter(shape, &self.options)?)])
                }
            },
            Admin::Keys(work) => work.plan(statements, &self.options),
            Admin::Trip(trip) => Ok(trip.plan(statements)),
            Admin::Rotate(rotation) => rotation.plan(statements),
            Admin::Revoke(revocation, look) => match revoke_params(revocation, *look, shape) {
                Some(params) => send(StatementKind::Revoke, params),
                None => Ok(Plan::Answer(Answer::Revoked(false))),
            },
            Admin::RevokeAll(revoke) => {
                shape.require(&["parent_id", "delegated_by", "+events"])?;
                match revoke.params(shape) {
                    Some(params) => send(StatementKind::RevokeAll, params),
                    None => Ok(Plan::Answer(Answer::RevokedAll(0))),
                }
            }
            Admin::Refund(refund) => refund.plan(statements),
            Admin::Sweep(sweep) => sweep.plan(statements, self.options.max_batch),
            Admin::Ledger(work) => work.plan(statements),
            Admin::Deliveries(work) => work.plan(statements),
            Admin::Notices(notices) => notices.plan(statements, &self.options),
            Admin::CountSignup(signup, look) => signup.plan(*look, statements),
        }
    }

    pub(super) fn receive_admin(
        &mut self,
        now: Duration,
        request: Pending<Admin>,
        statements: Option<&Statements>,
        result: Result<&[String], Fault>,
    ) {
        let rows = match result {
            Ok(rows) => rows,
            Err(fault) => return self.admin_fault(now, request, &fault),
        };
        if matches!(request.work, Admin::Migrate { .. }) {
            self.forget_table();
        }
        match self.after(&request.work, statements, rows) {
            Ok(Next::Answer(answer)) => self.answer_admin(&request, Ok(answer)),
            Ok(Next::Reported(answer, reports)) => {
                reports.into_iter().for_each(|report| self.meter.report(report));
                self.answer_admin(&request, Ok(answer));
            }
            Ok(Next::Continue(work)) => self.lanes.admin.waiting.push_front(request.with_work(work)),
            Ok(Next::LookAgain(mut work)) => {
                self.meter.found_busy(None);
                let pause = work.look().map_or(Duration::ZERO, Look::in_vain);
                self.lanes.admin.pause_until(now + pause, request.with_work(work));
            }
            Ok(Next::Pause(pause, work)) => {
                self.lanes.admin.pause_until(now + pause, request.with_work(work))
            }
            Err(error) => self.answer_admin(&request, Err(error)),
        }
    }

    /// What comes after a statement.
    fn after(&self, work: &Admin, statements: Option<&Statements>, rows: &[String]) -> Result<Next, Error> {
        let shape = || statements.map(|s| &s.shape).ok_or_else(|| Error::unexpected("no catalogue"));
        Ok(Next::Answer(match work {
            Admin::Migrate { step } => return Ok(Next::Continue(Admin::Migrate { step: step + 1 })),
            Admin::Insert(row) if row.former_parent().is_some() => {
                let row = row.with_former_parent(rows)?;
                return Ok(Next::Continue(Admin::Insert(Box::new(row))));
            }
            Admin::Insert(row) if row.parent().is_some() => {
                let shape = shape()?;
                if rows.is_empty()
                    && shape.require(ROTATION).is_ok()
                    && let Some(row) = row.asking_for_former_parent()
                {
                    return Ok(Next::Continue(Admin::Insert(Box::new(row))));
                }
                let parent = match rows.first() {
                    Some(row) => Some(KeyRow::read(row, shape)?.decided()?),
                    None => None,
                };
                let row = row.as_ref().clone().below(parent, &self.options)?;
                return Ok(Next::Continue(Admin::Insert(Box::new(row))));
            }
            Admin::Insert(row) => match row.created(rows, shape()?)? {
                Some(created) => Answer::Created(Box::new(created)),
                None => Answer::SubjectEnsured,
            },
            Admin::Keys(work) => return work.after(rows, shape()?),
            Admin::Trip(trip) => return trip.after(rows),
            Admin::Rotate(rotation) => return rotation.after(rows, shape()?),
            Admin::Revoke(revocation, look) => match rows.first() {
                Some(row) if is_busy(row)? => {
                    return Ok(Next::LookAgain(Admin::Revoke(revocation.clone(), *look)));
                }
                row => Answer::Revoked(row.is_some()),
            },
            Admin::RevokeAll(revoke) => return revoke.clone().after(rows),
            Admin::Refund(refund) => return refund.after(rows),
            Admin::Sweep(sweep) => match sweep.clone().after(rows, self.options.max_batch)? {
                (sweep, true) => Answer::Swept(sweep.ended),
                (sweep, false) => return Ok(Next::Continue(Admin::Sweep(sweep))),
            },
            Admin::Ledger(work) => return work.after(rows),
            Admin::Deliveries(work) => return work.after(rows),
            Admin::Notices(notices) => return notices.after(rows),
            Admin::CountSignup(signup, look) => return signup.after(*look, rows),
            Admin::Diagnose(_) => Answer::Diagnosed(read_json(rows)?),
        }))
    }

    fn admin_fault(&mut self, now: Duration, mut request: Pending<Admin>, fault: &Fault) {
        const NO_MATCHING_INDEX: &str = "42P10";
        let sqlstate = fault.sqlstate().unwrap_or_default();
        if let Admin::Migrate { .. } = request.work {
            request.attempts += 1;
            let again = fault.is_transient() || migrations::was_done_meanwhile(sqlstate);
            if again && request.attempts < MAX_MIGRATION_ATTEMPTS {
                self.meter.retried(request.attempts, fault);
                self.lanes.admin.blocked_until = now + self.retry_delay(request.attempts);
                return self.lanes.admin.waiting.push_front(request);
            }
            return self.answer_admin(&request, Err(fault.error()));
        }
        if matches!(request.work, Admin::Insert(_)) && sqlstate == NO_MATCHING_INDEX {
            let error = Error::migration_required("the table lacks the unique index on external_subject");
            return self.answer_admin(&request, Err(error));
        }
        if let Admin::Sweep(sweep) = &request.work
            && fault.is_of_one()
            && let Some((sweep, is_over)) = sweep.clone().after_refusal()
        {
            if is_over {
                return self.answer_admin(&request, Ok(Answer::Swept(sweep.ended)));
            }
            return self.lanes.admin.waiting.push_front(request.with_work(Admin::Sweep(sweep)));
        }
        if self.may_be_repeated(&mut request, fault) {
            self.lanes.admin.blocked_until = self.retry_at(now, fault, request.attempts);
            self.lanes.admin.waiting.push_front(request);
        } else {
            self.answer_admin(&request, Err(fault.error()));
        }
    }

    fn answer_admin(&mut self, request: &Pending<Admin>, answer: Result<Answer, Error>) {
        match (&request.work, answer) {
            // A sweep of the engine's own has no caller.
            (Admin::Sweep(Sweep { of: Some(of), .. }), answer) => {
                if let Err(error) = &answer {
                    self.meter.report(format!(
                        "reservations of key {of} whose time is over were not ended: {error}"
                    ));
                }
                self.end_sweep(of, matches!(answer, Ok(Answer::Swept(ended)) if ended > 0));
            }
            (Admin::Trip(trip), Ok(answer)) => {
                self.answer_with(request, answer);
                self.answer_refused_with(trip);
            }
            (_, Ok(answer)) => self.answer_with(request, answer),
            (_, Err(error)) => self.answer_error(request, error),
        }
    }
}
