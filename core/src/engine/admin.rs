//! Operations that are rare and unbatched: one statement each.

use std::sync::Arc;
use std::time::Duration;

use super::lane::Pending;
use super::retry::Failure;
use super::{Engine, Statements, Table, Work, database_error};
use crate::error::{Error, ErrorCode};
use crate::literal::parse_row;
use crate::migrate;
use crate::request::{AccountFilter, NewRow, Outcome};
use crate::statement::{Fault, Statement, StatementKind};
use crate::verdict::{read_key_id, timestamp};

/// How many of them are under way at most.
pub(super) const MAX_IN_FLIGHT: usize = 4;
/// Migrations wait for one another and for long transactions on the table.
const MAX_MIGRATION_ATTEMPTS: u32 = 12;

#[derive(Debug)]
pub(super) enum Admin {
    Insert(Box<NewRow>),
    Revoke { id: String, account: AccountFilter },
    Migrate { step: usize },
}

/// What an operation needs of the database.
enum Plan {
    Send(StatementKind, Arc<str>, Vec<Option<String>>),
    Answer(Outcome),
}

impl Engine {
    pub(super) fn poll_admin(&mut self, now: Duration) -> Option<Statement> {
        while self.admin.is_ready(now, MAX_IN_FLIGHT) {
            let statements = match &self.table {
                Table::Known { statements, .. } => Some(Arc::clone(statements)),
                // A migration needs no catalogue; all else waits for it.
                _ if self.admin.waiting.iter().any(|p| matches!(p.work, Admin::Migrate { .. })) => None,
                _ => return None,
            };
            let at = match &statements {
                Some(_) => 0,
                None => self.admin.waiting.iter().position(|p| matches!(p.work, Admin::Migrate { .. }))?,
            };
            let request = self.admin.waiting.remove(at)?;
            if self.is_cancelled(&request) {
                continue;
            }
            match self.plan(&request.work, statements.as_deref()) {
                Ok(Plan::Send(kind, sql, params)) => {
                    self.admin.in_flight += 1;
                    return Some(self.send(kind, sql, params, Work::Admin(request, statements)));
                }
                Ok(Plan::Answer(outcome)) => self.answer_admin(&request, Ok(outcome)),
                Err(error) if error.code() == ErrorCode::MigrationRequired => {
                    if let Some(again) = self.after_missing_column(vec![request], &error).pop() {
                        self.admin.waiting.push_front(again);
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
            return Ok(match migrate::step(*step, &self.options.table) {
                Some(sql) => Plan::Send(StatementKind::Migrate, sql, Vec::new()),
                None => Plan::Answer(Outcome::Migrated),
            });
        }
        let statements = statements.ok_or_else(|| Error::unexpected("no catalogue"))?;
        let shape = &statements.shape;
        Ok(match work {
            Admin::Migrate { .. } => Plan::Answer(Outcome::Migrated),
            Admin::Insert(row) => {
                let params = vec![Some(row.parameter(shape, &self.options)?)];
                Plan::Send(StatementKind::Insert, Arc::clone(&statements.insert), params)
            }
            Admin::Revoke { id, account } => {
                let account = match account {
                    AccountFilter::Any => None,
                    AccountFilter::Only(Some(account)) if shape.fits_account(account) => {
                        Some(account.clone())
                    }
                    AccountFilter::Only(_) => return Ok(Plan::Answer(Outcome::Revoked(false))),
                };
                if !shape.fits_id(id) {
                    return Ok(Plan::Answer(Outcome::Revoked(false)));
                }
                Plan::Send(
                    StatementKind::Revoke,
                    Arc::clone(&statements.revoke),
                    vec![Some(id.clone()), account],
                )
            }
        })
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
        let answer = match &request.work {
            Admin::Migrate { step } => {
                self.forget_table();
                let work = Admin::Migrate { step: step + 1 };
                return self.admin.waiting.push_front(Pending { work, attempts: 0, ..request });
            }
            Admin::Revoke { .. } => Ok(Outcome::Revoked(!rows.is_empty())),
            Admin::Insert(row) => inserted(row, statements, rows),
        };
        self.answer_admin(&request, answer);
    }

    fn admin_fault(&mut self, now: Duration, mut request: Pending<Admin>, fault: &Fault) {
        const NO_MATCHING_INDEX: &str = "42P10";
        let sqlstate = fault.sqlstate.as_deref().unwrap_or_default();
        match &request.work {
            Admin::Migrate { .. } => {
                request.attempts += 1;
                let again = Failure::of(fault) == Failure::Aborted || migrate::was_done_meanwhile(sqlstate);
                if again && request.attempts < MAX_MIGRATION_ATTEMPTS {
                    self.stats.retries += 1;
                    self.admin.blocked_until = now + self.retry_delay(request.attempts.min(8));
                    self.admin.waiting.push_front(request);
                } else {
                    self.answer_admin(&request, Err(database_error(fault)));
                }
            }
            Admin::Insert(_) if sqlstate == NO_MATCHING_INDEX => {
                let error = Error::migration_required("the table lacks the unique index on external_subject");
                self.answer_admin(&request, Err(error));
            }
            _ => {
                request.attempts += 1;
                let failure = Failure::of(fault);
                if failure.may_be_retried(request.attempts, self.options.max_attempts) {
                    self.admin.blocked_until = self.retry_at(now, failure, request.attempts);
                    self.admin.waiting.push_front(request);
                } else {
                    self.answer_admin(&request, Err(database_error(fault)));
                }
            }
        }
    }

    fn answer_admin(&mut self, request: &Pending<Admin>, answer: Result<Outcome, Error>) {
        if let Some(ticket) = request.ticket {
            self.answer(ticket, answer);
        }
    }
}

fn inserted(row: &NewRow, statements: Option<&Statements>, rows: &[String]) -> Result<Outcome, Error> {
    let [inserted] = rows else {
        return match rows {
            [] if row.is_subject() => Ok(Outcome::Inserted(None)),
            _ => Err(Error::unexpected("not one row for one key")),
        };
    };
    let fields = parse_row(inserted).filter(|fields| fields.len() == 2);
    match (fields.as_deref(), statements) {
        (Some([Some(id), expires_at]), Some(statements)) => {
            let id = read_key_id(id, &statements.shape)?;
            Ok(Outcome::Inserted(Some(row.created(id, timestamp(expires_at.as_deref())?))))
        }
        _ => Err(Error::unexpected("an inserted key's row")),
    }
}
