//! What the engine knows of the table: its columns, and the statements built for them.

use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Fault, Options, Statement, Work};
use crate::error::Error;
use crate::table::shape::{COMPANIONS, TableShape};
use crate::table::template::{CATALOGUE, StatementKind, Statements};

/// While the table lacks columns, the catalogue is asked again this often, beside the calls: somebody may migrate it.
const REFRESH: Duration = Duration::from_secs(10);

/// What is known of the table.
#[derive(Debug)]
pub(super) enum Table {
    Unknown,
    /// The catalogue was asked; `outdated` if the table may have changed since.
    Asked {
        outdated: bool,
    },
    Known {
        statements: Arc<Statements>,
        /// When the catalogue is to be asked again.
        refresh_at: Option<Duration>,
    },
}

impl Table {
    fn known(statements: Arc<Statements>, now: Duration) -> Self {
        let refresh_at = (!statements.shape.is_complete()).then(|| now.saturating_add(REFRESH));
        Table::Known { statements, refresh_at }
    }
}

impl Engine {
    /// Every statement for the table as the engine knows it, for people who want to look at them: what it does, the
    /// column that it finds keys by where there are several, its text. Empty before the first call.
    pub fn statements(&self) -> Vec<(StatementKind, Option<&'static str>, Arc<str>)> {
        match &self.table {
            Table::Known { statements, .. } => statements.list(),
            Table::Unknown | Table::Asked { .. } => Vec::new(),
        }
    }

    pub(super) fn ask_catalogue(&mut self, now: Duration) -> Statement {
        self.table = Table::Asked { outdated: false };
        self.send_catalogue(Work::Catalogue(now.saturating_add(self.options.timeout)))
    }

    /// Asks again if it is time to; calls go on with what is known.
    pub(super) fn poll_refresh(&mut self, now: Duration) -> Option<Statement> {
        let Table::Known { statements, refresh_at } = &mut self.table else { return None };
        refresh_at.take_if(|at| *at <= now)?;
        let work = Work::Refresh(Arc::clone(statements));
        Some(self.send_catalogue(work))
    }

    fn send_catalogue(&mut self, work: Work) -> Statement {
        let table = &self.options.table;
        let companions = COMPANIONS.map(|(_, name)| Some(table.companion(name)));
        let mut params = vec![Some(table.quoted())];
        params.extend(companions);
        self.send(StatementKind::Catalogue, Arc::from(CATALOGUE), params, work)
    }

    pub(super) fn receive_catalogue(&mut self, now: Duration, result: Result<&[String], Fault>) {
        let outdated = matches!(self.table, Table::Asked { outdated: true });
        self.table = Table::Unknown;
        if outdated {
            return;
        }
        let shape = match result {
            Ok(rows) => self.read_shape(rows),
            // Nothing was sent for those who wait: asking again does nothing twice.
            Err(fault) if self.catalogue_attempts + 1 < self.options.max_attempts && fault.is_transient() => {
                self.catalogue_attempts += 1;
                self.meter.retried(self.catalogue_attempts, &fault);
                self.catalogue_at = now + self.retry_delay(self.catalogue_attempts);
                return;
            }
            Err(fault) => Err(fault.error()),
        };
        self.catalogue_attempts = 0;
        match shape {
            Ok(shape) => {
                self.was_migrated |= shape.is_migrated();
                self.table = Table::known(Arc::new(self.render(shape)), now);
            }
            Err(error) => {
                self.touches.fail(now);
                self.fail_all_waiting(&error.before_sending());
            }
        }
    }

    pub(super) fn receive_refresh(
        &mut self,
        now: Duration,
        asked_for: &Arc<Statements>,
        result: Result<&[String], Fault>,
    ) {
        let Table::Known { statements, .. } = &self.table else { return };
        // A later question may have been answered first.
        if !Arc::ptr_eq(statements, asked_for) {
            return;
        }
        let statements = match result.ok().map(|rows| self.read_shape(rows)) {
            Some(Ok(shape)) if shape != statements.shape => {
                self.was_migrated |= shape.is_migrated();
                Arc::new(self.render(shape))
            }
            // Unchanged or unavailable: keep the current statements. Whatever is wrong, the calls themselves meet it.
            _ => Arc::clone(statements),
        };
        self.table = Table::known(statements, now);
    }

    fn read_shape(&self, rows: &[String]) -> Result<TableShape, Error> {
        let mut shape = TableShape::read(&self.options.table, rows, self.was_migrated)?;
        shape.wildcards = self.options.wildcards;
        Ok(shape)
    }

    fn render(&self, shape: TableShape) -> Statements {
        let Options { table, ledger, thresholds, .. } = &self.options;
        Statements::new(table, shape, *ledger, thresholds)
    }

    /// The catalogue is asked again before the next statement.
    pub(super) fn forget_table(&mut self) {
        match &mut self.table {
            Table::Known { .. } => self.table = Table::Unknown,
            Table::Asked { outdated } => *outdated = true,
            Table::Unknown => {}
        }
    }
}
