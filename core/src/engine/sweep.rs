//! Sweeps: reservations whose time is over give back what they hold.

use std::borrow::Cow;
use std::sync::Arc;

use super::Engine;
use super::admin::Admin;
use super::batch::Pending;
use super::rows::ended::EndedRow;
use super::rows::only_field;
use crate::error::Error;
use crate::table::template::KeyColumn;

/// A sweep: first it lists reservations, then it ends them, until there are no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    /// What is to be ended next; `None` before the list is known.
    pub(super) listed: Option<Vec<String>>,
    pub(super) ended: u64,
}

impl Sweep {
    /// What is next, once a statement has answered, and whether that is nothing.
    pub(super) fn after(mut self, rows: &[String], max_batch: usize) -> Result<(Self, bool), Error> {
        match self.listed.take() {
            None => {
                let ids =
                    rows.iter().map(|row| only_field(row).map(Cow::into_owned)).collect::<Option<Vec<_>>>();
                let ids = ids.ok_or_else(|| Error::unexpected("a reservation's id"))?;
                let is_over = ids.is_empty();
                self.listed = Some(ids);
                Ok((self, is_over))
            }
            Some(ids) => {
                let rows = rows.iter().map(|row| EndedRow::read(row)).collect::<Result<Vec<_>, _>>()?;
                let ended = rows.iter().map(|row| u64::from(row.has_changed())).sum::<u64>();
                self.ended += ended;
                // Those whose keys somebody else has locked are left for the next sweep.
                Ok((self, ids.len() < max_batch || ended == 0))
            }
        }
    }
}

impl Engine {
    /// Spends of a key wait until a sweep of the engine's own is over.
    pub(super) fn sweep_for(&mut self, column: KeyColumn, name: &Arc<str>) {
        self.waiting_for_sweep.push((column, Arc::clone(name)));
        if !self.is_sweeping {
            self.is_sweeping = true;
            let sweep = Admin::Sweep(Sweep::default());
            self.lanes.admin.waiting.push_back(Pending::new(None, None, sweep));
        }
    }

    /// It is over, one way or the other: who waited for it tries again.
    pub(super) fn end_sweep(&mut self) {
        self.is_sweeping = false;
        for (column, name) in std::mem::take(&mut self.waiting_for_sweep) {
            self.lanes.spend[column as usize].release(&name);
        }
    }
}
