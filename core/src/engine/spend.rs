//! The lanes of what the plain charges do not serve: spends in all their forms, and the ends of reservations.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::batch::Repeatable;
use super::lane::{Batch, Pending};
use super::{Column, Engine, Statements, Work};
use crate::charge::ChargedRow;
use crate::error::Error;
use crate::literal::{integer_array, text_array};
use crate::request::Usage;
use crate::reservation::{Finish, FinishedRow};
use crate::shape::TableShape;
use crate::spend::{Decision, Spend, SpentRow};
use crate::statement::{Statement, StatementKind};

/// What the general statements need, which only our own migration makes.
pub(super) const NEEDED: &[&str] = &[
    "budget_used_cents",
    "budget_reserved_cents",
    "budget_used_microcents",
    "ancestor_ids",
    "+reservations",
    "+events",
];
/// Two statements that draw on the same ancestors would only wait for one another: one takes twice as many.
const MAX_IN_FLIGHT: usize = 1;
/// How often a spend waits for a sweep of reservations that may stand in its way.
const MAX_SWEEPS: u32 = 8;
/// So many keys are remembered to have a parent, or to be refused.
const MAX_REMEMBERED: usize = 10_000;

/// A spend that waits.
#[derive(Debug)]
pub(super) struct Spending {
    pub(super) spend: Box<Spend>,
    /// Only the general statement can decide it.
    pub(super) is_general: bool,
    pub(super) sweeps: u32,
}

fn remember(known: &mut HashSet<Arc<str>>, name: &Arc<str>) {
    if known.len() >= MAX_REMEMBERED {
        known.clear();
    }
    known.insert(Arc::clone(name));
}

impl Repeatable for Spending {
    fn may_be_repeated(&self) -> bool {
        self.spend.idempotency_key.is_some()
    }
}

/// Ends are recorded once, however often they are asked for.
impl Repeatable for Finish {
    fn may_be_repeated(&self) -> bool {
        true
    }
}

impl Engine {
    /// Hands plain charges over whose keys have a parent, or reservations in their way.
    pub(super) fn spend_in_full(
        &mut self,
        column: Column,
        name: &Arc<str>,
        charges: Vec<Pending<i64>>,
        is_general: bool,
    ) {
        // Those whose time ran out meanwhile are answered already.
        for charge in charges.into_iter().filter(|charge| charge.ticket.is_some()) {
            let spend = Box::new(Spend::charge(crate::money::Cost::Microcents(charge.work)));
            self.spend[column as usize].push(
                Arc::clone(name),
                Pending {
                    ticket: charge.ticket,
                    deadline: charge.deadline,
                    attempts: 0,
                    work: Spending { spend, is_general, sweeps: 0 },
                },
            );
        }
    }

    /// A key's parent is for life: its charges need not be tried as plain ones again.
    pub(super) fn note_child(&mut self, column: Column, name: &Arc<str>) {
        remember(&mut self.children[column as usize], name);
    }

    /// Whether the general statement had to refuse a charge of a key.
    pub(super) fn note_refusal(&mut self, column: Column, name: &Arc<str>, was_refused: bool) {
        let refused = &mut self.refused[column as usize];
        match was_refused {
            true => remember(refused, name),
            false => _ = refused.remove(name),
        }
    }

    pub(super) fn poll_spend(
        &mut self,
        column: Column,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        if self.spend[column as usize].in_flight >= MAX_IN_FLIGHT {
            return None;
        }
        let mut needed = vec![column.name()];
        needed.extend(NEEDED);
        let mut batch =
            self.take_batch(|engine| &mut engine.spend[column as usize], now, statements, &needed)?;
        self.spend[column as usize].in_flight += 1;
        if !batch.open_requests().any(|request| request.work.is_general) {
            return Some(self.charge_trees(column, batch, statements));
        }
        // Of several with one idempotency key the first goes ahead, and the others hear what became of it.
        for (name, group) in batch.keys.iter().zip(&mut batch.requests) {
            let mut seen = HashSet::new();
            let (first, later): (Vec<_>, Vec<_>) = group.drain(..).partition(|request| {
                request.work.spend.idempotency_key.as_ref().is_none_or(|key| seen.insert(key.clone()))
            });
            *group = first;
            self.spend[column as usize].put_back(name, later);
        }
        let operations = || {
            batch
                .keys
                .iter()
                .zip(&batch.requests)
                .flat_map(|(name, group)| group.iter().map(move |request| (name, &request.work.spend)))
        };
        let params = vec![
            Some(text_array(operations().map(|(name, _)| name))),
            Some(text_array(operations().map(|(_, spend)| spend.code()))),
            Some(integer_array(operations().map(|(_, spend)| spend.amount()))),
            Some(text_array(operations().map(|(_, spend)| spend.details()))),
        ];
        let (kind, sql) = (StatementKind::Spend, Arc::clone(&statements.batch(column).spend));
        Some(self.send(kind, sql, params, Work::Spend(column, kind, batch, Arc::clone(statements))))
    }

    /// A statement for plain charges alone: it is much cheaper.
    fn charge_trees(
        &mut self,
        column: Column,
        mut batch: Batch<Spending>,
        statements: &Arc<Statements>,
    ) -> Statement {
        for group in &mut batch.requests {
            group.sort_by_key(|request| request.work.spend.amount());
        }
        let costs =
            |group: &Vec<Pending<Spending>>| integer_array(group.iter().map(|r| r.work.spend.amount()));
        let params = vec![Some(text_array(&batch.keys)), Some(text_array(batch.requests.iter().map(costs)))];
        let (kind, sql) = (StatementKind::ChargeTree, Arc::clone(&statements.batch(column).charge_tree));
        self.send(kind, sql, params, Work::Spend(column, kind, batch, Arc::clone(statements)))
    }

    pub(super) fn receive_tree_charges(&mut self, column: Column, batch: Batch<Spending>, rows: &[String]) {
        let mut charged: Vec<Option<Vec<Usage>>> = batch.keys.iter().map(|_| None).collect();
        let mut fault = None;
        for row in rows {
            let amounts = |place: usize| {
                let group = batch.requests.get(place).into_iter().flatten();
                group.map(|request| request.work.spend.amount())
            };
            let sent = |place| amounts(place).fold(0, i64::saturating_add);
            let read = ChargedRow::read(row, sent).and_then(|row| match row {
                ChargedRow::Charged(key) if key.place < batch.keys.len() => {
                    Ok((key.place, key.replay(amounts(key.place))?))
                }
                ChargedRow::Charged(_) => Err(Error::unexpected("a key that was not charged")),
                ChargedRow::HasParent { .. } => Err(Error::unexpected("a key without its charges")),
            });
            match read {
                Ok((place, usages)) => charged[place] = Some(usages),
                Err(error) => fault = Some(error),
            }
        }
        for ((name, group), usages) in batch.keys.iter().zip(batch.requests).zip(charged) {
            let mut undecided = Vec::new();
            let mut usages = usages.map(Vec::into_iter);
            for mut request in group {
                let usage = usages.as_mut().and_then(Iterator::next);
                let Some(ticket) = request.ticket else { continue };
                match (usage, &fault) {
                    (Some(usage), _) => self.answer_usage(ticket, usage),
                    (None, Some(error)) => self.answer(ticket, Err(error.clone())),
                    (None, None) => {
                        request.work.is_general = true;
                        undecided.push(request);
                    }
                }
            }
            let lane = &mut self.spend[column as usize];
            lane.put_back(name, undecided);
            lane.release(name);
        }
    }

    pub(super) fn receive_spends(
        &mut self,
        column: Column,
        batch: Batch<Spending>,
        rows: &[String],
        shape: &TableShape,
    ) {
        let count = batch.requests.iter().map(Vec::len).sum();
        let mut read: Vec<Option<SpentRow>> = (0..count).map(|_| None).collect();
        let mut fault = None;
        for row in rows {
            match SpentRow::read(row, shape) {
                Ok(row) => match read.get_mut(row.place) {
                    Some(place @ None) => *place = Some(row),
                    _ => fault = Some(Error::unexpected("an operation that was not sent")),
                },
                Err(error) => fault = Some(error),
            }
        }
        let mut read = read.into_iter();
        for (name, group) in batch.keys.iter().zip(batch.requests) {
            let mut again = Vec::new();
            let mut waits_for_sweep = false;
            for mut request in group {
                let row = read.next().flatten();
                let Some(ticket) = request.ticket else { continue };
                let spend = &request.work.spend;
                let decision = match (&fault, row) {
                    (Some(error), _) => Err(error.clone()),
                    (None, None) => Ok(Decision::Final(spend.of_no_key())),
                    (None, Some(row)) => spend.decided(row),
                };
                match decision {
                    Ok(Decision::Final(outcome)) => self.answer(ticket, Ok(outcome)),
                    Ok(Decision::Again) => again.push(request),
                    Ok(Decision::AfterSweep(limit)) if request.work.sweeps >= MAX_SWEEPS => {
                        let outcome = spend.does_not_fit(limit);
                        self.answer(ticket, Ok(outcome));
                    }
                    Ok(Decision::AfterSweep(_)) => {
                        request.work.sweeps += 1;
                        waits_for_sweep = true;
                        again.push(request);
                    }
                    Err(error) => self.answer(ticket, Err(error)),
                }
            }
            let lane = &mut self.spend[column as usize];
            lane.put_back(name, again);
            if waits_for_sweep {
                self.sweep_for(column, name);
            } else {
                lane.release(name);
            }
        }
    }

    pub(super) fn poll_finish(&mut self, now: Duration, statements: &Arc<Statements>) -> Option<Statement> {
        if self.finish.in_flight >= MAX_IN_FLIGHT {
            return None;
        }
        let mut batch = self.take_batch(|engine| &mut engine.finish, now, statements, NEEDED)?;
        // One after the other: what becomes of the second depends on the first.
        for (name, group) in batch.keys.iter().zip(&mut batch.requests) {
            let later = group.split_off(1);
            self.finish.put_back(name, later);
        }
        let finishes = || batch.requests.iter().flatten().map(|request| request.work);
        let params = vec![
            Some(text_array(&batch.keys)),
            Some(text_array(finishes().map(Finish::action))),
            Some(integer_array(finishes().map(Finish::amount))),
        ];
        self.finish.in_flight += 1;
        let sql = Arc::clone(&statements.settle);
        Some(self.send(StatementKind::Settle, sql, params, Work::Finish(batch)))
    }

    pub(super) fn receive_finishes(&mut self, batch: Batch<Finish>, rows: &[String]) {
        let mut read: Vec<Option<FinishedRow>> = batch.keys.iter().map(|_| None).collect();
        let mut fault = None;
        for row in rows {
            match FinishedRow::read(row) {
                Ok(row) => match read.get_mut(row.place) {
                    Some(place @ None) => *place = Some(row),
                    _ => fault = Some(Error::unexpected("a reservation that was not asked for")),
                },
                Err(error) => fault = Some(error),
            }
        }
        for ((name, group), row) in batch.keys.iter().zip(batch.requests).zip(read) {
            for request in group {
                let Some(ticket) = request.ticket else { continue };
                let answer = match (&fault, &row) {
                    (Some(error), _) => Err(error.clone()),
                    (None, None) => Ok(request.work.of_nothing()),
                    (None, Some(row)) => row.outcome(request.work),
                };
                self.answer(ticket, answer);
            }
            self.finish.release(name);
        }
    }
}
