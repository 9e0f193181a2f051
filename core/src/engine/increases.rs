//! Requests for more budget: asked for, listed, decided.

use std::sync::Arc;

use super::Answer;
use super::admin::{Admin, Next, Plan};
use super::busy::Look;
use super::keys::KeyWork;
use super::rows::increases::{filter_params, read_decision, read_request};
use super::rows::ledger::read_json;
pub use crate::budget::increase::{
    Increase, IncreaseDecision, IncreaseFilter, IncreaseRequest, IncreaseState,
};
pub use crate::budget::increase_outcome::{
    IncreaseOutcome, IncreaseRecorded, IncreaseRefusal, IncreaseRefusalReason,
};
use crate::error::{Error, ErrorCode};
use crate::table::shape::{INCREASES, TableShape};
use crate::table::template::{KeyColumn, StatementKind, Statements};

#[derive(Debug, Clone)]
pub(super) enum IncreaseWork {
    /// What finds the key that asks; `None` if no key can be meant.
    Request(Option<(KeyColumn, Arc<str>)>, IncreaseRequest),
    List(IncreaseFilter),
    Decide(i64, IncreaseDecision, Look),
}

impl IncreaseWork {
    pub(super) fn look(&mut self) -> Option<&mut Look> {
        match self {
            IncreaseWork::Decide(_, _, look) => Some(look),
            IncreaseWork::Request(..) | IncreaseWork::List(_) => None,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, IncreaseWork::Decide(_, _, look) if look.is_waiting)
    }

    pub(super) fn plan(&self, statements: &Statements) -> Result<Plan, Error> {
        let shape = &statements.shape;
        shape.require(INCREASES)?;
        let send = |kind, params| Ok(Plan::Send(kind, statements.sql(kind), params));
        match self {
            IncreaseWork::Request(key, request) => {
                within_column(request.cents, shape)?;
                let refused = || requested(Err(IncreaseRefusal::new(IncreaseRefusalReason::InvalidKey)));
                let Some((column, text)) = key else { return Ok(Plan::Answer(refused())) };
                match column {
                    KeyColumn::Id if !shape.fits_id(text) => return Ok(Plan::Answer(refused())),
                    KeyColumn::Subject => shape.require(&[column.name()])?,
                    KeyColumn::Id | KeyColumn::KeyHash => {}
                }
                let by = |wanted: KeyColumn| (*column == wanted).then(|| text.to_string());
                let mut params = [KeyColumn::Id, KeyColumn::KeyHash, KeyColumn::Subject].map(by).to_vec();
                params.extend([
                    Some(request.cents.to_string()),
                    request.reason.clone(),
                    Some(request.lasts.as_secs().to_string()),
                    request.idempotency_key.clone(),
                ]);
                send(StatementKind::RequestIncrease, params)
            }
            IncreaseWork::List(filter) => match filter_params(filter, shape) {
                Some(params) => send(StatementKind::ListIncreases, params),
                None => Ok(Plan::Answer(Answer::Increases(Vec::new()))),
            },
            IncreaseWork::Decide(id, decision, look) => {
                decision.cents.map_or(Ok(()), |cents| within_column(cents, shape))?;
                let decider = decision.decider.as_ref().map(ToString::to_string);
                if decider.as_ref().is_some_and(|decider| !shape.fits_id(decider)) {
                    return Ok(Plan::Answer(unknown()));
                }
                let params = vec![
                    Some(id.to_string()),
                    Some(decision.approve.to_string()),
                    decision.cents.map(|cents| cents.to_string()),
                    decision.expires_in.map(|time| time.as_secs().to_string()),
                    Some(decision.by.clone()),
                    decider,
                    look.is_waiting.then(|| "true".to_owned()),
                ];
                send(StatementKind::DecideIncrease, params)
            }
        }
    }

    pub(super) fn after(&self, rows: &[String], shape: &TableShape) -> Result<Next, Error> {
        let again = || Admin::Keys(KeyWork::Increases(Box::new(self.clone())));
        Ok(match self {
            IncreaseWork::List(_) => Next::Answer(Answer::Increases(read_json(rows)?)),
            IncreaseWork::Request(..) => match read_request(rows)? {
                Some(outcome) => Next::Answer(requested(outcome)),
                // Somebody else was faster: a new statement sees what was recorded.
                None => Next::Continue(again()),
            },
            IncreaseWork::Decide(..) if rows.is_empty() => Next::Answer(unknown()),
            IncreaseWork::Decide(..) => match read_decision(&rows[0], shape)? {
                Some(outcome) => Next::Answer(Answer::IncreaseDecided(Box::new(outcome))),
                None => Next::LookAgain(again()),
            },
        })
    }
}

fn requested(outcome: IncreaseOutcome) -> Answer {
    Answer::IncreaseRequested(Box::new(outcome))
}

fn unknown() -> Answer {
    let refusal = IncreaseRefusal::new(IncreaseRefusalReason::UnknownRequest);
    Answer::IncreaseDecided(Box::new(Err(refusal)))
}

fn within_column(cents: i64, shape: &TableShape) -> Result<(), Error> {
    let most = shape.max_cents();
    if cents <= most {
        return Ok(());
    }
    let message = format!("Invalid cents: {cents}; the most that the table holds is {most}");
    Err(Error::new(ErrorCode::InvalidBudget, message))
}
