//! Keys as their owner sees them: read, listed, changed.

use std::sync::Arc;

use super::admin::{Admin, Next, Plan};
use super::busy::Look;
use super::explain::Explain;
use super::increases::IncreaseWork;
use super::list::List;
use super::revoke::is_busy;
use super::route::text_of;
use super::rows::limits::{Relimited, limit_rows, read_relimited, unusable_hashes};
use super::rows::lookup::KeyRow;
use super::rows::record::{changes, read_record};
use super::spends::NEEDED;
use super::{Answer, Options};
use crate::budget::limit::KeyLimit;
use crate::error::Error;
use crate::id::KeyId;
use crate::key::delegation::{Ancestry, Parent, ParentLookup};
use crate::key::raw::KeyHash;
use crate::key::record::{KeyRecord, KeyUpdate};
use crate::table::literal::text_array;
use crate::table::shape::{LIMITS, TableShape};
use crate::table::template::{KeyColumn, StatementKind, Statements};

/// An operation on keys as their owner sees them.
#[derive(Debug, Clone)]
pub(super) enum KeyWork {
    Get(KeyId),
    Explain(Explain),
    List(Box<List>),
    Update(Box<Update>),
    Increases(Box<IncreaseWork>),
}

/// A change of a key. What its parent bounds needs the key's row first, then the parent's.
#[derive(Debug, Clone)]
pub(super) struct Update {
    key_id: KeyId,
    changes: KeyUpdate,
    /// Of the rows that its limits may need.
    limit_hashes: Vec<KeyHash>,
    stage: Stage,
    look: Look,
}

#[derive(Debug, Clone)]
enum Stage {
    FindParent,
    OfParent(KeyId),
    Limit,
    Write,
}

impl KeyWork {
    pub(super) fn update(key_id: KeyId, changes: KeyUpdate, options: &Options) -> Result<Self, Error> {
        changes.check(options.valid_scopes.as_deref(), options.accepted_periods)?;
        let limit_hashes = unusable_hashes(changes.limits.as_ref().map_or(0, Vec::len))?;
        let mut update =
            Update { key_id, changes, limit_hashes, stage: Stage::FindParent, look: Look::default() };
        if !update.changes.is_bounded() {
            update.stage = update.first_write();
        }
        Ok(KeyWork::Update(Box::new(update)))
    }

    pub(super) fn look(&mut self) -> Option<&mut Look> {
        match self {
            KeyWork::Update(update) if update.stage.writes() => Some(&mut update.look),
            KeyWork::Increases(work) => work.look(),
            _ => None,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        match self {
            KeyWork::Update(update) => update.look.is_waiting,
            KeyWork::Increases(work) => work.is_waiting(),
            KeyWork::Get(_) | KeyWork::Explain(_) | KeyWork::List(_) => false,
        }
    }

    /// Whether it only reads, or comes to the same if it is done again.
    pub(super) fn is_repeatable(&self) -> bool {
        match self {
            KeyWork::Get(_) | KeyWork::Explain(_) | KeyWork::List(_) => true,
            // What was recorded is told.
            KeyWork::Increases(_) => true,
            // Its times count from when it was done.
            KeyWork::Update(update) => match update.stage {
                Stage::FindParent | Stage::OfParent(_) | Stage::Limit => true,
                Stage::Write => update.changes.is_absolute(),
            },
        }
    }

    pub(super) fn plan(&self, statements: &Statements, options: &Options) -> Result<Plan, Error> {
        let shape = &statements.shape;
        let send = |kind, params| Plan::Send(kind, statements.sql(kind), params);
        let nothing = || Plan::Answer(Answer::Key(None));
        let by_id = |id: &KeyId| {
            let id = id.to_string();
            shape.fits_id(&id).then_some(id)
        };
        Ok(match self {
            KeyWork::Get(id) => {
                by_id(id).map_or_else(nothing, |id| send(StatementKind::Keys, vec![Some(id)]))
            }
            KeyWork::Explain(explain) => return explain.plan(statements),
            KeyWork::List(list) => return list.plan(statements),
            KeyWork::Increases(work) => return work.plan(statements),
            KeyWork::Update(update) => match (by_id(&update.key_id), &update.stage) {
                (None, _) => nothing(),
                (Some(id), Stage::FindParent) => send(StatementKind::Keys, vec![Some(id)]),
                (Some(_), Stage::OfParent(parent)) => {
                    let sql: Arc<str> = statements.sql_by(KeyColumn::Id, StatementKind::Parent);
                    Plan::Send(StatementKind::Parent, sql, vec![Some(text_array([parent.to_string()]))])
                }
                (Some(id), Stage::Limit) => {
                    let params = update.limits(id, shape, options)?;
                    send(StatementKind::UpdateLimits, params)
                }
                (Some(id), Stage::Write) => {
                    if update.changes.budget_cents.is_some() {
                        shape.require(&options.with_alarms(&[]))?;
                    }
                    let waits_for = update.look.is_waiting.then(|| id.clone());
                    let mut params = changes(id, &update.changes, shape, options)?;
                    params.push(waits_for);
                    send(StatementKind::UpdateKey, params)
                }
            },
        })
    }

    pub(super) fn after(&self, rows: &[String], shape: &TableShape) -> Result<Next, Error> {
        let first = || rows.first().map(|row| read_record(row, shape)).transpose();
        let none = || Next::Answer(Answer::Key(None));
        let go_on = |update: &Update, stage| {
            let update = Update { stage, ..update.clone() };
            Next::Continue(Admin::Keys(KeyWork::Update(Box::new(update))))
        };
        Ok(match self {
            KeyWork::Get(_) => Next::Answer(Answer::Key(first()?.map(Box::new))),
            KeyWork::Explain(explain) => return explain.after(rows, shape),
            KeyWork::List(list) => return list.as_ref().clone().after(rows, shape),
            KeyWork::Increases(work) => return work.after(rows, shape),
            KeyWork::Update(update) => match &update.stage {
                Stage::FindParent => match first()? {
                    None => none(),
                    Some(KeyRecord { parent_id: Some(parent), .. }) => go_on(update, Stage::OfParent(parent)),
                    Some(_) => go_on(update, update.first_write()),
                },
                Stage::OfParent(_) => {
                    let parent = rows.first().ok_or_else(Ancestry::missing)?;
                    let mut update = update.clone();
                    update.bind(KeyRow::read(parent, shape)?)?;
                    let stage = update.first_write();
                    go_on(&update, stage)
                }
                Stage::Limit | Stage::Write if rows.is_empty() => none(),
                Stage::Limit => match read_relimited(&rows[0])? {
                    Relimited::Busy => Next::LookAgain(Admin::Keys(self.clone())),
                    Relimited::Done if update.changes.has_only_limits() => {
                        Next::Continue(Admin::Keys(KeyWork::Get(update.key_id.clone())))
                    }
                    Relimited::Done => go_on(update, Stage::Write),
                },
                Stage::Write if is_busy(&rows[0])? => Next::LookAgain(Admin::Keys(self.clone())),
                Stage::Write => Next::Continue(Admin::Keys(KeyWork::Get(update.key_id.clone()))),
            },
        })
    }
}

impl Stage {
    fn writes(&self) -> bool {
        matches!(self, Stage::Limit | Stage::Write)
    }
}

impl Update {
    /// Limits first: they may be refused.
    fn first_write(&self) -> Stage {
        if self.changes.limits.is_some() { Stage::Limit } else { Stage::Write }
    }

    fn limits(
        &self,
        id: String,
        shape: &TableShape,
        options: &Options,
    ) -> Result<Vec<Option<String>>, Error> {
        shape.require(LIMITS)?;
        shape.require(&options.with_alarms(NEEDED))?;
        let limits = self.changes.limits.as_deref().unwrap_or_default();
        KeyLimit::check_fits(limits, shape.max_cents())?;
        // What the next statement would refuse is refused before anything is written.
        changes(id.clone(), &self.changes, shape, options)?;
        let waits_for = self.look.is_waiting.then(|| id.clone());
        Ok(vec![Some(id), Some(limit_rows(limits, &self.limit_hashes, options).to_string()), waits_for])
    }

    /// Keeps a child within the bounds of its parent.
    fn bind(&mut self, parent: KeyRow<'_, '_>) -> Result<(), Error> {
        let parent = parent.decided()?;
        let parent = Ancestry::new(parent.verdict, parent.ancestors.len(), parent.seconds_left)?;
        let mut bounded = self.changes.bounded();
        parent.bind(&mut bounded, None)?;
        if let Some(scopes) = &mut self.changes.scopes {
            *scopes = bounded.scopes;
        }
        Ok(())
    }
}

/// The statement that looks a new key's parent up.
pub(super) fn find_parent(parent: &Parent, statements: &Statements) -> Result<Plan, Error> {
    let (column, lookup) = match parent.lookup() {
        ParentLookup::Id(id) if statements.shape.fits_id(&id) => (KeyColumn::Id, Arc::from(id)),
        ParentLookup::Id(_) => return Err(Ancestry::missing()),
        ParentLookup::Credential(credential) => text_of(credential).ok_or_else(Ancestry::missing)?,
    };
    if column == KeyColumn::Subject {
        statements.shape.require(&[column.name()])?;
    }
    let sql = statements.sql_by(column, StatementKind::Parent);
    Ok(Plan::Send(StatementKind::Parent, sql, vec![Some(text_array([lookup]))]))
}
