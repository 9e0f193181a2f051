//! Plain charges of keys with parents, in the common case: they share the lane of spends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Pending};
use super::rows::Unread;
use super::rows::charged::ChargedRow;
use super::spends::{Spending, Stage};
use super::{Answer, Engine, Statement, Work};
use crate::budget::charge::ChargeOutcome;
use crate::error::Error;
use crate::table::literal::{integer_array, text_array};
use crate::table::template::{KeyColumn, StatementKind, Statements};

impl Engine {
    /// A statement for plain charges alone: it is much cheaper.
    pub(super) fn charge_trees(
        &mut self,
        column: KeyColumn,
        mut batch: Batch<Spending>,
        statements: &Arc<Statements>,
    ) -> Statement {
        for group in &mut batch.requests {
            group.sort_by_key(|request| request.work.spend.amount());
        }
        let costs =
            |group: &Vec<Pending<Spending>>| integer_array(group.iter().map(|r| r.work.spend.amount()));
        let mut params =
            vec![Some(text_array(&batch.keys)), Some(text_array(batch.requests.iter().map(costs)))];
        let is_contended = self.lanes.spend[column as usize].is_contended();
        let kind = if batch.waits_for.is_some() || is_contended {
            params.push(batch.waits_for.as_deref().map(str::to_owned));
            StatementKind::ChargeTreeContended
        } else {
            StatementKind::ChargeTree
        };
        let sql = statements.sql_by(column, kind);
        self.send(kind, sql, params, Work::Spend(column, kind, batch, Arc::clone(statements)))
    }

    pub(super) fn receive_tree_charges(
        &mut self,
        now: Duration,
        column: KeyColumn,
        batch: Batch<Spending>,
        rows: &[String],
    ) {
        let mut charged: Vec<Option<Vec<ChargeOutcome>>> = batch.keys.iter().map(|_| None).collect();
        let mut busy = HashMap::new();
        let mut unread = Unread::default();
        for row in rows {
            let amounts = |place: usize| {
                let group = batch.requests.get(place).into_iter().flatten();
                group.map(|request| request.work.spend.amount())
            };
            let sent = |place| amounts(place).fold(0, i64::saturating_add);
            let read = ChargedRow::read(row, sent).and_then(|row| match row {
                ChargedRow::Charged(key) if key.place < batch.keys.len() => {
                    charged[key.place] = Some(key.replay(amounts(key.place))?);
                    Ok(())
                }
                ChargedRow::Busy { place, id } if place < batch.keys.len() => {
                    busy.insert(place, id);
                    Ok(())
                }
                ChargedRow::Charged(_) | ChargedRow::Busy { .. } => {
                    Err(Error::unexpected("a key that was not charged"))
                }
                ChargedRow::HasParent { .. } => Err(Error::unexpected("a key without its charges")),
            });
            match read {
                Ok(()) => {}
                Err(error) => unread.note(row, error, |place| matches!(charged.get(place), Some(None))),
            }
        }
        let groups = batch.keys.iter().zip(batch.requests).zip(charged);
        for (place, ((name, group), outcomes)) in groups.enumerate() {
            if let Some(row) = busy.get(&place) {
                let open = group.into_iter().filter(|request| request.ticket.is_some()).collect();
                self.put_back_busy(|l| &mut l.spend[column as usize], name, open, row, now);
                continue;
            }
            let mut undecided = Vec::new();
            let mut outcomes = outcomes.map(Vec::into_iter);
            for mut request in group {
                let outcome = outcomes.as_mut().and_then(Iterator::next);
                match (outcome, unread.error_at(place)) {
                    (Some(outcome), _) => self.answer_with(&request, Answer::Charged(outcome)),
                    (None, Some(error)) => self.answer_error(&request, error.clone()),
                    (None, None) if request.ticket.is_some() => {
                        request.work.stage = Stage::Last;
                        undecided.push(request);
                    }
                    (None, None) => {}
                }
            }
            let lane = &mut self.lanes.spend[column as usize];
            lane.put_back(name, undecided);
            lane.release(name);
        }
    }
}
