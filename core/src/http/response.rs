//! Responses as data, and the headers that refusals share.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::engine::json::json;
use crate::engine::{ReserveRefusal, ReserveRefusalReason};
use crate::error::{Error, ErrorCode};
use crate::key::grant::{Denial, DenialReason};

/// A header's name and value.
pub type Header = (&'static str, Cow<'static, str>);

/// A response for the binding to send as it is.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// All of its headers, `Content-Type` included.
    pub headers: Vec<Header>,
    /// JSON.
    pub body: String,
    /// What failed on this side, for the log and never for the caller: only responses of status 500 have it.
    pub fault: Option<String>,
}

/// A body may be a new key: `Debug` shows none of these.
impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = if self.status == CREATED { "<redacted>" } else { &self.body };
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &body)
            .field("fault", &self.fault)
            .finish()
    }
}

/// The status of a response that holds a new key.
pub(super) const CREATED: u16 = 201;

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }

    pub(super) fn new(status: u16, body: String) -> Self {
        let headers = vec![
            ("Content-Type", Cow::Borrowed("application/json; charset=utf-8")),
            // What is answered depends on the credentials, and may be one.
            ("Cache-Control", Cow::Borrowed("no-store")),
        ];
        Response { status, headers, body, fault: None }
    }

    pub(super) fn error(status: u16, message: &str) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
        }
        Response::new(status, json(&Body { error: message }))
    }

    /// Input that cannot be served; the message names the field.
    pub(super) fn bad_request(message: &str) -> Self {
        Response::error(400, message)
    }

    pub(super) fn body_too_large() -> Self {
        Response::error(413, "The body is too large")
    }

    /// What is answered when this side fails in a way that nobody foresaw; `fault` is for the log.
    pub fn unexpected(fault: impl Into<String>) -> Self {
        Response { fault: Some(fault.into()), ..Response::error(500, "auth_unavailable") }
    }

    /// The caller presented nothing, so no `error` is named (RFC 6750, section 3.1).
    pub(super) fn no_token(message: &str) -> Self {
        Response::error(401, message).with("WWW-Authenticate", CHALLENGE)
    }

    /// The token that was presented is no good.
    pub(super) fn bad_token(message: &str) -> Self {
        Response::error(401, message)
            .with("WWW-Authenticate", format!("{CHALLENGE}, error=\"invalid_token\""))
    }

    /// A fault on this side fails closed. The caller learns nothing of it.
    pub(super) fn unavailable(error: &Error) -> Self {
        Response::unexpected(format!("{}: {}", error.code(), error.message()))
    }

    /// What a refused key is answered.
    pub(super) fn denied(denial: &Denial, now: DateTime<Utc>) -> Self {
        let reason = denial.reason.as_str();
        match denial.reason {
            DenialReason::Invalid
            | DenialReason::Revoked
            | DenialReason::Disabled
            | DenialReason::Expired => Response::bad_token(reason),
            DenialReason::BudgetExceeded => {
                let response = Response::error(429, reason);
                match denial.limit.as_ref().and_then(|limit| limit.resets_at) {
                    Some(at) => response.retry_after(seconds_until(at, now)),
                    None => response,
                }
            }
        }
    }

    /// The answer to a request that nothing could be held for.
    pub(super) fn not_reserved(refusal: &ReserveRefusal, now: DateTime<Utc>) -> Self {
        let reason = match refusal.reason {
            ReserveRefusalReason::InvalidKey => DenialReason::Invalid,
            ReserveRefusalReason::Revoked => DenialReason::Revoked,
            ReserveRefusalReason::Disabled => DenialReason::Disabled,
            ReserveRefusalReason::Expired => DenialReason::Expired,
            ReserveRefusalReason::BudgetExceeded => DenialReason::BudgetExceeded,
            // The amount, the scope and the idempotency key are this side's.
            ReserveRefusalReason::InvalidCost
            | ReserveRefusalReason::InsufficientScope
            | ReserveRefusalReason::IdempotencyConflict
            | ReserveRefusalReason::AlreadySettled
            | ReserveRefusalReason::UnknownReservation => {
                let message = format!("cannot reserve: {}", refusal.reason);
                return Response::unavailable(&Error::new(ErrorCode::InvalidBudget, message));
            }
        };
        Response::denied(&Denial { reason, limit: refusal.limit.clone(), key: None }, now)
    }

    /// What a call that the client refused is answered: the input's fault is the caller's, all else is this side's.
    pub(super) fn failed(error: &Error) -> Self {
        match error.code() {
            // The accounts of new keys are chosen on this side: one that does not fit the table is no input of the caller.
            ErrorCode::InvalidAccountId => Response::unavailable(error),
            code if code.is_bad_input() => Response::bad_request(error.message()),
            _ => Response::unavailable(error),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn retry_after(self, seconds: i64) -> Self {
        self.with("Retry-After", seconds.max(1).to_string())
    }
}

const CHALLENGE: &str = "Bearer realm=\"agentkey\"";

/// The challenge of a 403. Scopes that a header cannot carry are left out of it; the body names them anyway.
pub(super) fn insufficient_scope<'s>(scopes: impl IntoIterator<Item = &'s str>) -> String {
    const LONGEST: usize = 500;
    let mut scope = String::new();
    for name in scopes {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            continue;
        }
        if !scope.is_empty() {
            scope.push(' ');
        }
        for c in name.chars() {
            if matches!(c, '"' | '\\') {
                scope.push('\\');
            }
            scope.push(c);
        }
    }
    if scope.is_empty() || scope.len() > LONGEST {
        return format!("{CHALLENGE}, error=\"insufficient_scope\"");
    }
    format!("{CHALLENGE}, error=\"insufficient_scope\", scope=\"{scope}\"")
}

/// Whole seconds, rounded up, never below 0.
pub(super) fn seconds_until(at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    whole_seconds(at.signed_duration_since(now))
}

pub(super) fn whole_seconds(time: TimeDelta) -> i64 {
    let millis = time.num_milliseconds().max(0);
    millis / 1000 + i64::from(millis % 1000 > 0)
}
