//! The lane of plain charges.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Pending};
use super::resolve::{Asked, FoundBy, Unresolved};
use super::retry::{Repeatable, Repeats};
use super::rows::Unread;
use super::rows::charged::{ChargedKey, ChargedRow};
use super::spends::Stage;
use super::{Answer, Cost, Credential, Engine, Statement, Work};
use crate::budget::charge::{self, ChargeRefusal, Charged};
use crate::error::Error;
use crate::table::literal::{integer_array, text_array};
use crate::table::shape::TableShape;
use crate::table::template::{KeyColumn, StatementKind, Statements};

/// A plain charge that waits.
#[derive(Debug)]
pub(super) struct Charge {
    microcents: i64,
    /// The plain statement for the common case did not settle it.
    needs_batch: bool,
    /// The id that its caller named.
    id: Option<Arc<str>>,
}

impl Repeatable for Charge {
    fn repeats(&self) -> Repeats {
        Repeats::Never
    }
}

impl Engine {
    pub(super) fn route_charge(
        &mut self,
        caller: Pending<()>,
        credential: Credential,
        charge: charge::Charge,
    ) -> Result<(), Error> {
        if !charge.is_plain() {
            return self.route_spend(caller, credential, charge.try_into()?);
        }
        match (charge.cost, self.text_of(credential)) {
            (Cost::Invalid, _) => {
                self.answer_with(&caller, Answer::Charged(Err(ChargeRefusal::InvalidCost)));
            }
            (Cost::Free, _) => self.answer_with(&caller, Answer::Charged(Ok(Charged::FREE))),
            (Cost::Microcents(_), None) => {
                self.answer_with(&caller, Answer::Charged(Err(ChargeRefusal::InvalidKey)));
            }
            (Cost::Microcents(microcents), Some((KeyColumn::Id, id))) => {
                let request = caller.with_work(Unresolved::by_id(Asked::Charge(microcents), &id));
                self.resolve(FoundBy::Id, id, request);
            }
            (Cost::Microcents(microcents), Some((column, name))) if self.is_former(column, &name) => {
                let request = caller.with_work(Unresolved::by_hash(Asked::Charge(microcents), None));
                self.resolve(FoundBy::FormerHash, name, request);
            }
            (Cost::Microcents(microcents), Some((column, name))) => {
                self.place_charge(caller, column, name, microcents, None);
            }
        }
        Ok(())
    }

    pub(super) fn place_charge(
        &mut self,
        caller: Pending<()>,
        column: KeyColumn,
        name: Arc<str>,
        microcents: i64,
        id: Option<Arc<str>>,
    ) {
        if self.options.ledger || self.children[column as usize].contains(&name) {
            let first = if self.options.ledger { self.first_stage(column, &name) } else { Stage::Plain };
            self.spend_in_full(column, &name, vec![caller.with_work((microcents, id))], first);
        } else {
            let needs_batch = self.refused[column as usize].contains(&name);
            let charge = caller.with_work(Charge { microcents, needs_batch, id });
            self.lanes.charge[column as usize].push(name, charge);
        }
    }

    pub(super) fn poll_charges(
        &mut self,
        column: KeyColumn,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        if self.lanes.charge[column as usize].is_idle() {
            return None;
        }
        let needed = self.options.with_alarms(&[column.name(), "budget_used_cents"]);
        let mut batch = match self.take_waiting_batch(|lanes| &mut lanes.charge[column as usize]) {
            Some(batch) => batch,
            None => self.take_batch(
                |lanes| &mut lanes.charge[column as usize],
                now,
                statements,
                &needed,
                usize::MAX,
            )?,
        };
        for group in &mut batch.requests {
            group.sort_by_key(|request| request.work.microcents);
        }
        let needs_batch = batch.open_requests().any(|request| request.work.needs_batch);
        let amounts = |group: &Vec<Pending<Charge>>| integer_array(group.iter().map(|r| r.work.microcents));
        // The statement for one key waits for its row unasked: only where that holds no place, or it can leave it.
        let may_wait = batch.waits_for.is_some() || self.stalls.is_fast();
        let (kind, params) = match batch.requests.as_slice() {
            [group] if !needs_batch && may_wait => {
                let params = vec![Some(batch.keys[0].to_string()), Some(total(group).to_string())];
                (StatementKind::ChargeOne, params)
            }
            groups if !needs_batch && batch.waits_for.is_none() => {
                let totals = integer_array(groups.iter().map(|group| total(group)));
                let kind = match self.lanes.charge[column as usize].is_contended() {
                    true => StatementKind::ChargeContended,
                    false => StatementKind::ChargeMany,
                };
                (kind, vec![Some(text_array(&batch.keys)), Some(totals)])
            }
            groups => {
                let totals = integer_array(groups.iter().map(|group| total(group)));
                let costs = text_array(groups.iter().map(amounts));
                let row = batch.waits_for.as_deref().map(str::to_owned);
                let params = vec![Some(text_array(&batch.keys)), Some(totals), Some(costs), row];
                (StatementKind::ChargeBatch, params)
            }
        };
        let sql = statements.sql_by(column, kind);
        Some(self.send(kind, sql, params, Work::Charge(column, kind, batch, Arc::clone(statements))))
    }

    pub(super) fn receive_charges(
        &mut self,
        now: Duration,
        column: KeyColumn,
        kind: StatementKind,
        batch: Batch<Charge>,
        rows: &[String],
        shape: &TableShape,
    ) {
        let can_sweep = shape.has("+reservations");
        let mut groups: Vec<Option<Vec<Pending<Charge>>>> = batch.requests.into_iter().map(Some).collect();
        let mut unread = Unread::default();
        let mut busy = HashMap::new();
        for row in rows {
            let sent =
                |place: usize| groups.get(place).and_then(Option::as_ref).map_or(0, |group| total(group));
            let read = ChargedRow::read(row, sent).and_then(|row| {
                let (ChargedRow::HasParent { place }
                | ChargedRow::Busy { place, .. }
                | ChargedRow::Charged(ChargedKey { place, .. })) = row;
                let group = groups.get_mut(place).and_then(Option::take);
                let group = group.ok_or_else(|| Error::unexpected("a key that was not charged"))?;
                Ok((place, row, group))
            });
            let (place, row, group) = match read {
                Ok(read) => read,
                Err(error) => {
                    unread.note(row, error, |place| groups.get(place).is_some_and(Option::is_some));
                    continue;
                }
            };
            let name = &batch.keys[place];
            let key = match row {
                ChargedRow::Charged(key) => key,
                ChargedRow::HasParent { .. } => {
                    self.note_child(column, name);
                    self.spend_in_full(column, name, group.into_iter().map(plain).collect(), Stage::Plain);
                    continue;
                }
                ChargedRow::Busy { id, .. } => {
                    busy.insert(place, id);
                    groups[place] = Some(group);
                    continue;
                }
            };
            let outcomes = match key.replay(group.iter().map(|request| request.work.microcents)) {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    group.iter().for_each(|request| self.answer_error(request, error.clone()));
                    continue;
                }
            };
            if kind == StatementKind::ChargeBatch {
                self.note_refusal(column, name, outcomes.iter().any(Result::is_err));
            }
            let mut blocked = Vec::new();
            for (request, outcome) in group.into_iter().zip(outcomes) {
                // Of the reservations in its way some may be over.
                if outcome == Err(ChargeRefusal::BudgetExceeded) && key.has_reservations() && can_sweep {
                    blocked.push(plain(request));
                } else {
                    self.answer_with(&request, Answer::Charged(outcome));
                }
            }
            self.spend_in_full(column, name, blocked, Stage::Last);
        }
        for (place, (name, group)) in batch.keys.iter().zip(groups).enumerate() {
            let open = group.into_iter().flatten().filter(|request| request.ticket.is_some());
            if let Some(row) = busy.get(&place) {
                self.put_back_busy(|l| &mut l.charge[column as usize], name, open.collect(), row, now);
                continue;
            }
            let mut undecided = Vec::new();
            for mut request in open {
                match unread.error_at(place) {
                    Some(error) => self.answer_error(&request, error.clone()),
                    None if kind != StatementKind::ChargeBatch => {
                        request.work.needs_batch = true;
                        undecided.push(request);
                    }
                    None => {
                        let (caller, Charge { microcents, id, .. }) = request.split();
                        let asked = Unresolved::by_hash(Asked::Charge(microcents), id);
                        self.find_otherwise(column, name, caller.with_work(asked), shape);
                    }
                }
            }
            let lane = &mut self.lanes.charge[column as usize];
            lane.put_back(name, undecided);
            lane.release(name);
        }
    }
}

fn total(group: &[Pending<Charge>]) -> i64 {
    group.iter().map(|request| request.work.microcents).fold(0, i64::saturating_add)
}

/// What it costs, and the id that its caller named.
fn plain(charge: Pending<Charge>) -> Pending<(i64, Option<Arc<str>>)> {
    let (caller, Charge { microcents, id, .. }) = charge.split();
    caller.with_work((microcents, id))
}
