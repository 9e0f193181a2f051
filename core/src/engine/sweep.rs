//! Sweeps: reservations whose time is over give back what they hold.

use std::borrow::Cow;
use std::sync::Arc;

use super::Engine;
use super::admin::{Admin, Plan};
use super::batch::Pending;
use super::rows::ended::EndedRow;
use super::rows::new_row::LINK;
use super::rows::only_field;
use super::spends::NEEDED;
use crate::error::Error;
use crate::id::KeyId;
use crate::table::literal::{integer_array, text_array};
use crate::table::template::{KeyColumn, StatementKind, Statements};

/// A sweep: a statement lists some reservations, the next one ends them, until there are no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Only what is held of this key's budget. Such a sweep is over as soon as it has ended something.
    pub(super) of: Option<KeyId>,
    /// What is to be ended, in parts, the next one last; `None` before the list is known.
    parts: Option<Vec<Vec<String>>>,
    /// Whether there may be more than the list has.
    is_full: bool,
    pub(super) ended: u64,
    /// Those whose keys somebody else has locked, or whose end the database refuses, are left for the next sweep.
    pub(super) left: u64,
}

/// Spends that wait for a sweep of the engine's own.
#[derive(Debug)]
pub(super) struct SweepWaiters {
    of: KeyId,
    /// Names the sweep.
    sweep: u64,
    keys: Vec<(KeyColumn, Arc<str>)>,
}

impl Sweep {
    /// What is next, once a statement has answered, and whether that is nothing.
    pub(super) fn after(mut self, rows: &[String], max_batch: usize) -> Result<(Self, bool), Error> {
        match &mut self.parts {
            None => {
                let ids =
                    rows.iter().map(|row| only_field(row).map(Cow::into_owned)).collect::<Option<Vec<_>>>();
                let ids = ids.ok_or_else(|| Error::unexpected("a reservation's id"))?;
                let is_over = ids.is_empty();
                self.is_full = ids.len() >= max_batch;
                self.parts = Some(vec![ids]);
                Ok((self, is_over))
            }
            Some(parts) => {
                parts.pop();
                let rows = rows.iter().map(|row| EndedRow::read(row)).collect::<Result<Vec<_>, _>>()?;
                self.ended += rows.iter().map(|row| u64::from(row.has_changed())).sum::<u64>();
                self.left += rows.iter().map(|row| u64::from(row.busy_id().is_some())).sum::<u64>();
                Ok(self.next_part())
            }
        }
    }

    /// The same if the database refused a part for one of its reservations: that one is left.
    pub(super) fn after_refusal(mut self) -> Option<(Self, bool)> {
        let parts = self.parts.as_mut()?;
        let mut part = parts.pop()?;
        if part.len() > 1 {
            let half = part.split_off(part.len() / 2);
            parts.extend([half, part]);
        } else {
            self.left += 1;
        }
        Some(self.next_part())
    }

    fn next_part(mut self) -> (Self, bool) {
        if self.parts.as_ref().is_some_and(|parts| !parts.is_empty()) {
            return (self, false);
        }
        self.parts = None;
        let has_made_room = self.of.is_some() && self.ended > 0;
        let is_over = has_made_room || !self.is_full;
        (self, is_over)
    }

    pub(super) fn plan(&self, statements: &Statements, max_batch: usize) -> Result<Plan, Error> {
        let shape = &statements.shape;
        let send = |kind, params| Ok(Plan::Send(kind, statements.sql(kind), params));
        shape.require(NEEDED)?;
        if let Some(ids) = self.part() {
            let actions = text_array(ids.iter().map(|_| "expire"));
            let amounts = integer_array(ids.iter().map(|_| 0));
            return send(
                StatementKind::Settle,
                vec![Some(text_array(ids)), Some(actions), Some(amounts), None],
            );
        }
        let bounds = [max_batch.to_string(), self.left.to_string()];
        match &self.of {
            None => send(StatementKind::ExpiredReservations, bounds.map(Some).to_vec()),
            Some(id) => {
                shape.require(LINK)?;
                let params = bounds.into_iter().chain([id.to_string()]);
                send(StatementKind::ExpiredOfKey, params.map(Some).collect())
            }
        }
    }

    /// What is to be ended next; `None` if a list is wanted first.
    fn part(&self) -> Option<&[String]> {
        self.parts.as_ref()?.last().map(Vec::as_slice)
    }
}

impl Engine {
    /// Spends of a key wait until what is held of the budget of `of` was swept. Names the sweep.
    pub(super) fn sweep_for(&mut self, of: &KeyId, column: KeyColumn, name: &Arc<str>) -> u64 {
        let waiter = (column, Arc::clone(name));
        if let Some(waiters) = self.sweeps.iter_mut().find(|waiters| waiters.of == *of) {
            waiters.keys.push(waiter);
            return waiters.sweep;
        }
        let sweep = self.next_id();
        self.sweeps.push(SweepWaiters { of: of.clone(), sweep, keys: vec![waiter] });
        let work = Admin::Sweep(Sweep { of: Some(of.clone()), ..Sweep::default() });
        self.lanes.admin.waiting.push_back(Pending::new(None, self.stalls.now, None, work));
        sweep
    }

    /// A sweep of the engine's own is over: who waited for it tries again, for the last time if it ended nothing.
    pub(super) fn end_sweep(&mut self, of: &KeyId, has_ended: bool) {
        let Some(at) = self.sweeps.iter().position(|waiters| waiters.of == *of) else { return };
        let SweepWaiters { sweep, keys, .. } = self.sweeps.swap_remove(at);
        for (column, name) in keys {
            let lane = &mut self.lanes.spend[column as usize];
            if !has_ended {
                lane.waiting_mut(&name)
                    .filter(|r| r.work.sweep == sweep)
                    .for_each(|r| r.work.is_swept = true);
            }
            lane.release(&name);
        }
    }

    pub(super) fn end_all_sweeps(&mut self) {
        while let Some(of) = self.sweeps.first().map(|waiters| waiters.of.clone()) {
            self.end_sweep(&of, false);
        }
    }
}
