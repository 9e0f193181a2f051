//! The two batched lanes: look-ups and charges.

use std::sync::Arc;
use std::time::Duration;

use super::lane::{Batch, KeyLane, Pending};
use super::retry::Failure;
use super::{Column, Engine, Statements, Work, database_error};
use crate::charge::{ChargedKey, ChargedRow};
use crate::error::Error;
use crate::literal::{integer_array, text_array};
use crate::lookup::{Lookup, LookupRow};
use crate::request::{ChargeRefusal, Outcome, Usage};
use crate::shape::TableShape;
use crate::statement::{Fault, Statement, StatementKind};
use crate::verdict::Denial;

/// Whether a request whose statement failed may be sent again though nobody knows if it took effect.
pub(super) trait Repeatable {
    /// See the trait.
    fn may_be_repeated(&self) -> bool {
        false
    }
}

impl Repeatable for LookUp {}
impl Repeatable for Charge {}

/// A look-up that waits.
#[derive(Debug)]
pub(super) struct LookUp {
    /// Only the general statement can decide it.
    pub(super) is_general: bool,
}

/// A charge that waits.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) microcents: i64,
    /// The plain statement for one key did not settle it.
    pub(super) needs_batch: bool,
}

impl Engine {
    pub(super) fn poll_validate(
        &mut self,
        column: Column,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        let needed = [column.name()];
        let batch =
            self.take_batch(|engine| &mut engine.validate[column as usize], now, statements, &needed)?;
        let is_general = batch.open_requests().any(|request| request.work.is_general);
        let sql = statements.batch(column);
        let (kind, sql, lookup) = match batch.keys.as_slice() {
            keys if is_general => (StatementKind::Validate, &sql.validate, text_array(keys)),
            [key] => (StatementKind::ValidateOne, &sql.validate_one, key.to_string()),
            keys => (StatementKind::ValidateMany, &sql.validate_many, text_array(keys)),
        };
        self.validate[column as usize].in_flight += 1;
        let work = Work::Validate(column, batch, Arc::clone(statements));
        Some(self.send(kind, Arc::clone(sql), vec![Some(lookup)], work))
    }

    pub(super) fn poll_charge(
        &mut self,
        column: Column,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        let needed = [column.name(), "budget_used_cents"];
        let mut batch =
            self.take_batch(|engine| &mut engine.charge[column as usize], now, statements, &needed)?;
        for group in &mut batch.requests {
            group.sort_by_key(|request| request.work.microcents);
        }
        let needs_batch = batch.open_requests().any(|request| request.work.needs_batch);
        let (kind, sql, params) = match batch.requests.as_slice() {
            // The general statement costs several times as much to plan.
            [group] if group.len() == 1 && !needs_batch => {
                let params =
                    vec![Some(batch.keys[0].to_string()), Some(group[0].work.microcents.to_string())];
                (StatementKind::ChargeOne, &statements.batch(column).charge_one, params)
            }
            groups if !needs_batch => {
                let costs = groups.iter().map(|group| integer_array(group.iter().map(|r| r.work.microcents)));
                let params = vec![Some(text_array(&batch.keys)), Some(text_array(costs))];
                (StatementKind::ChargeMany, &statements.batch(column).charge_many, params)
            }
            groups => {
                let mut totals = Vec::with_capacity(groups.len());
                let mut costs = Vec::with_capacity(groups.len());
                for group in groups {
                    let amounts = || group.iter().map(|request| request.work.microcents);
                    totals.push(amounts().fold(0, i64::saturating_add));
                    costs.push(integer_array(amounts()));
                }
                let params =
                    vec![Some(text_array(&batch.keys)), Some(integer_array(totals)), Some(text_array(costs))];
                (StatementKind::ChargeBatch, &statements.batch(column).charge_batch, params)
            }
        };
        self.charge[column as usize].in_flight += 1;
        Some(self.send(kind, Arc::clone(sql), params, Work::Charge(column, kind, batch)))
    }

    /// Takes a batch whose statement the table allows.
    pub(super) fn take_batch<T>(
        &mut self,
        lane: impl Fn(&mut Engine) -> &mut KeyLane<T>,
        now: Duration,
        statements: &Statements,
        needed: &[&str],
    ) -> Option<Batch<T>> {
        let (max_in_flight, max_batch) = (self.options.max_in_flight, self.options.max_batch);
        while lane(self).is_ready(now, max_in_flight) {
            let mut batch = lane(self).take(max_batch, max_in_flight);
            self.drop_cancelled(&mut batch, |engine, name| lane(engine).release(name));
            if batch.keys.is_empty() {
                continue;
            }
            let Err(error) = statements.shape.require(needed) else { return Some(batch) };
            // A migration may have run since the catalogue was asked: each request causes one more look.
            let mut again = false;
            for (name, group) in batch.keys.iter().zip(batch.requests) {
                let group = self.after_missing_column(group, &error);
                again |= !group.is_empty();
                lane(self).put_back(name, group);
                lane(self).release(name);
            }
            if again {
                return None;
            }
        }
        None
    }

    /// Puts a batch whose statement failed back into its lane, or answers it.
    pub(super) fn batch_fault<T: Repeatable>(
        &mut self,
        lane: impl Fn(&mut Engine) -> &mut KeyLane<T>,
        now: Duration,
        batch: Batch<T>,
        fault: &Fault,
    ) {
        // A unique index refused an idempotency key that another client was recording: the second look sees it.
        let failure = match fault.sqlstate.as_deref() {
            Some("23505") => Failure::Aborted,
            _ => Failure::of(fault),
        };
        let is_uncertain = fault.sqlstate.is_none();
        let max_attempts = self.options.max_attempts;
        let mut most_attempts = None;
        for (name, group) in batch.keys.iter().zip(batch.requests) {
            let mut again = Vec::new();
            for mut request in group {
                let Some(ticket) = request.ticket else { continue };
                request.attempts += 1;
                let may_be_repeated =
                    is_uncertain && request.work.may_be_repeated() && request.attempts < max_attempts;
                if may_be_repeated || failure.may_be_retried(request.attempts, max_attempts) {
                    most_attempts = most_attempts.max(Some(request.attempts));
                    again.push(request);
                } else {
                    self.answer(ticket, Err(database_error(fault)));
                }
            }
            lane(self).put_back(name, again);
            lane(self).release(name);
        }
        if let Some(attempts) = most_attempts {
            lane(self).blocked_until = self.retry_at(now, failure, attempts);
        }
    }

    pub(super) fn receive_lookups(
        &mut self,
        now: Duration,
        column: Column,
        batch: Batch<LookUp>,
        rows: &[String],
        shape: &TableShape,
    ) {
        let mut groups: Vec<Option<Vec<Pending<LookUp>>>> = batch.requests.into_iter().map(Some).collect();
        let mut fault = None;
        for row in rows {
            let read = LookupRow::read(row, shape).and_then(|row| {
                let (LookupRow::Decided(Lookup { place, .. }) | LookupRow::Undecided { place, .. }) = row;
                let group = groups.get_mut(place).and_then(Option::take);
                group
                    .map(|group| (row, group))
                    .ok_or_else(|| Error::unexpected("a key that was not asked for"))
            });
            match read {
                Ok((LookupRow::Undecided { place, has_parent }, mut group)) => {
                    let name = &batch.keys[place];
                    if has_parent {
                        self.note_child(column, name);
                    }
                    // Those whose time ran out meanwhile are answered already.
                    group.retain(|request| request.ticket.is_some());
                    group.iter_mut().for_each(|request| request.work.is_general = true);
                    self.validate[column as usize].put_back(name, group);
                }
                Ok((LookupRow::Decided(lookup), mut group)) => {
                    if shape.has("last_used_at") && lookup.is_stale(self.options.touch_interval_seconds) {
                        self.touches.note(&lookup.id, now);
                    }
                    let last = group.pop().and_then(|request| request.ticket);
                    for ticket in group.into_iter().filter_map(|request| request.ticket) {
                        self.answer(ticket, Ok(Outcome::Validated(lookup.verdict.clone())));
                    }
                    if let Some(ticket) = last {
                        self.answer(ticket, Ok(Outcome::Validated(lookup.verdict)));
                    }
                }
                Err(error) => fault = Some(error),
            }
        }
        // No row means no such key, unless some row could not be read: then nobody is told anything.
        for ticket in groups.into_iter().flatten().flatten().filter_map(|request| request.ticket) {
            match &fault {
                Some(error) => self.answer(ticket, Err(error.clone())),
                None => self.answer(ticket, Ok(Outcome::Validated(Err(Denial::invalid())))),
            }
        }
    }

    pub(super) fn receive_charges(
        &mut self,
        column: Column,
        kind: StatementKind,
        batch: Batch<Charge>,
        rows: &[String],
    ) {
        let can_sweep = matches!(&self.table, super::Table::Known { statements, .. } if statements.shape.has("+reservations"));
        let mut groups: Vec<Option<Vec<Pending<Charge>>>> = batch.requests.into_iter().map(Some).collect();
        let mut fault = None;
        for row in rows {
            let sent = |place: usize| -> i64 {
                let group = groups.get(place).and_then(Option::as_ref).into_iter().flatten();
                group.map(|request| request.work.microcents).fold(0, i64::saturating_add)
            };
            let read = ChargedRow::read(row, sent).and_then(|row| {
                let (ChargedRow::HasParent { place } | ChargedRow::Charged(ChargedKey { place, .. })) = row;
                let group = groups.get_mut(place).and_then(Option::take);
                let group = group.ok_or_else(|| Error::unexpected("a key that was not charged"))?;
                let ChargedRow::Charged(key) = row else { return Ok((place, None, group)) };
                let has_reservations = key.has_reservations();
                let usages = key.replay(group.iter().map(|request| request.work.microcents));
                Ok((place, Some(usages.map(|usages| (usages, has_reservations))), group))
            });
            match read {
                Ok((place, None, group)) => {
                    let name = &batch.keys[place];
                    self.note_child(column, name);
                    self.spend_in_full(column, name, group.into_iter().map(amount_of).collect(), false);
                }
                Ok((place, Some(Ok((usages, has_reservations))), group)) => {
                    let mut blocked = Vec::new();
                    if kind == StatementKind::ChargeBatch {
                        let was_refused = usages.iter().any(|usage| !usage.is_success());
                        self.note_refusal(column, &batch.keys[place], was_refused);
                    }
                    for (request, usage) in group.into_iter().zip(usages) {
                        let Some(ticket) = request.ticket else { continue };
                        match usage {
                            // Of the reservations in its way some may be over.
                            Usage::Refused(ChargeRefusal::BudgetExceeded)
                                if has_reservations && can_sweep =>
                            {
                                blocked.push(amount_of(request));
                            }
                            usage => self.answer_usage(ticket, usage),
                        }
                    }
                    self.spend_in_full(column, &batch.keys[place], blocked, true);
                }
                Ok((_, Some(Err(error)), group)) => {
                    for ticket in group.into_iter().filter_map(|request| request.ticket) {
                        self.answer(ticket, Err(error.clone()));
                    }
                }
                Err(error) => fault = Some(error),
            }
        }
        for (name, group) in batch.keys.iter().zip(groups) {
            let mut undecided = Vec::new();
            for mut request in group.into_iter().flatten() {
                let Some(ticket) = request.ticket else { continue };
                match &fault {
                    Some(error) => self.answer(ticket, Err(error.clone())),
                    None if kind != StatementKind::ChargeBatch => {
                        request.work.needs_batch = true;
                        undecided.push(request);
                    }
                    None => self.answer_usage(ticket, Usage::Refused(ChargeRefusal::InvalidKey)),
                }
            }
            let lane = &mut self.charge[column as usize];
            lane.put_back(name, undecided);
            lane.release(name);
        }
    }

    /// The table lacked a column when the catalogue was asked. Requests that have not yet caused a second look come
    /// back, others are answered.
    pub(super) fn after_missing_column<T>(
        &mut self,
        requests: Vec<Pending<T>>,
        error: &Error,
    ) -> Vec<Pending<T>> {
        let (mut again, answered): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| request.attempts == 0);
        for ticket in answered.into_iter().filter_map(|request| request.ticket) {
            self.answer(ticket, Err(error.clone()));
        }
        if !again.is_empty() {
            again.iter_mut().for_each(|request| request.attempts = 1);
            self.forget_table();
        }
        again
    }

    /// Drops requests whose callers are gone, and keys that then have none.
    fn drop_cancelled<T>(&mut self, batch: &mut Batch<T>, release: impl Fn(&mut Engine, &Arc<str>)) {
        if self.cancelled.is_empty() {
            return;
        }
        for group in &mut batch.requests {
            group.retain(|request| !self.is_cancelled(request));
        }
        let mut place = 0;
        while place < batch.keys.len() {
            if batch.requests[place].is_empty() {
                batch.requests.remove(place);
                let name = batch.keys.remove(place);
                release(self, &name);
            } else {
                place += 1;
            }
        }
    }

    /// Whether the caller of a request that was not sent is gone. It is forgotten then.
    pub(super) fn is_cancelled<T>(&mut self, request: &Pending<T>) -> bool {
        let gone = request.ticket.is_some_and(|ticket| self.cancelled.remove(&ticket));
        self.pending -= usize::from(gone);
        gone
    }
}

fn amount_of(charge: Pending<Charge>) -> Pending<i64> {
    Pending {
        ticket: charge.ticket,
        deadline: charge.deadline,
        attempts: charge.attempts,
        work: charge.work.microcents,
    }
}
