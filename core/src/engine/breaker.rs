//! Breakers: a charge or reserve that would pass such a limit is refused, and its key switched off before the refusal is
//! answered.

use super::admin::{Admin, Next, Plan};
use super::batch::Pending;
use super::busy::Look;
use super::rows::{is_true, only_field};
use super::spends::Spending;
use super::{Answer, Engine, Limit};
use crate::error::Error;
use crate::table::template::{StatementKind, Statements};

/// A refusal that switches a key off.
#[derive(Debug, Clone)]
pub(super) struct Trip {
    key_id: String,
    /// The limit's row.
    limit_id: String,
    microcents: i64,
    refusal: Answer,
    pub(super) look: Look,
}

impl Trip {
    /// `None` if what refuses is no breaker.
    fn of(limit: Option<&Limit>, microcents: i64, refusal: &Answer) -> Option<Self> {
        let limit = limit?;
        let (key_id, limit_id) = (limit.key_id.to_string(), limit.breaker.as_ref()?.to_string());
        Some(Trip { key_id, limit_id, microcents, refusal: refusal.clone(), look: Look::default() })
    }

    pub(super) fn plan(&self, statements: &Statements) -> Plan {
        let params = vec![
            Some(self.key_id.clone()),
            Some(self.limit_id.clone()),
            Some(self.microcents.to_string()),
            self.look.is_waiting.then(|| self.key_id.clone()),
        ];
        Plan::Send(StatementKind::TripBreaker, statements.sql(StatementKind::TripBreaker), params)
    }

    pub(super) fn after(&self, rows: &[String]) -> Result<Next, Error> {
        let row = rows.first().ok_or_else(|| Error::unexpected("nothing of a limit"))?;
        Ok(match is_true(&only_field(row)) {
            true => Next::LookAgain(Admin::Trip(Box::new(self.clone()))),
            false => Next::Answer(self.refusal.clone()),
        })
    }

    /// Whether what one of them did settles the other: more of the same limit has no room either.
    fn settles(&self, other: &Trip) -> bool {
        self.limit_id == other.limit_id && self.microcents <= other.microcents
    }
}

impl Engine {
    /// Answers a spend. Where a breaker refuses it, the key is switched off first.
    pub(super) fn answer_spend(&mut self, request: Pending<Spending>, answer: Answer, limit: Option<&Limit>) {
        match Trip::of(limit, request.work.spend.amount(), &answer) {
            Some(trip) => self.route_admin(request.split().0, Admin::Trip(Box::new(trip))),
            None => self.answer_with(&request, answer),
        }
    }

    /// Many are refused at once: those that wait hear what the statement of one has done.
    pub(super) fn answer_refused_with(&mut self, trip: &Trip) {
        let waiting = std::mem::take(&mut self.lanes.admin.waiting);
        for request in waiting {
            match &request.work {
                Admin::Trip(other) if trip.settles(other) => {
                    let refusal = other.refusal.clone();
                    self.answer_with(&request, refusal);
                }
                _ => self.lanes.admin.waiting.push_back(request),
            }
        }
    }
}
