//! What a route requires of a caller: a live key, with budget left and the scope that is asked for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::admission::Admission;
use super::clerk::Clerk;
use super::response::{Header, Response, insufficient_scope, seconds_until};
use crate::budget::period::Period;
use crate::budget::reservation::{DEFAULT_TTL, IfExpired, check_ttl, read_ttl};
use crate::engine::json::json;
use crate::engine::{Reservation, ReserveRefusalReason, Reserved};
use crate::error::{Error, ErrorCode};
use crate::key::grant::{Grant, Verdict};

/// What a handler requires of a caller, and what its requests cost. Make one per route and share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    pub(super) scopes: Vec<String>,
    pub(super) clerk: Option<Clerk>,
    pub(super) holds: bool,
    pub(super) prices: bool,
    pub(super) ttl: Duration,
    pub(super) if_expired: IfExpired,
    pub(super) bill_errors: bool,
    pub(super) is_double: bool,
    /// What a double's own rule says of the scope.
    pub(super) scope_said: Option<bool>,
    budget_headers: bool,
    exceeded_status: u16,
}

/// A caller who may pass.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Pass {
    /// The caller's key.
    pub grant: Grant,
    /// Headers for the handler's response; none unless they were asked for.
    pub headers: Vec<Header>,
    /// What is held for the request.
    pub reservation: Option<Reservation>,
}

impl Default for Guard {
    fn default() -> Self {
        Guard {
            scopes: Vec::new(),
            clerk: None,
            holds: false,
            prices: false,
            ttl: DEFAULT_TTL,
            if_expired: IfExpired::Release,
            bill_errors: false,
            is_double: false,
            scope_said: None,
            budget_headers: false,
            exceeded_status: 429,
        }
    }
}

impl Guard {
    /// Any live key passes.
    pub fn new() -> Self {
        Guard::default()
    }

    /// Only keys that may do `scope` pass. Called again, it asks for that one, too.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Whether one call looks a caller up and holds its estimate: that asks for one scope at most.
    pub(super) fn holds_at_once(&self) -> bool {
        !self.is_double && self.scopes.len() <= 1
    }

    /// Credentials are Clerk's.
    pub fn clerk(mut self, clerk: Clerk) -> Self {
        self.clerk = Some(clerk);
        self
    }

    /// Holds an estimate before the handler runs.
    pub fn holds(mut self, holds: bool) -> Self {
        self.holds = holds;
        self
    }

    /// Asks the application what a request did cost.
    pub fn prices(mut self, prices: bool) -> Self {
        self.prices = prices;
        self
    }

    /// Records the estimate of requests that end with an error, too.
    pub fn bill_errors(mut self, bill: bool) -> Self {
        self.bill_errors = bill;
        self
    }

    /// The client is an application's own double: it answers no grant with a hold.
    pub fn double(mut self, is_double: bool) -> Self {
        self.is_double = is_double;
        self
    }

    /// How long an estimate is held at most, such as `10m`.
    ///
    /// # Errors
    /// `invalid_duration` unless it is between a second and 30 days.
    pub fn ttl(self, ttl: &str) -> Result<Self, Error> {
        self.hold_for(read_ttl(ttl)?)
    }

    /// The same as a [`Duration`].
    ///
    /// # Errors
    /// `invalid_duration` unless it is between a second and 30 days.
    pub fn hold_for(mut self, ttl: Duration) -> Result<Self, Error> {
        check_ttl(ttl)?;
        self.ttl = ttl;
        Ok(self)
    }

    /// What an estimate is worth that nobody settles before its time is over.
    pub fn if_expired(mut self, worth: IfExpired) -> Self {
        self.if_expired = worth;
        self
    }

    /// Puts `RateLimit` and `RateLimit-Policy` headers for the budget on the responses of those who pass.
    pub fn budget_headers(mut self, wanted: bool) -> Self {
        self.budget_headers = wanted;
        self
    }

    /// What a request without budget is answered: 429, as by default, or 402. The clients of model vendors repeat a 429 by
    /// themselves.
    ///
    /// # Errors
    /// `invalid_text` for any other status.
    pub fn exceeded_status(mut self, status: u16) -> Result<Self, Error> {
        if ![402, 429].contains(&status) {
            let message = format!("Invalid status of an exceeded budget: {status}; expected 402 or 429");
            return Err(Error::new(ErrorCode::InvalidText, message));
        }
        self.exceeded_status = status;
        Ok(self)
    }

    /// A request that stands before it.
    pub fn admission(&self) -> Admission {
        Admission::new(self.clone())
    }

    /// Decides on what a look-up said.
    pub(super) fn decide(&self, verdict: Verdict, now: DateTime<Utc>) -> Result<Pass, Response> {
        let grant = verdict.map_err(|denial| self.refused(Response::denied(&denial, now)))?;
        let may = |scope: &str| self.scope_said.unwrap_or_else(|| grant.has_scope(scope));
        match self.scopes.iter().find(|scope| !may(scope)) {
            Some(scope) => Err(lacks_scope(grant.scopes.as_deref(), scope)),
            None => Ok(self.pass(grant, None, now)),
        }
    }

    /// Decides on what a hold said, which looked the key and its scope up itself.
    pub(super) fn decide_held(&self, reserved: Reserved, now: DateTime<Utc>) -> Result<Pass, Response> {
        match reserved {
            Ok(reservation) => Ok(self.pass((*reservation.grant).clone(), Some(reservation), now)),
            Err(refusal) if refusal.reason == ReserveRefusalReason::InsufficientScope => {
                let available = refusal.key.as_ref().and_then(|key| key.scopes.as_deref());
                Err(lacks_scope(available, self.scopes.first().map_or("", String::as_str)))
            }
            Err(refusal) => Err(self.refused(Response::not_reserved(&refusal, now))),
        }
    }

    fn refused(&self, response: Response) -> Response {
        let status = if response.status == 429 { self.exceeded_status } else { response.status };
        Response { status, ..response }
    }

    fn pass(&self, grant: Grant, reservation: Option<Reservation>, now: DateTime<Utc>) -> Pass {
        let headers = if self.budget_headers { budget_headers(&grant, now) } else { Vec::new() };
        Pass { grant, headers, reservation }
    }
}

fn lacks_scope(available: Option<&[String]>, required: &str) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'static str,
        required: &'a str,
        available: Option<&'a [String]>,
    }
    let body = Body { error: "insufficient_scope", required, available };
    Response::new(403, json(&body)).with("WWW-Authenticate", insufficient_scope([required]))
}

/// The budget as a rate limit (the IETF's draft). A window is named only where its length is fixed: months differ.
fn budget_headers(grant: &Grant, now: DateTime<Utc>) -> Vec<Header> {
    let (Some(cap), Some(remaining)) = (grant.budget_cents, grant.budget_remaining_cents) else {
        return Vec::new();
    };
    let period = grant.budget_period.as_deref().and_then(|period| period.parse::<Period>().ok());
    let window = period.and_then(Period::seconds).map(|seconds| format!(";w={seconds}")).unwrap_or_default();
    let reset = grant.budget_reset_at.map(|at| format!(";t={}", seconds_until(at, now))).unwrap_or_default();
    vec![
        ("RateLimit-Policy", format!("\"budget\";q={cap}{window}").into()),
        ("RateLimit", format!("\"budget\";r={remaining}{reset}").into()),
    ]
}
