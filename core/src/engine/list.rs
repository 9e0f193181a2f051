//! Lists of keys: page by page, in the order of their ids.

use super::Answer;
use super::admin::{Admin, Next, Plan};
use super::keys::KeyWork;
use super::rows::record::{PageEnd, filter_params, read_page};
use crate::error::Error;
use crate::key::record::{KeyFilter, KeyRecord, KeyState};
use crate::table::shape::TableShape;
use crate::table::template::{StatementKind, Statements};

/// One statement looks at so many keys at most: no list keeps the database for long, whatever it looks for.
const LOOKED_AT_ONCE: usize = 10_000;
/// The first one looks at so many for each that is wanted: mostly that is enough.
const LOOKED_AT_FIRST: usize = 10;

/// With more keys that cannot be read it is the table that is odd, not a row.
const MOST_UNREADABLE: usize = 100;

/// A list on its way: of what is looked for there may be little, so that one statement is not enough.
#[derive(Debug, Clone)]
pub(super) struct List {
    filter: KeyFilter,
    found: Vec<KeyRecord>,
    /// What is wrong with keys that are left out.
    unreadable: Vec<Error>,
    /// Whether it begins with the first key.
    is_first_page: bool,
    /// How many keys the next statement looks at.
    looks_at: usize,
    /// What is looked for is rare: an index knows where it is.
    is_rare: bool,
}

impl List {
    pub(super) fn new(filter: KeyFilter) -> Result<Self, Error> {
        filter.check()?;
        let most = filter.most() as usize;
        let looks_at = if filter.has_conditions() { most * LOOKED_AT_FIRST } else { most };
        let looks_at = looks_at.min(LOOKED_AT_ONCE);
        Ok(List {
            is_first_page: filter.after.is_none(),
            filter,
            found: Vec::new(),
            unreadable: Vec::new(),
            looks_at,
            is_rare: false,
        })
    }

    pub(super) fn plan(&self, statements: &Statements) -> Result<Plan, Error> {
        let (filter, shape) = (&self.filter, &statements.shape);
        if filter.parent.is_some() {
            shape.require(&["parent_id"])?;
        }
        if filter.delegated_by.is_some() {
            shape.require(&["delegated_by"])?;
        }
        if filter.metadata.is_some() {
            shape.require_metadata()?;
        }
        if filter.scope.is_some() && !shape.scopes_can_be_searched() {
            let what = format!("scopes is {}: keys cannot be listed by a scope", shape.sql_type("scopes"));
            return Err(Error::migration_required(what));
        }
        let most = (filter.most() as usize).saturating_sub(self.found.len());
        let Some(mut params) = filter_params(filter, most, shape) else {
            return Ok(Plan::Answer(Answer::Keys(Vec::new())));
        };
        let kind = match self.index(shape).filter(|_| self.is_rare) {
            Some(index) => {
                params.push(Some(index.to_owned()));
                StatementKind::ListByIndex
            }
            None => {
                params.push(Some(self.looks_at.to_string()));
                match filter {
                    KeyFilter { parent: Some(_), .. } => StatementKind::ListOfParent,
                    KeyFilter { delegated_by: Some(_), .. } => StatementKind::ListOfHuman,
                    KeyFilter { account_id: Some(_), .. } => StatementKind::ListOfAccount,
                    KeyFilter { state: Some(KeyState::Revoked), .. } => StatementKind::ListOfState,
                    KeyFilter { state: Some(KeyState::Disabled), .. } if shape.has("disabled_at") => {
                        StatementKind::ListOfState
                    }
                    _ => StatementKind::ListKeys,
                }
            }
        };
        Ok(Plan::Send(kind, statements.sql(kind), params))
    }

    /// The index that knows what is looked for.
    fn index(&self, shape: &TableShape) -> Option<&'static str> {
        match &self.filter {
            KeyFilter { metadata: Some(_), .. } => Some("metadata"),
            KeyFilter { scope: Some(_), .. } if shape.has_scopes_index() => Some("scopes"),
            KeyFilter { state: Some(KeyState::Expired), .. } => Some("expired"),
            _ => None,
        }
    }

    pub(super) fn after(mut self, rows: &[String], shape: &TableShape) -> Result<Next, Error> {
        let (found_before, unreadable_before) = (self.found.len(), self.unreadable.len());
        let PageEnd { last, last_read, looked_at } =
            read_page(rows, shape, &mut self.found, &mut self.unreadable)?;
        let is_full = self.found.len() >= self.filter.most() as usize;
        // With those that are left out it may be full, and then ends before what was looked at.
        let read = self.found.len() - found_before + self.unreadable.len() - unreadable_before;
        let is_cut = read >= (self.filter.most() as usize).saturating_sub(found_before);
        let is_last = !is_cut && (self.is_rare || looked_at < self.looks_at);
        if is_full || is_last || self.unreadable.len() > MOST_UNREADABLE {
            return self.answer();
        }
        self.filter.after = if is_cut { last_read } else { last };
        if self.is_rare {
            return Ok(Next::Continue(Admin::Keys(KeyWork::List(Box::new(self)))));
        }
        // Not before so many were looked at in vain: of what is not rare an index knows too much.
        self.is_rare = self.looks_at == LOOKED_AT_ONCE && self.index(shape).is_some();
        // As many as the last one would have needed for what lacks, and half as many more.
        let lacks = (self.filter.most() as usize).saturating_sub(self.found.len());
        let needed = (looked_at * lacks * 3 / 2).checked_div(self.found.len() - found_before);
        self.looks_at = needed.map_or(LOOKED_AT_ONCE, |needed| needed.clamp(100, LOOKED_AT_ONCE));
        Ok(Next::Continue(Admin::Keys(KeyWork::List(Box::new(self)))))
    }

    /// A few keys that cannot be read are left out, and reported. Where there are no others at all, that is an error: nobody
    /// shall take the list for empty.
    fn answer(mut self) -> Result<Next, Error> {
        if self.found.is_empty() && self.is_first_page || self.unreadable.len() > MOST_UNREADABLE {
            return match self.unreadable.pop() {
                Some(error) => Err(error),
                None => Ok(Next::Answer(Answer::Keys(self.found))),
            };
        }
        let reports = self.unreadable.iter().map(|error| format!("a key is left out of a list: {error}"));
        Ok(Next::Reported(Answer::Keys(self.found), reports.collect()))
    }
}
