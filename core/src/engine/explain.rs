//! Explanations: what a charge of a key would meet.

use std::sync::Arc;

use super::Answer;
use super::admin::{Next, Plan};
use super::rows::explained::read_limit;
use crate::budget::money::Cost;
use crate::error::Error;
use crate::key::explanation::Explanation;
use crate::table::shape::TableShape;
use crate::table::template::{KeyColumn, StatementKind, Statements};

/// How many open reservations of a budget are named at most.
const NAMED: usize = 10;

#[derive(Debug, Clone)]
pub(super) struct Explain {
    /// What finds the key; `None` if no key can be meant.
    key: Option<(KeyColumn, Arc<str>)>,
    cost: Cost,
}

impl Explain {
    pub(super) fn new(key: Option<(KeyColumn, Arc<str>)>, cost: Cost) -> Self {
        Explain { key, cost }
    }

    pub(super) fn plan(&self, statements: &Statements) -> Result<Plan, Error> {
        let shape = &statements.shape;
        let Some((column, text)) = &self.key else { return Ok(Plan::Answer(self.of_no_key())) };
        match column {
            KeyColumn::Id if !shape.fits_id(text) => return Ok(Plan::Answer(self.of_no_key())),
            KeyColumn::Subject => shape.require(&[column.name()])?,
            KeyColumn::Id | KeyColumn::KeyHash => {}
        }
        let by = |wanted: KeyColumn| (*column == wanted).then(|| text.to_string());
        let mut params = [KeyColumn::Id, KeyColumn::KeyHash, KeyColumn::Subject].map(by).to_vec();
        params.push(Some(NAMED.to_string()));
        Ok(Plan::Send(StatementKind::Explain, statements.sql(StatementKind::Explain), params))
    }

    pub(super) fn after(&self, rows: &[String], shape: &TableShape) -> Result<Next, Error> {
        let limits = rows.iter().filter_map(|row| read_limit(row, shape).transpose());
        let limits = limits.collect::<Result<Vec<_>, _>>()?;
        Ok(Next::Answer(Answer::Explained(Box::new(Explanation::of(limits, self.cost)))))
    }

    fn of_no_key(&self) -> Answer {
        Answer::Explained(Box::new(Explanation::of(Vec::new(), self.cost)))
    }
}
