//! Operations that are rare and unbatched: one statement each.

use std::sync::Arc;
use std::time::Duration;

use super::Column;
use super::lane::Pending;
use super::retry::Failure;
use super::spend::NEEDED;
use super::sweep::Sweep;
use super::{Engine, Statements, Table, Work, database_error};
use crate::delegation::{Ancestry, Parent, ParentLookup};
use crate::error::{Error, ErrorCode};
use crate::ledger::{EventFilter, UsageFilter, read_json};
use crate::literal::{integer_array, parse_row, text_array};
use crate::lookup::{LookupRow, timestamp};
use crate::migrate;
use crate::new_key::NewRow;
use crate::request::{AccountFilter, Outcome, RevokeFilter};
use crate::shape::TableShape;
use crate::statement::{Fault, Statement, StatementKind};
use crate::verdict::read_key_id;

/// How many of them are under way at most.
pub(super) const MAX_IN_FLIGHT: usize = 4;
/// Migrations wait for one another and for long transactions on the table.
const MAX_MIGRATION_ATTEMPTS: u32 = 12;

#[derive(Debug)]
pub(super) enum Admin {
    Insert(Box<NewRow>),
    Revoke { id: String, account: AccountFilter, within: Option<String> },
    RevokeAll(RevokeFilter),
    Sweep(Sweep),
    Events(EventFilter),
    Usage(UsageFilter),
    VerifyLedger(Option<String>),
    PruneEvents(u64),
    Migrate { step: usize },
}

/// Entries that one statement deletes at most: it is sent again until there are no more.
const PRUNED_AT_ONCE: u64 = 1_000_000;

/// What an operation needs of the database.
enum Plan {
    Send(StatementKind, Arc<str>, Vec<Option<String>>),
    /// Something else comes first.
    Instead(Box<NewRow>),
    Answer(Box<Outcome>),
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
            let mut request = self.admin.waiting.remove(at)?;
            if self.is_cancelled(&request) {
                continue;
            }
            match self.plan(&request.work, statements.as_deref()) {
                Ok(Plan::Send(kind, sql, params)) => {
                    self.admin.in_flight += 1;
                    return Some(self.send(kind, sql, params, Work::Admin(request, statements)));
                }
                Ok(Plan::Instead(row)) => {
                    request.work = Admin::Insert(row);
                    self.admin.waiting.push_front(request);
                }
                Ok(Plan::Answer(outcome)) => self.answer_admin(&request, Ok(*outcome)),
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
                None => Plan::Answer(Box::new(Outcome::Migrated)),
            });
        }
        let statements = statements.ok_or_else(|| Error::unexpected("no catalogue"))?;
        let shape = &statements.shape;
        Ok(match work {
            Admin::Migrate { .. } => Plan::Answer(Box::new(Outcome::Migrated)),
            Admin::Insert(row) => match row.parent() {
                Some(parent) if shape.has("parent_id") && shape.has("ancestor_ids") => {
                    return self.find_parent(parent, statements);
                }
                Some(parent) if parent.is_optional() => {
                    Plan::Instead(Box::new(row.as_ref().clone().without_parent()))
                }
                Some(_) => return Err(needs(shape, &["parent_id", "ancestor_ids"])),
                None => {
                    let params = vec![Some(row.parameter(shape, &self.options)?)];
                    Plan::Send(StatementKind::Insert, Arc::clone(&statements.insert), params)
                }
            },
            Admin::Revoke { id, account, within } => {
                let account = match account {
                    AccountFilter::Any => None,
                    AccountFilter::Only(Some(account)) if shape.fits_account(account) => {
                        Some(account.clone())
                    }
                    AccountFilter::Only(_) => return Ok(Plan::Answer(Box::new(Outcome::Revoked(false)))),
                };
                if !shape.fits_id(id) || within.as_ref().is_some_and(|within| !shape.fits_id(within)) {
                    return Ok(Plan::Answer(Box::new(Outcome::Revoked(false))));
                }
                let params = vec![Some(id.clone()), account, within.clone()];
                Plan::Send(StatementKind::Revoke, Arc::clone(&statements.revoke), params)
            }
            Admin::RevokeAll(filter) => {
                shape.require(&["parent_id", "delegated_by", "+events"])?;
                let params = match filter {
                    RevokeFilter::Account(account) if shape.fits_account(account) => {
                        vec![Some(account.clone()), None, None]
                    }
                    RevokeFilter::Parent(id) if shape.fits_id(id) => vec![None, Some(id.clone()), None],
                    RevokeFilter::DelegatedBy(human) if !human.contains('\0') => {
                        vec![None, None, Some(human.clone())]
                    }
                    _ => return Ok(Plan::Answer(Box::new(Outcome::RevokedAll(0)))),
                };
                Plan::Send(StatementKind::RevokeAll, Arc::clone(&statements.revoke_all), params)
            }
            Admin::Sweep(Sweep { listed: None, .. }) => {
                shape.require(NEEDED)?;
                let params = vec![Some(self.options.max_batch.to_string())];
                let sql = Arc::clone(&statements.expired_reservations);
                Plan::Send(StatementKind::ExpiredReservations, sql, params)
            }
            Admin::Sweep(Sweep { listed: Some(ids), .. }) => {
                let params = vec![
                    Some(text_array(ids)),
                    Some(text_array(ids.iter().map(|_| "expire"))),
                    Some(integer_array(ids.iter().map(|_| 0))),
                ];
                Plan::Send(StatementKind::Settle, Arc::clone(&statements.settle), params)
            }
            Admin::Events(filter) => {
                shape.require(&["+events"])?;
                let fits = filter.key_id.as_ref().is_none_or(|id| shape.fits_id(id))
                    && filter.account_id.as_ref().is_none_or(|account| shape.fits_account(account))
                    && filter.kind.as_ref().is_none_or(|kind| !kind.contains('\0'));
                if !fits {
                    return Ok(Plan::Answer(Box::new(Outcome::Events(Vec::new()))));
                }
                let params = vec![
                    filter.key_id.clone(),
                    filter.account_id.clone(),
                    filter.kind.clone(),
                    filter.before.map(|id| id.to_string()),
                    Some(filter.limit().to_string()),
                ];
                Plan::Send(StatementKind::Events, Arc::clone(&statements.events), params)
            }
            Admin::Usage(filter) => {
                let by = filter.by()?;
                shape.require(&["+events"])?;
                if !shape.fits_id(&filter.key_id) {
                    return Ok(Plan::Answer(Box::new(Outcome::Usage(Vec::new()))));
                }
                let time = |at: &Option<chrono::DateTime<chrono::Utc>>| at.map(|at| at.to_rfc3339());
                let params = vec![
                    Some(filter.key_id.clone()),
                    time(&filter.from),
                    time(&filter.to),
                    Some(by.to_owned()),
                ];
                Plan::Send(StatementKind::Usage, Arc::clone(&statements.usage), params)
            }
            Admin::VerifyLedger(id) => {
                shape.require(NEEDED)?;
                if id.as_ref().is_some_and(|id| !shape.fits_id(id)) {
                    return Ok(Plan::Answer(Box::new(Outcome::Verified(Vec::new()))));
                }
                Plan::Send(
                    StatementKind::VerifyLedger,
                    Arc::clone(&statements.verify_ledger),
                    vec![id.clone()],
                )
            }
            Admin::PruneEvents(seconds) => {
                shape.require(&["+events"])?;
                let params = vec![Some(seconds.to_string()), Some(PRUNED_AT_ONCE.to_string())];
                Plan::Send(StatementKind::PruneEvents, Arc::clone(&statements.prune_events), params)
            }
        })
    }

    fn find_parent(&self, parent: &Parent, statements: &Statements) -> Result<Plan, Error> {
        let (sql, lookup) = match parent.lookup() {
            ParentLookup::Id(id) if statements.shape.fits_id(&id) => (&statements.find, Arc::from(id)),
            ParentLookup::Id(_) => return Err(Ancestry::missing()),
            ParentLookup::Credential(credential) => {
                let (column, lookup) = super::text_of(credential).ok_or_else(Ancestry::missing)?;
                if column == Column::Subject {
                    statements.shape.require(&[column.name()])?;
                }
                (&statements.batch(column).validate, lookup)
            }
        };
        let params = vec![Some(text_array([lookup]))];
        Ok(Plan::Send(StatementKind::Parent, Arc::clone(sql), params))
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
            Admin::RevokeAll(_) => Ok(Outcome::RevokedAll(count(rows.len()))),
            Admin::Insert(row) if row.parent().is_some() => match self.below_parent(row, statements, rows) {
                Ok(row) => {
                    let work = Admin::Insert(Box::new(row));
                    return self.admin.waiting.push_front(Pending { work, attempts: 0, ..request });
                }
                Err(error) => Err(error),
            },
            Admin::Insert(row) => inserted(row, statements, rows),
            Admin::Sweep(sweep) => match sweep.clone().after(rows, self.options.max_batch) {
                Ok((sweep, true)) => Ok(Outcome::Swept(sweep.ended)),
                Ok((sweep, false)) => {
                    let work = Admin::Sweep(sweep);
                    return self.admin.waiting.push_front(Pending { work, attempts: 0, ..request });
                }
                Err(error) => Err(error),
            },
            Admin::Events(_) => read_json(rows).map(Outcome::Events),
            Admin::Usage(_) => read_json(rows).map(Outcome::Usage),
            Admin::VerifyLedger(_) => read_json(rows).map(Outcome::Verified),
            Admin::PruneEvents(_) => match rows {
                [row] => match parse_row(row).and_then(|fields| fields.first()?.as_deref()?.parse().ok()) {
                    Some(deleted) => Ok(Outcome::Pruned(deleted)),
                    None => Err(Error::unexpected("a count of entries")),
                },
                _ => Err(Error::unexpected("not one count")),
            },
        };
        self.answer_admin(&request, answer);
    }

    fn below_parent(
        &self,
        row: &NewRow,
        statements: Option<&Statements>,
        rows: &[String],
    ) -> Result<NewRow, Error> {
        let statements = statements.ok_or_else(|| Error::unexpected("no catalogue"))?;
        let read = |row| LookupRow::read(row, &statements.shape).and_then(LookupRow::decided);
        let parent = rows.first().map(|row: &String| read(row)).transpose()?;
        row.clone().below(&Ancestry::of(parent)?, &self.options)
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
        } else if matches!(request.work, Admin::Sweep(_)) {
            self.end_sweep();
        }
    }
}

fn needs(shape: &TableShape, columns: &[&str]) -> Error {
    shape.require(columns).err().unwrap_or_else(|| Error::unexpected("a column that is there"))
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn inserted(row: &NewRow, statements: Option<&Statements>, rows: &[String]) -> Result<Outcome, Error> {
    let [inserted] = rows else {
        return match rows {
            [] if row.is_subject() => Ok(Outcome::Inserted(None)),
            [] if row.has_parent() => Err(Ancestry::revoked()),
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
