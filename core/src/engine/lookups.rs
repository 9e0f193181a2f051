//! The lane of look-ups.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Pending};
use super::resolve::{Asked, FoundBy, Unresolved};
use super::retry::{Repeatable, Repeats};
use super::rows::Unread;
use super::rows::lookup::{self, KeyRow, LookedUp};
use super::{Answer, Credential, Engine, Statement, Work};
use crate::error::Error;
use crate::key::grant::Denial;
use crate::table::literal::text_array;
use crate::table::shape::TableShape;
use crate::table::template::{KeyColumn, StatementKind, Statements};

/// A look-up that waits.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Only the general statement can decide it.
    is_general: bool,
    /// The id that its caller named.
    id: Option<Arc<str>>,
}

impl Repeatable for Lookup {
    fn repeats(&self) -> Repeats {
        Repeats::Few
    }
}

impl Engine {
    pub(super) fn route_lookup(&mut self, caller: Pending<()>, credential: Credential) {
        match self.text_of(credential) {
            Some((KeyColumn::Id, id)) => {
                let request = caller.with_work(Unresolved::by_id(Asked::Lookup, &id));
                self.resolve(FoundBy::Id, id, request);
            }
            Some((column, name)) if self.is_former(column, &name) => {
                let request = caller.with_work(Unresolved::by_hash(Asked::Lookup, None));
                self.resolve(FoundBy::FormerHash, name, request);
            }
            Some((column, name)) => self.place_lookup(caller, column, name, None),
            None => self.answer_with(&caller, Answer::Validated(Err(Denial::invalid()))),
        }
    }

    pub(super) fn place_lookup(
        &mut self,
        caller: Pending<()>,
        column: KeyColumn,
        name: Arc<str>,
        id: Option<Arc<str>>,
    ) {
        let is_general = self.children[column as usize].contains(&name);
        self.lanes.validate[column as usize].push(name, caller.with_work(Lookup { is_general, id }));
    }

    pub(super) fn poll_lookups(
        &mut self,
        column: KeyColumn,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        let needed = [column.name()];
        let batch = self.take_batch(
            |lanes| &mut lanes.validate[column as usize],
            now,
            statements,
            &needed,
            usize::MAX,
        )?;
        let is_general = batch.open_requests().any(|request| request.work.is_general);
        let (kind, lookup) = match batch.keys.as_slice() {
            keys if is_general => (StatementKind::Validate, text_array(keys)),
            [key] => (StatementKind::ValidateOne, key.to_string()),
            keys => (StatementKind::ValidateMany, text_array(keys)),
        };
        let sql = statements.sql_by(column, kind);
        let work = Work::Validate(column, kind, batch, Arc::clone(statements));
        Some(self.send(kind, sql, vec![Some(lookup)], work))
    }

    pub(super) fn receive_lookups(
        &mut self,
        now: Duration,
        column: KeyColumn,
        kind: StatementKind,
        batch: Batch<Lookup>,
        rows: &[String],
        shape: &TableShape,
    ) {
        let mut groups: Vec<Option<Vec<Pending<Lookup>>>> = batch.requests.into_iter().map(Some).collect();
        let mut unread = Unread::default();
        for row in rows {
            let read = KeyRow::read(row, shape).and_then(|row| {
                let row = match kind {
                    StatementKind::Validate => lookup::Lookup::Decided(row.decided()?),
                    _ => row.read_alone()?,
                };
                let (lookup::Lookup::Decided(LookedUp { place, .. })
                | lookup::Lookup::Undecided { place, .. }) = row;
                let group = groups.get_mut(place).and_then(Option::take);
                group
                    .map(|group| (row, group))
                    .ok_or_else(|| Error::unexpected("a key that was not asked for"))
            });
            match read {
                Ok((lookup::Lookup::Undecided { place, has_parent }, mut group)) => {
                    let name = &batch.keys[place];
                    if has_parent {
                        self.note_child(column, name);
                    }
                    // Those whose time ran out meanwhile are answered already.
                    group.retain(|request| request.ticket.is_some());
                    group.iter_mut().for_each(|request| request.work.is_general = true);
                    self.lanes.validate[column as usize].put_back(name, group);
                }
                Ok((lookup::Lookup::Decided(key), mut group)) => {
                    let interval = self.options.touch_interval_seconds.filter(|_| shape.has("last_used_at"));
                    if interval.is_some_and(|seconds| key.is_stale(seconds)) {
                        self.touches.note(&key.id, now);
                    }
                    let last = group.pop();
                    for request in group {
                        self.answer_with(&request, Answer::Validated(key.verdict.clone()));
                    }
                    if let Some(request) = last {
                        self.answer_with(&request, Answer::Validated(key.verdict));
                    }
                }
                Err(error) => unread.note(row, error, |place| groups.get(place).is_some_and(Option::is_some)),
            }
        }
        // No row means no such key, unless it could not be read.
        for (place, (name, group)) in batch.keys.iter().zip(groups).enumerate() {
            for request in group.into_iter().flatten().filter(|request| request.ticket.is_some()) {
                match unread.error_at(place) {
                    Some(error) => self.answer_error(&request, error.clone()),
                    None => {
                        let (caller, Lookup { id, .. }) = request.split();
                        let request = caller.with_work(Unresolved::by_hash(Asked::Lookup, id));
                        self.find_otherwise(column, name, request, shape);
                    }
                }
            }
        }
    }
}
