//! What the engine knows of the table: its columns, and the statements built for them.

use std::sync::Arc;
use std::time::Duration;

use super::admin::Admin;
use super::{Column, Engine, Work, database_error};
use crate::error::Error;
use crate::options::Options;
use crate::shape::{Rendering, TableShape, render};
use crate::statement::{Fault, Statement, StatementKind};

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

/// The statements for the table as it is.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) shape: TableShape,
    by_key: BatchStatements,
    by_subject: BatchStatements,
    pub(super) touch: Arc<str>,
    pub(super) insert: Arc<str>,
    pub(super) revoke: Arc<str>,
    /// A look-up by id.
    pub(super) find: Arc<str>,
    pub(super) settle: Arc<str>,
    pub(super) expired_reservations: Arc<str>,
    pub(super) revoke_all: Arc<str>,
    pub(super) events: Arc<str>,
    pub(super) usage: Arc<str>,
    pub(super) verify_ledger: Arc<str>,
    pub(super) prune_events: Arc<str>,
}

#[derive(Debug)]
pub(super) struct BatchStatements {
    pub(super) validate_one: Arc<str>,
    pub(super) validate_many: Arc<str>,
    pub(super) validate: Arc<str>,
    pub(super) charge_one: Arc<str>,
    pub(super) charge_many: Arc<str>,
    pub(super) charge_batch: Arc<str>,
    pub(super) charge_tree: Arc<str>,
    pub(super) spend: Arc<str>,
}

impl Table {
    fn known(statements: Arc<Statements>, now: Duration) -> Self {
        let refresh_at = (!statements.shape.is_complete()).then(|| now.saturating_add(REFRESH));
        Table::Known { statements, refresh_at }
    }
}

impl Engine {
    pub(super) fn ask_catalogue(&mut self) -> Statement {
        self.table = Table::Asked { outdated: false };
        self.send_catalogue(Work::Catalogue)
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
        let companions = crate::shape::COMPANIONS.map(|(_, name)| Some(table.companion(name)));
        let mut params = vec![Some(table.quoted())];
        params.extend(companions);
        self.send(StatementKind::Catalogue, Arc::from(include_str!("../sql/catalogue.sql")), params, work)
    }

    pub(super) fn receive_catalogue(&mut self, now: Duration, result: Result<&[String], Fault>) {
        let outdated = matches!(self.table, Table::Asked { outdated: true });
        self.table = Table::Unknown;
        if outdated {
            return;
        }
        let shape = match result {
            Ok(rows) => TableShape::read(&self.options.table, rows),
            Err(fault) => Err(database_error(&fault)),
        };
        match shape {
            Ok(shape) => self.table = Table::known(Arc::new(Statements::new(&self.options, shape)), now),
            Err(error) => {
                self.touches.fail(now);
                self.fail_all_waiting(&error);
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
        let statements = match result.ok().map(|rows| TableShape::read(&self.options.table, rows)) {
            Some(Ok(shape)) if shape != statements.shape => Arc::new(Statements::new(&self.options, shape)),
            // As it was, or not to be had: whatever is wrong, the calls themselves meet it.
            _ => Arc::clone(statements),
        };
        self.table = Table::known(statements, now);
    }

    /// The catalogue is asked again before the next statement.
    pub(super) fn forget_table(&mut self) {
        match &mut self.table {
            Table::Known { .. } => self.table = Table::Unknown,
            Table::Asked { outdated } => *outdated = true,
            Table::Unknown => {}
        }
    }

    /// No statement can be built: whoever waits for one learns why.
    fn fail_all_waiting(&mut self, error: &Error) {
        let mut tickets = Vec::new();
        for column in Column::ALL {
            tickets.extend(self.charge[column as usize].take_all());
            tickets.extend(self.validate[column as usize].take_all());
            tickets.extend(self.spend[column as usize].take_all());
        }
        tickets.extend(self.finish.take_all());
        self.end_sweep();
        let (migrations, rest): (Vec<_>, Vec<_>) =
            self.admin.waiting.drain(..).partition(|p| matches!(p.work, Admin::Migrate { .. }));
        self.admin.waiting.extend(migrations);
        tickets.extend(rest.into_iter().filter_map(|p| p.ticket));
        for ticket in tickets {
            self.answer(ticket, Err(error.clone()));
        }
    }
}

impl Statements {
    fn new(options: &Options, shape: TableShape) -> Self {
        let render = |template: &str, lookup: &str| {
            render(
                template,
                &Rendering { table: &options.table, shape: &shape, lookup, ledger: options.ledger },
            )
        };
        let batch = |column: Column| BatchStatements {
            validate_one: render(include_str!("../sql/validate_one.sql"), column.name()),
            validate_many: render(include_str!("../sql/validate_many.sql"), column.name()),
            validate: render(include_str!("../sql/validate.sql"), column.name()),
            charge_one: render(include_str!("../sql/charge_one.sql"), column.name()),
            charge_many: render(include_str!("../sql/charge_many.sql"), column.name()),
            charge_batch: render(include_str!("../sql/charge_batch.sql"), column.name()),
            charge_tree: render(include_str!("../sql/charge_tree.sql"), column.name()),
            spend: render(include_str!("../sql/spend.sql"), column.name()),
        };
        Statements {
            by_key: batch(Column::KeyHash),
            by_subject: batch(Column::Subject),
            touch: render(include_str!("../sql/touch.sql"), ""),
            insert: render(include_str!("../sql/insert_key.sql"), ""),
            revoke: render(include_str!("../sql/revoke.sql"), ""),
            find: render(include_str!("../sql/validate.sql"), "id"),
            settle: render(include_str!("../sql/settle.sql"), ""),
            expired_reservations: render(include_str!("../sql/expired_reservations.sql"), ""),
            revoke_all: render(include_str!("../sql/revoke_all.sql"), ""),
            events: render(include_str!("../sql/events.sql"), ""),
            usage: render(include_str!("../sql/usage.sql"), ""),
            verify_ledger: render(include_str!("../sql/verify_ledger.sql"), ""),
            prune_events: render(include_str!("../sql/prune_events.sql"), ""),
            shape,
        }
    }

    pub(super) fn batch(&self, column: Column) -> &BatchStatements {
        match column {
            Column::KeyHash => &self.by_key,
            Column::Subject => &self.by_subject,
        }
    }
}
