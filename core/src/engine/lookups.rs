//! The lane of look-ups.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Pending};
use super::memory::Question;
use super::resolve::{Asked, FoundBy, Unresolved};
use super::retry::{Repeatable, Repeats};
use super::rows::Unread;
use super::rows::lookup::{self, KeyRow, LookedUp};
use super::rows::version::{Stand, Version};
use super::{Answer, Credential, Engine, Fault, Statement, Work};
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
        let one = |kind, lookup| Question { kind, params: vec![Some(lookup)], known: Vec::new() };
        let mut question = match batch.keys.as_slice() {
            keys if is_general => one(StatementKind::Validate, text_array(keys)),
            [key] => one(StatementKind::ValidateOne, key.to_string()),
            keys if self.memory.is_on() && statements.shape.has("+versions") => {
                self.ask_what_changed(column, keys, now)
            }
            keys => one(StatementKind::ValidateMany, text_array(keys)),
        };
        let (kind, params) = (question.kind, std::mem::take(&mut question.params));
        let sql = statements.sql_by(column, kind);
        let work = Work::Validate(column, question, batch, Arc::clone(statements));
        Some(self.send(kind, sql, params, work))
    }

    /// A server that does not let us ask for versions is asked for whole rows.
    pub(super) fn lookups_fault(
        &mut self,
        now: Duration,
        column: KeyColumn,
        kind: StatementKind,
        batch: Batch<Lookup>,
        fault: &Fault,
    ) {
        if is_versioned(kind) && matches!(fault.sqlstate(), Some("42501" | "42883")) && self.memory.is_on() {
            self.memory.turn_off();
            let lane = &mut self.lanes.validate[column as usize];
            for (name, group) in batch.keys.iter().zip(batch.requests) {
                lane.put_back(name, group.into_iter().filter(|request| request.ticket.is_some()).collect());
            }
            return;
        }
        self.batch_fault(|lanes| &mut lanes.validate[column as usize], now, batch, fault);
    }

    pub(super) fn receive_lookups(
        &mut self,
        now: Duration,
        column: KeyColumn,
        question: &Question,
        batch: Batch<Lookup>,
        rows: &[String],
        shape: &TableShape,
    ) {
        let mut groups: Vec<Option<Vec<Pending<Lookup>>>> = batch.requests.into_iter().map(Some).collect();
        let mut is_gone = vec![false; groups.len()];
        let mut unread = Unread::default();
        let stand = rows.iter().find_map(|row| Stand::read(row).filter(|_| is_versioned(question.kind)));
        match &stand {
            Some(stand) => self.memory.note_run(&stand.run),
            None if is_versioned(question.kind) => {
                unread.note_unknown(Error::unexpected("look-ups without their time"))
            }
            None => {}
        }
        for row in rows.iter().filter(|row| stand.is_none() || !row.starts_with("(0,")) {
            let read = read_row(row, question.kind, shape).and_then(|read| {
                let place = read.place();
                let group = groups.get_mut(place).and_then(Option::take);
                group
                    .map(|group| (place, read, group))
                    .ok_or_else(|| Error::unexpected("a key that was not asked for"))
            });
            match read {
                Ok((place, Read::Nobody(_), group)) => {
                    is_gone[place] = true;
                    groups[place] = Some(group);
                }
                Ok((place, Read::Key(lookup, version), group)) => {
                    let name = &batch.keys[place];
                    match (&lookup, version) {
                        (lookup::Lookup::Decided(_), Some(version)) => {
                            self.memory.keep(column as usize, name, row, version, now);
                        }
                        _ => self.memory.forget(column as usize, name),
                    }
                    self.answer_lookups(now, column, name, group, lookup, shape);
                }
                Err(error) => unread.note(row, error, |place| groups.get(place).is_some_and(Option::is_some)),
            }
        }
        // What has no row though it was asked whether it changed, is as it was.
        for (place, known) in question.known.iter().enumerate() {
            let (Some(known), Some(stand), None) = (known, &stand, unread.error_at(place)) else { continue };
            let Some(group) = groups.get_mut(place).filter(|_| !is_gone[place]).and_then(Option::take) else {
                continue;
            };
            let read = KeyRow::read(&known.row, shape);
            match read.and_then(|row| row.again(place, &stand.now).read_alone()) {
                Ok(lookup) => {
                    self.meter.unchanged_keys += 1;
                    self.answer_lookups(now, column, &batch.keys[place], group, lookup, shape);
                }
                Err(error) => group.iter().for_each(|request| self.answer_error(request, error.clone())),
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

    /// Answers all who asked for a key, or has the general statement asked.
    fn answer_lookups(
        &mut self,
        now: Duration,
        column: KeyColumn,
        name: &Arc<str>,
        mut group: Vec<Pending<Lookup>>,
        lookup: lookup::Lookup<'_>,
        shape: &TableShape,
    ) {
        let key = match lookup {
            lookup::Lookup::Undecided { has_parent, .. } => {
                if has_parent {
                    self.note_child(column, name);
                }
                // Those whose time ran out meanwhile are answered already.
                group.retain(|request| request.ticket.is_some());
                group.iter_mut().for_each(|request| request.work.is_general = true);
                return self.lanes.validate[column as usize].put_back(name, group);
            }
            lookup::Lookup::Decided(key) => key,
        };
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
}

const fn is_versioned(kind: StatementKind) -> bool {
    matches!(kind, StatementKind::ValidateVersions | StatementKind::ValidateChanged)
}

/// A row of a look-up.
#[expect(clippy::large_enum_variant, reason = "taken apart at once")]
enum Read<'r> {
    Key(lookup::Lookup<'r>, Option<Version>),
    /// There is no key for this place.
    Nobody(usize),
}

impl Read<'_> {
    fn place(&self) -> usize {
        let (Read::Nobody(place)
        | Read::Key(
            lookup::Lookup::Decided(LookedUp { place, .. }) | lookup::Lookup::Undecided { place, .. },
            _,
        )) = self;
        *place
    }
}

fn read_row<'r>(row: &'r str, kind: StatementKind, shape: &TableShape) -> Result<Read<'r>, Error> {
    match kind {
        StatementKind::Validate => {
            let key = KeyRow::read(row, shape)?.decided()?;
            Ok(Read::Key(lookup::Lookup::Decided(key), None))
        }
        kind if is_versioned(kind) => {
            let (row, version) = KeyRow::read_versioned(row, shape)?;
            match row.nobodys_place() {
                Some(place) => Ok(Read::Nobody(place)),
                None => Ok(Read::Key(row.read_alone()?, version)),
            }
        }
        _ => Ok(Read::Key(KeyRow::read(row, shape)?.read_alone()?, None)),
    }
}
