//! Refunds: on a key and all its ancestors, of which it waits for one at a time if somebody else has locked them.

use super::Answer;
use super::admin::{Admin, Next, Plan};
use super::busy::Look;
use super::retry::Repeats;
use super::rows::refunded::{Refunded, refunded};
use super::rows::spent::Spend;
use super::spends::NEEDED;
use crate::budget::charge::ChargeRefusal;
use crate::error::Error;
use crate::id::KeyId;
use crate::table::template::{StatementKind, Statements};

#[derive(Debug, Clone)]
pub(super) struct Refund {
    key_id: KeyId,
    spend: Spend,
    /// The id of a row that somebody else had locked.
    busy: Option<String>,
    pub(super) look: Look,
}

impl Refund {
    pub(super) fn new(key_id: KeyId, spend: Spend) -> Result<Self, Error> {
        spend.check()?;
        Ok(Refund { key_id, spend, busy: None, look: Look::default() })
    }

    pub(super) fn repeats(&self) -> Repeats {
        match self.spend.idempotency_key {
            Some(_) => Repeats::UntilDeadline,
            None => Repeats::Never,
        }
    }

    pub(super) fn plan(&self, statements: &Statements) -> Result<Plan, Error> {
        if let Some(Answer::Charged(outcome)) = self.spend.without_statement() {
            return Ok(Plan::Answer(Answer::Refunded(outcome)));
        }
        statements.shape.require(NEEDED)?;
        let id = self.key_id.to_string();
        if !statements.shape.fits_id(&id) {
            return Ok(Plan::Answer(Answer::Refunded(Err(ChargeRefusal::InvalidKey))));
        }
        let waits_for = self.busy.clone().filter(|_| self.look.is_waiting);
        let params =
            vec![Some(id), Some(self.spend.amount().to_string()), Some(self.spend.details()), waits_for];
        Ok(Plan::Send(StatementKind::Refund, statements.sql(StatementKind::Refund), params))
    }

    pub(super) fn after(&self, rows: &[String]) -> Result<Next, Error> {
        Ok(match refunded(rows)? {
            Refunded::Done(outcome) => Next::Answer(Answer::Refunded(outcome)),
            Refunded::Busy(id) => {
                Next::LookAgain(Admin::Refund(Box::new(Refund { busy: Some(id), ..self.clone() })))
            }
        })
    }
}
