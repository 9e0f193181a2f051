//! Requests whose key is not found by its hash: by the secret that it had before a rotation, or by its id. A look-up of
//! the hash that it has now comes first, and then they go where all others go. Nothing is remembered of what it answers:
//! every decision is made on the row as it is then.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Pending};
use super::retry::{Repeatable, Repeats};
use super::rows::{Unread, fields, place};
use super::spends::{Spending, remember};
use super::{Answer, Engine, Fault, Statement, Work};
use crate::budget::charge::ChargeRefusal;
use crate::error::{Effect, Error};
use crate::key::grant::Denial;
use crate::table::literal::text_array;
use crate::table::shape::{ROTATION, TableShape};
use crate::table::template::{KeyColumn, StatementKind, Statements};

/// What a key is found by instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundBy {
    /// The hash of the secret before.
    FormerHash,
    Id,
}

impl FoundBy {
    pub(super) const ALL: [FoundBy; 2] = [FoundBy::FormerHash, FoundBy::Id];

    const fn kind(self) -> StatementKind {
        match self {
            FoundBy::FormerHash => StatementKind::FormerKeys,
            FoundBy::Id => StatementKind::KeysById,
        }
    }
}

/// A request whose key's hash is not known.
#[derive(Debug)]
pub(super) struct Unresolved {
    asked: Asked,
    /// The id that its caller named.
    id: Option<Arc<str>>,
    /// The hash under which there was no key.
    missed: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) enum Asked {
    Lookup,
    /// A plain charge, in micro-cents.
    Charge(i64),
    Spend(Box<Spending>),
}

impl Unresolved {
    /// A request for the key of an id.
    pub(super) fn by_id(asked: Asked, id: &Arc<str>) -> Self {
        Unresolved { asked, id: Some(Arc::clone(id)), missed: None }
    }

    /// A request for a key that had another secret lately, or was not found by its hash.
    pub(super) fn by_hash(asked: Asked, id: Option<Arc<str>>) -> Self {
        Unresolved { asked, id, missed: None }
    }
}

/// It only reads.
impl Repeatable for Unresolved {
    fn repeats(&self) -> Repeats {
        match &self.asked {
            Asked::Spend(spending) => spending.repeats().max(Repeats::Few),
            Asked::Lookup | Asked::Charge(_) => Repeats::Few,
        }
    }
}

impl Engine {
    pub(super) fn resolve(&mut self, by: FoundBy, name: Arc<str>, request: Pending<Unresolved>) {
        self.lanes.resolve[by as usize].push(name, request);
    }

    /// Whether a hash is that of a secret that was replaced lately.
    pub(super) fn is_former(&self, column: KeyColumn, name: &Arc<str>) -> bool {
        column == KeyColumn::KeyHash && self.former.contains(name)
    }

    /// No key has this hash or subject, as it stands: it may be found otherwise. If not, there is none.
    pub(super) fn find_otherwise(
        &mut self,
        column: KeyColumn,
        name: &Arc<str>,
        mut request: Pending<Unresolved>,
        shape: &TableShape,
    ) {
        request.work.missed = Some(Arc::clone(name));
        match &request.work.id {
            Some(id) => self.resolve(FoundBy::Id, Arc::clone(id), request),
            None if column == KeyColumn::KeyHash && shape.require(ROTATION).is_ok() => {
                self.resolve(FoundBy::FormerHash, Arc::clone(name), request);
            }
            None => self.answer_of_no_key(request),
        }
    }

    fn answer_of_no_key(&mut self, request: Pending<Unresolved>) {
        let answer = match &request.work.asked {
            Asked::Lookup => Answer::Validated(Err(Denial::invalid())),
            Asked::Charge(_) => Answer::Charged(Err(ChargeRefusal::InvalidKey)),
            Asked::Spend(spending) => spending.of_no_key(),
        };
        self.answer_with(&request, answer);
    }

    pub(super) fn poll_resolve(
        &mut self,
        by: FoundBy,
        now: Duration,
        statements: &Arc<Statements>,
    ) -> Option<Statement> {
        let needed = if by == FoundBy::FormerHash { ROTATION } else { &[] };
        loop {
            let mut batch = self.take_batch(
                |lanes| &mut lanes.resolve[by as usize],
                now,
                statements,
                needed,
                usize::MAX,
            )?;
            if by == FoundBy::Id {
                self.drop_ids_of_no_key(&mut batch, &statements.shape);
            }
            if batch.keys.is_empty() {
                self.lanes.resolve[by as usize].leave(&batch);
                continue;
            }
            let kind = by.kind();
            let params = vec![Some(text_array(&batch.keys))];
            return Some(self.send(kind, statements.sql(kind), params, Work::Resolve(by, batch)));
        }
    }

    /// An id that the column cannot hold matches no key.
    fn drop_ids_of_no_key(&mut self, batch: &mut Batch<Unresolved>, shape: &TableShape) {
        let names = std::mem::take(&mut batch.keys).into_iter().zip(std::mem::take(&mut batch.requests));
        for (name, group) in names {
            if shape.fits_id(&name) {
                batch.keys.push(name);
                batch.requests.push(group);
            } else {
                group.into_iter().for_each(|request| self.answer_of_no_key(request));
            }
        }
    }

    pub(super) fn receive_resolved(
        &mut self,
        now: Duration,
        by: FoundBy,
        batch: Batch<Unresolved>,
        result: Result<&[String], Fault>,
    ) {
        let rows = match result {
            Ok(rows) => rows,
            Err(fault) => {
                // It only reads: what is asked for was not sent.
                let is_uncertain = fault.effect() == Effect::Unknown;
                let fault = if is_uncertain { fault.before_sending() } else { fault };
                return self.batch_fault(|lanes| &mut lanes.resolve[by as usize], now, batch, &fault);
            }
        };
        let mut hashes: Vec<Option<Arc<str>>> = batch.keys.iter().map(|_| None).collect();
        let mut unread = Unread::default();
        for row in rows {
            let read = fields(row, "a key's hash").and_then(|[n, hash]| {
                let found = hashes.get_mut(place(&n)?).filter(|found| found.is_none());
                let found = found.ok_or_else(|| Error::unexpected("a key that was not asked for"))?;
                *found = Some(Arc::from(hash.ok_or_else(|| Error::unexpected("a key without a hash"))?));
                Ok(())
            });
            if let Err(error) = read {
                unread.note(row, error, |place| matches!(hashes.get(place), Some(None)));
            }
        }
        for (place, ((name, group), hash)) in batch.keys.iter().zip(batch.requests).zip(hashes).enumerate() {
            if by == FoundBy::FormerHash {
                match &hash {
                    Some(_) => remember(&mut self.former, name),
                    None => _ = self.former.remove(name),
                }
            }
            // Those whose time ran out meanwhile are answered already.
            for request in group.into_iter().filter(|request| request.ticket.is_some()) {
                match (&hash, unread.error_at(place), &request.work.missed) {
                    // It is there, and cannot be charged: it is revoked.
                    (Some(hash), _, Some(missed)) if hash == missed => self.answer_of_no_key(request),
                    (Some(hash), ..) => self.go_on(Arc::clone(hash), request),
                    (None, Some(error), _) => self.answer_error(&request, error.clone()),
                    // It was a former secret lately, but is none any more: it may be a key's after all.
                    (None, None, None) if by == FoundBy::FormerHash => self.go_on(Arc::clone(name), request),
                    (None, None, _) => self.answer_of_no_key(request),
                }
            }
        }
    }

    /// Sends a request to the lane of its key's hash.
    fn go_on(&mut self, hash: Arc<str>, request: Pending<Unresolved>) {
        let (caller, Unresolved { asked, id, .. }) = request.split();
        match asked {
            Asked::Lookup => self.place_lookup(caller, KeyColumn::KeyHash, hash, id),
            Asked::Charge(microcents) => {
                self.place_charge(caller, KeyColumn::KeyHash, hash, microcents, id);
            }
            Asked::Spend(spending) => self.place_spend(caller, KeyColumn::KeyHash, hash, *spending, id),
        }
    }
}
