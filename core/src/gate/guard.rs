//! The door before a handler: a live key, with budget left and the scope that is asked for.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::bearer::{Token, token};
use super::http::{Header, Response, insufficient_scope, seconds_until};
use super::wire::json;
use crate::error::Error;
use crate::period::Period;
use crate::reservation::{Reservation, Reserved};
use crate::verdict::{Grant, Verdict};

/// What a handler requires of a caller. Make one per route and share it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    scope: Option<String>,
    budget_headers: bool,
}

/// A caller who may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The caller's key.
    pub grant: Grant,
    /// Headers for the handler's response; none unless they were asked for.
    pub headers: Vec<Header>,
}

impl Guard {
    /// Any live key passes.
    pub fn new() -> Self {
        Guard::default()
    }

    /// Only keys that may do `scope` pass.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Puts `RateLimit` and `RateLimit-Policy` headers for the budget on the responses of those who pass.
    pub fn budget_headers(mut self, wanted: bool) -> Self {
        self.budget_headers = wanted;
        self
    }

    /// The key to look up.
    pub fn begin(&self, authorization: Option<&str>) -> Result<Token, Response> {
        token(authorization, "Missing API key")
    }

    /// Decides on what the look-up said.
    pub fn decide(&self, verdict: Result<Verdict, Error>, now: DateTime<Utc>) -> Result<Pass, Response> {
        let grant = verdict
            .map_err(|error| Response::unavailable(&error))?
            .map_err(|denial| Response::denied(&denial, now))?;
        if let Some(scope) = self.scope.as_deref().filter(|scope| !grant.has_scope(scope)) {
            return Err(lacks_scope(&grant, scope));
        }
        let headers = if self.budget_headers { budget_headers(&grant, now) } else { Vec::new() };
        Ok(Pass { grant, headers })
    }
}

/// What is held for a request whose cost is known only when its response has ended, or the response that refuses it.
pub fn held(reserved: Result<Reserved, Error>, now: DateTime<Utc>) -> Result<Reservation, Response> {
    reserved
        .map_err(|error| Response::unavailable(&error))?
        .map_err(|refused| Response::not_reserved(&refused, now))
}

fn lacks_scope(grant: &Grant, required: &str) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'static str,
        required: &'a str,
        available: &'a Option<Vec<String>>,
    }
    let body = Body { error: "insufficient_scope", required, available: &grant.scopes };
    Response::new(403, json(&body)).with("WWW-Authenticate", insufficient_scope([required]))
}

/// The budget as a rate limit (the IETF's draft). A window is named only where its length is fixed: months differ.
fn budget_headers(grant: &Grant, now: DateTime<Utc>) -> Vec<Header> {
    let (Some(cap), Some(remaining)) = (grant.budget_cents, grant.budget_remaining_cents) else {
        return Vec::new();
    };
    let window = match grant.budget_period.as_deref().map(str::parse) {
        Some(Ok(Period::Hour)) => ";w=3600",
        Some(Ok(Period::Day)) => ";w=86400",
        Some(Ok(Period::Week)) => ";w=604800",
        Some(Ok(Period::Month | Period::Year) | Err(_)) | None => "",
    };
    let reset = grant.budget_reset_at.map(|at| format!(";t={}", seconds_until(at, now))).unwrap_or_default();
    vec![
        ("RateLimit-Policy", format!("\"budget\";q={cap}{window}").into()),
        ("RateLimit", format!("\"budget\";r={remaining}{reset}").into()),
    ]
}
