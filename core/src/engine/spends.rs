//! The lane of what the plain charges do not serve: charges with options, charges of children, reserves.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Pending};
use super::resolve::{Asked, FoundBy, Unresolved};
use super::retry::{Repeatable, Repeats};
use super::rows::Unread;
use super::rows::spent::{Decision, Spend, SpentRow};
use super::{Answer, Credential, Engine, Statement, Work};
use crate::error::Error;
use crate::id::KeyId;
use crate::table::literal::{integer_array, text_array};
use crate::table::shape::TableShape;
use crate::table::template::{KeyColumn, StatementKind, Statements};

/// What the general statements need, which only our own migration makes.
pub(super) const NEEDED: &[&str] = &[
    "budget_used_cents",
    "budget_reserved_cents",
    "budget_reserved_microcents",
    "budget_used_microcents",
    "ancestor_ids",
    "+reservations",
    "+events",
];
/// So many statements at a time.
pub(super) const MAX_IN_FLIGHT: usize = 2;
/// Two that draw on the same ancestors would only wait for one another: one takes twice as many.
pub(super) const MAX_SHARING: usize = 1;
/// So many keys are remembered to have a parent, or to be refused.
const MAX_REMEMBERED: usize = 10_000;

/// The statements that a spend may go through. Each but the last decides the common case alone, in less time, and leaves
/// the rest to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// `ChargeTree`.
    Plain,
    /// `SpendFlat`.
    Flat,
    /// `SpendFresh`.
    Fresh,
    /// `Spend`.
    Last,
}

/// A spend that waits.
#[derive(Debug)]
pub(super) struct Spending {
    pub(super) spend: Box<Spend>,
    /// The id that its caller named.
    id: Option<Arc<str>>,
    /// Where it begins, also anew once a row that was locked is free.
    first: Stage,
    pub(super) stage: Stage,
    /// The sweep that it waited for last, if it did for any.
    pub(super) sweep: u64,
    /// That sweep ended nothing: what stands in its way is no reservation whose time is over.
    pub(super) is_swept: bool,
}

impl Spending {
    fn new(spend: Spend, id: Option<Arc<str>>, first: Stage) -> Self {
        Spending { spend: Box::new(spend), id, first, stage: first, sweep: 0, is_swept: false }
    }

    /// The answer for a key that does not exist.
    pub(super) fn of_no_key(&self) -> Answer {
        self.spend.of_no_key()
    }
}

impl Repeatable for Spending {
    fn repeats(&self) -> Repeats {
        match self.spend.idempotency_key {
            Some(_) => Repeats::UntilDeadline,
            None => Repeats::Never,
        }
    }
}

pub(super) fn remember(known: &mut HashSet<Arc<str>>, name: &Arc<str>) {
    if known.len() >= MAX_REMEMBERED && !known.contains(name) {
        known.clear();
    }
    known.insert(Arc::clone(name));
}

impl Engine {
    pub(super) fn route_spend(
        &mut self,
        caller: Pending<()>,
        credential: Credential,
        mut spend: Spend,
    ) -> Result<(), Error> {
        spend.check()?;
        spend.read_wildcards(self.options.wildcards);
        match (spend.without_statement(), self.text_of(credential)) {
            (Some(answer), _) => self.answer_with(&caller, answer),
            (None, None) => self.answer_with(&caller, spend.of_no_key()),
            (None, Some((column, name))) => {
                let id = spend.known_id().map(|id| Arc::from(id.to_string()));
                let spending = Spending::new(spend, id, Stage::Flat);
                match column {
                    KeyColumn::Id => {
                        let asked = Unresolved::by_id(Asked::Spend(Box::new(spending)), &name);
                        self.resolve(FoundBy::Id, name, caller.with_work(asked));
                    }
                    column if self.is_former(column, &name) => {
                        let id = spending.id.clone();
                        let asked = Unresolved::by_hash(Asked::Spend(Box::new(spending)), id);
                        self.resolve(FoundBy::FormerHash, name, caller.with_work(asked));
                    }
                    column => {
                        let id = spending.id.clone();
                        self.place_spend(caller, column, name, spending, id);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn place_spend(
        &mut self,
        caller: Pending<()>,
        column: KeyColumn,
        name: Arc<str>,
        spending: Spending,
        id: Option<Arc<str>>,
    ) {
        let first = self.first_stage(column, &name);
        let spending = Spending { id, first, stage: first, sweep: 0, is_swept: false, ..spending };
        self.lanes.spend[column as usize].push(name, caller.with_work(spending));
    }

    /// Where a spend begins that the statements for plain charges do not serve.
    pub(super) fn first_stage(&self, column: KeyColumn, name: &Arc<str>) -> Stage {
        if self.refused[column as usize].contains(name) {
            Stage::Last
        } else if self.children[column as usize].contains(name) {
            Stage::Fresh
        } else {
            Stage::Flat
        }
    }

    /// Hands plain charges over whose keys have a parent, or reservations in their way.
    pub(super) fn spend_in_full(
        &mut self,
        column: KeyColumn,
        name: &Arc<str>,
        charges: Vec<Pending<(i64, Option<Arc<str>>)>>,
        first: Stage,
    ) {
        // Those whose time ran out meanwhile are answered already.
        for charge in charges.into_iter().filter(|charge| charge.ticket.is_some()) {
            let (caller, (microcents, id)) = charge.split();
            let spending = Spending::new(Spend::plain(microcents), id, first);
            self.lanes.spend[column as usize].push(Arc::clone(name), caller.with_work(spending));
        }
    }

    /// A key's parent is for life: its charges need not be tried as plain ones again.
    pub(super) fn note_child(&mut self, column: KeyColumn, name: &Arc<str>) {
        remember(&mut self.children[column as usize], name);
    }

    /// Whether the statement that decides everything had to refuse something of a key.
    pub(super) fn note_refusal(&mut self, column: KeyColumn, name: &Arc<str>, was_refused: bool) {
        let refused = &mut self.refused[column as usize];
        match was_refused {
            true => remember(refused, name),
            false => _ = refused.remove(name),
        }
    }

    pub(super) fn poll_spends(
        &mut self,
        column: KeyColumn,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        if self.lanes.spend[column as usize].is_idle() {
            return None;
        }
        let mut batch = match self.take_waiting_batch(|lanes| &mut lanes.spend[column as usize]) {
            Some(batch) => batch,
            None => {
                let lane = &self.lanes.spend[column as usize];
                let most = if lane.is_sharing() { MAX_SHARING } else { MAX_IN_FLIGHT };
                let mut needed = self.options.with_alarms(NEEDED);
                needed.push(column.name());
                let mut batch = self.take_batch(
                    |lanes| &mut lanes.spend[column as usize],
                    now,
                    statements,
                    &needed,
                    most,
                )?;
                let children = &self.children[column as usize];
                let has_children = batch.keys.iter().any(|name| children.contains(name));
                self.lanes.spend[column as usize].note_sharing(&mut batch, has_children);
                batch
            }
        };
        let stage = batch.open_requests().map(|request| request.work.stage).max();
        if stage == Some(Stage::Plain) {
            return Some(self.charge_trees(column, batch, statements));
        }
        // Of several with one idempotency key the first goes ahead, and the others hear what became of it.
        for (name, group) in batch.keys.iter().zip(&mut batch.requests) {
            let mut seen = HashSet::new();
            let (first, later): (Vec<_>, Vec<_>) = group.drain(..).partition(|request| {
                request.work.spend.idempotency_key.as_ref().is_none_or(|key| seen.insert(key.clone()))
            });
            *group = first;
            self.lanes.spend[column as usize].put_back(name, later);
        }
        let operations = || {
            let groups = batch.keys.iter().zip(&batch.requests);
            groups.flat_map(|(name, group)| group.iter().map(move |request| (name, &request.work.spend)))
        };
        let mut params = vec![
            Some(text_array(operations().map(|(name, _)| name))),
            Some(text_array(operations().map(|(_, spend)| spend.code()))),
            Some(integer_array(operations().map(|(_, spend)| spend.amount()))),
            Some(text_array(operations().map(|(_, spend)| spend.details()))),
        ];
        let kind = match stage {
            Some(Stage::Flat) if batch.waits_for.is_none() => StatementKind::SpendFlat,
            Some(Stage::Fresh) if batch.waits_for.is_none() => StatementKind::SpendFresh,
            _ => {
                params.push(batch.waits_for.as_deref().map(str::to_owned));
                StatementKind::Spend
            }
        };
        let sql = statements.sql_by(column, kind);
        Some(self.send(kind, sql, params, Work::Spend(column, kind, batch, Arc::clone(statements))))
    }

    pub(super) fn receive_spends(
        &mut self,
        now: Duration,
        column: KeyColumn,
        kind: StatementKind,
        batch: Batch<Spending>,
        rows: &[String],
        shape: &TableShape,
    ) {
        let count = batch.requests.iter().map(Vec::len).sum();
        let mut read: Vec<Option<SpentRow>> = (0..count).map(|_| None).collect();
        let mut unread = Unread::default();
        for row in rows {
            match SpentRow::read(row, shape) {
                Ok(row) => match read.get_mut(row.place) {
                    Some(place @ None) => *place = Some(row),
                    _ => unread.note_unknown(Error::unexpected("an operation that was not sent")),
                },
                Err(error) => unread.note(row, error, |place| matches!(read.get(place), Some(None))),
            }
        }
        let mut read = read.into_iter().enumerate();
        for (name, group) in batch.keys.iter().zip(batch.requests) {
            let mut again = Vec::new();
            let mut swept: Option<(KeyId, u64)> = None;
            let mut busy_row = None;
            let mut was_refused = false;
            let mut has_parent = false;
            for mut request in group {
                let Some((place, row)) = read.next() else { continue };
                if request.ticket.is_none() {
                    continue;
                }
                was_refused |= !row.as_ref().is_some_and(SpentRow::is_done);
                has_parent |= row.as_ref().is_some_and(|row| row.has_parent);
                let spend = &request.work.spend;
                let decision = match (row, unread.error_at(place)) {
                    (Some(row), _) => spend.decided(row),
                    (None, Some(error)) => Err(error.clone()),
                    (None, None) if kind != StatementKind::Spend => {
                        request.work.stage = Stage::Last;
                        again.push(request);
                        continue;
                    }
                    (None, None) => Ok(Decision::NoKey),
                };
                match decision {
                    Ok(Decision::Final(answer)) => {
                        if let (true, Answer::Reserved(Ok(held))) = (has_parent, &answer) {
                            remember(&mut self.held_by_children, &Arc::from(held.id.as_str()));
                        }
                        let limit = match &answer {
                            Answer::Reserved(Err(refusal)) => refusal.limit.clone(),
                            _ => None,
                        };
                        self.answer_spend(request, answer, limit.as_ref());
                    }
                    Ok(Decision::NoKey) => {
                        let (caller, spending) = request.split();
                        let id = spending.id.clone();
                        let asked = Unresolved::by_hash(Asked::Spend(Box::new(spending)), id);
                        self.find_otherwise(column, name, caller.with_work(asked), shape);
                    }
                    Ok(Decision::Again) => again.push(request),
                    Ok(Decision::Busy(row)) => {
                        busy_row = Some(row);
                        request.work.stage = request.work.first;
                        again.push(request);
                    }
                    Ok(Decision::WithoutScope) => {
                        request.work.spend.see_scope();
                        again.push(request);
                    }
                    Ok(Decision::AfterSweep(Some(limit))) if !request.work.is_swept => {
                        // One at a time: the others of this key are decided anew after it.
                        let of = limit.key_id;
                        let (swept, sweep) =
                            swept.get_or_insert_with(|| (of.clone(), self.sweep_for(&of, column, name)));
                        if *swept == of {
                            request.work.sweep = *sweep;
                        }
                        again.push(request);
                    }
                    Ok(Decision::AfterSweep(limit) | Decision::Exceeded(limit)) => {
                        let answer = spend.does_not_fit(limit.clone());
                        self.answer_spend(request, answer, limit.as_ref());
                    }
                    Err(error) => self.answer_error(&request, error),
                }
            }
            if has_parent {
                self.note_child(column, name);
            }
            if let Some(row) = busy_row {
                self.put_back_busy(|l| &mut l.spend[column as usize], name, again, &row, now);
                continue;
            }
            if kind == StatementKind::Spend {
                self.note_refusal(column, name, was_refused);
            }
            let lane = &mut self.lanes.spend[column as usize];
            lane.put_back(name, again);
            if swept.is_none() {
                lane.release(name);
            }
        }
    }
}
