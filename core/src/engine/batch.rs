//! The two batched lanes: look-ups and charges.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::lane::Pending;
use super::{Column, Engine, Statements, Work};
use crate::charge::ChargedKey;
use crate::error::Error;
use crate::literal::{integer_array, text_array};
use crate::request::{ChargeRefusal, Outcome, Usage};
use crate::shape::TableShape;
use crate::statement::{Statement, StatementKind};
use crate::verdict::{Denial, Lookup};

/// A charge that waits.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) lookup: String,
    pub(super) microcents: i64,
    /// The plain statement for one key did not settle it.
    pub(super) needs_batch: bool,
}

/// A batch: the texts that are looked up, each once, and the requests for each.
#[derive(Debug)]
pub(super) struct Lookups<R> {
    texts: Vec<String>,
    requests: Vec<R>,
}

impl<T> Lookups<Vec<Pending<T>>> {
    fn group(requests: Vec<Pending<T>>, lookup: impl Fn(&T) -> &str) -> Self {
        let mut places: HashMap<String, usize> = HashMap::with_capacity(requests.len());
        let mut groups: Vec<Vec<Pending<T>>> = Vec::new();
        for request in requests {
            let text = lookup(&request.work);
            let place = match places.get(text) {
                Some(place) => *place,
                None => {
                    groups.push(Vec::new());
                    places.insert(text.to_owned(), groups.len() - 1);
                    groups.len() - 1
                }
            };
            groups[place].push(request);
        }
        let mut texts = vec![String::new(); groups.len()];
        for (text, place) in places {
            texts[place] = text;
        }
        Lookups { texts, requests: groups }
    }

    pub(super) fn into_requests(self) -> Vec<Pending<T>> {
        self.requests.into_iter().flatten().collect()
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &Pending<T>> {
        self.requests.iter().flatten()
    }

    pub(super) fn requests_mut(&mut self) -> impl Iterator<Item = &mut Pending<T>> {
        self.requests.iter_mut().flatten()
    }
}

impl Engine {
    pub(super) fn poll_validate(
        &mut self,
        column: Column,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        let lane = &mut self.validate[column as usize];
        if !lane.is_ready(now, self.options.max_in_flight) {
            return None;
        }
        let mut requests = lane.take(self.options.max_batch);
        self.drop_cancelled(&mut requests);
        if let Err(error) = statements.shape.require(&[column.name()]) {
            if let Some(requests) = self.after_missing_column(requests, error) {
                self.validate[column as usize].put_back(requests);
            }
            return None;
        }
        if requests.is_empty() {
            return None;
        }
        let batch = Lookups::group(requests, String::as_str);
        let params = vec![Some(text_array(&batch.texts)), Some(self.options.touch_interval_seconds.to_string())];
        self.validate[column as usize].in_flight += 1;
        let sql = Arc::clone(&statements.batch(column).validate);
        Some(self.send(StatementKind::Validate, sql, params, Work::Validate(column, batch, Arc::clone(statements))))
    }

    pub(super) fn poll_charge(
        &mut self,
        column: Column,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        let lane = &mut self.charge[column as usize];
        if !lane.is_ready(now, self.options.max_in_flight) {
            return None;
        }
        let mut requests = lane.take(self.options.max_batch);
        self.drop_cancelled(&mut requests);
        if let Err(error) = statements.shape.require(&[column.name(), "budget_used_cents"]) {
            if let Some(requests) = self.after_missing_column(requests, error) {
                self.charge[column as usize].put_back(requests);
            }
            return None;
        }
        let mut batch = Lookups::group(requests, |charge: &Charge| &charge.lookup);
        let (kind, sql, params) = match batch.requests.as_mut_slice() {
            [] => return None,
            // One charge alone: the general statement costs half as much again to plan.
            [group] if group.len() == 1 && !group[0].work.needs_batch => {
                let params = vec![Some(batch.texts[0].clone()), Some(group[0].work.microcents.to_string())];
                (StatementKind::ChargeOne, &statements.batch(column).charge_one, params)
            }
            groups => {
                let mut totals = Vec::with_capacity(groups.len());
                let mut costs = Vec::with_capacity(groups.len());
                for group in groups {
                    group.sort_by_key(|request| request.work.microcents);
                    let amounts = || group.iter().map(|request| request.work.microcents);
                    totals.push(amounts().fold(0, i64::saturating_add));
                    costs.push(integer_array(amounts()));
                }
                let params = vec![Some(text_array(&batch.texts)), Some(integer_array(totals)), Some(text_array(costs))];
                (StatementKind::ChargeBatch, &statements.batch(column).charge_batch, params)
            }
        };
        self.charge[column as usize].in_flight += 1;
        Some(self.send(kind, Arc::clone(sql), params, Work::Charge(column, batch)))
    }

    pub(super) fn receive_lookups(
        &mut self,
        now: Duration,
        batch: Lookups<Vec<Pending<String>>>,
        rows: &[String],
        shape: &TableShape,
    ) {
        let mut groups: Vec<Option<Vec<Pending<String>>>> = batch.requests.into_iter().map(Some).collect();
        let mut fault = None;
        for row in rows {
            let read = Lookup::read(row, shape).and_then(|lookup| {
                let group = groups.get_mut(lookup.place).and_then(Option::take);
                group.map(|group| (lookup, group)).ok_or_else(|| Error::unexpected("a key that was not asked for"))
            });
            match read {
                Ok((lookup, mut group)) => {
                    if lookup.stale && shape.has("last_used_at") {
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
        for request in groups.into_iter().flatten().flatten() {
            if let Some(ticket) = request.ticket {
                let answer = match &fault {
                    None => Ok(Outcome::Validated(Err(Denial::invalid()))),
                    Some(error) => Err(error.clone()),
                };
                self.answer(ticket, answer);
            }
        }
    }

    pub(super) fn receive_charges(&mut self, column: Column, batch: Lookups<Vec<Pending<Charge>>>, rows: &[String]) {
        let single = match batch.requests.as_slice() {
            [group] => group.len() == 1 && !group[0].work.needs_batch,
            _ => false,
        };
        let mut groups: Vec<Option<Vec<Pending<Charge>>>> = batch.requests.into_iter().map(Some).collect();
        let mut fault = None;
        for row in rows {
            let read = ChargedKey::read(row).and_then(|key| {
                let group = groups.get_mut(key.place).and_then(Option::take);
                let group = group.ok_or_else(|| Error::unexpected("a key that was not charged"))?;
                let usages = key.replay(group.iter().map(|request| request.work.microcents));
                Ok((usages, group))
            });
            match read {
                Ok((Ok(usages), group)) => {
                    for (request, usage) in group.into_iter().zip(usages) {
                        if let Some(ticket) = request.ticket {
                            self.answer_usage(ticket, usage);
                        }
                    }
                }
                Ok((Err(error), group)) => {
                    for ticket in group.into_iter().filter_map(|request| request.ticket) {
                        self.answer(ticket, Err(error.clone()));
                    }
                }
                Err(error) => fault = Some(error),
            }
        }
        let mut undecided = Vec::new();
        for mut request in groups.into_iter().flatten().flatten() {
            let Some(ticket) = request.ticket else { continue };
            match &fault {
                Some(error) => self.answer(ticket, Err(error.clone())),
                None if single => {
                    request.work.needs_batch = true;
                    undecided.push(request);
                }
                None => self.answer_usage(ticket, Usage::Refused(ChargeRefusal::InvalidKey)),
            }
        }
        self.charge[column as usize].put_back(undecided);
    }

    /// The table lacked a column when the catalogue was asked. A migration may have run since: requests that have not
    /// yet caused a second look come back, others are answered.
    pub(super) fn after_missing_column<T>(
        &mut self,
        requests: Vec<Pending<T>>,
        error: Error,
    ) -> Option<Vec<Pending<T>>> {
        let (mut again, answered): (Vec<_>, Vec<_>) = requests.into_iter().partition(|request| request.attempts == 0);
        for ticket in answered.into_iter().filter_map(|request| request.ticket) {
            self.answer(ticket, Err(error.clone()));
        }
        if again.is_empty() {
            return None;
        }
        for request in &mut again {
            request.attempts = 1;
        }
        self.forget_table();
        Some(again)
    }
}
