//! Requests for more budget, with types.

use super::AgentKey;
use super::calls::{answer, mismatch};
use crate::engine::{
    Answer, Credential, Increase, IncreaseDecision, IncreaseFilter, IncreaseOutcome, IncreaseRequest, Request,
};
use crate::error::Error;

impl AgentKey {
    /// A key asks for more budget; nothing is raised until somebody decides it. A key has one open request: asking for the
    /// same again answers that one.
    ///
    /// # Errors
    /// `invalid_budget`, `invalid_duration` and `invalid_text` for what is asked, `migration_required`.
    pub async fn request_increase(
        &self,
        key: impl Into<Credential>,
        request: IncreaseRequest,
    ) -> Result<IncreaseOutcome, Error> {
        let request = Request::RequestIncrease(key.into(), request);
        answer!(self.call(request), Answer::IncreaseRequested(outcome) => *outcome)
    }

    /// Requests for more budget, the newest first.
    ///
    /// # Errors
    /// `migration_required`.
    pub async fn list_increases(&self, filter: IncreaseFilter) -> Result<Vec<Increase>, Error> {
        answer!(self.call(Request::ListIncreases(filter)), Answer::Increases(requests) => requests)
    }

    /// Decides a request. An approval raises the key's budget at once, for a while, and no further than the budgets of its
    /// ancestors. Of several decisions the first one stands; the others are told of it.
    ///
    /// # Errors
    /// `invalid_budget`, `invalid_duration` and `invalid_text` for the decision, `migration_required`.
    pub async fn decide_increase(
        &self,
        request_id: i64,
        decision: IncreaseDecision,
    ) -> Result<IncreaseOutcome, Error> {
        let request = Request::DecideIncrease(request_id, decision);
        answer!(self.call(request), Answer::IncreaseDecided(outcome) => *outcome)
    }
}
