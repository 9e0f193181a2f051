//! More budget over HTTP: an agent asks with its own key, and whoever holds an ancestor of it decides.

use serde::Serialize;
use serde_json::{Map, Value};

use super::body::{Body, cents, member};
use super::call::Call;
use super::response::{CREATED, Response, insufficient_scope};
use crate::budget::increase::{Increase, IncreaseDecision, IncreaseFilter, IncreaseRequest, read_lasts};
use crate::budget::increase_outcome::{IncreaseOutcome, IncreaseRefusal, IncreaseRefusalReason};
use crate::engine::ADMIN;
use crate::engine::json::json;
use crate::error::Error;
use crate::id::KeyId;
use crate::key::grant::Grant;

/// What a caller wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wish {
    /// More budget for its own key.
    Ask(Body),
    /// The requests of its key and of those that descend from it; with the query of the URL.
    List(String),
    /// To decide the request of a key that descends from its own.
    Decide(String, Body),
}

impl Wish {
    pub(super) fn call(self, caller: &Grant) -> Result<Call, Response> {
        match self {
            Wish::Ask(body) => {
                let members = body.members()?;
                let amount = cents(members, "cents")?.ok_or_else(|| missing("cents"))?;
                let mut request =
                    IncreaseRequest::new(amount, lasting(members, "for")?.ok_or_else(|| missing("for"))?);
                request.reason = string(members, "reason")?;
                request.idempotency_key = string(members, "idempotency_key")?;
                Ok(Call::RequestIncrease(caller.id.clone(), request))
            }
            Wish::List(query) => Ok(Call::ListIncreases(filter(&query)?.within(caller.id.clone()))),
            Wish::Decide(id, body) => {
                if !caller.has_scope(ADMIN) {
                    return Err(lacks_admin(caller));
                }
                let Ok(id) = id.parse() else { return Err(not_found()) };
                let members = body.members()?;
                let approve = member(members, "approve").and_then(Value::as_bool);
                let approve =
                    approve.ok_or_else(|| Response::bad_request("approve must be true or false"))?;
                let by = format!("key {}", caller.id);
                let mut decision = match approve {
                    true => IncreaseDecision::approve(by),
                    false => IncreaseDecision::deny(by),
                };
                decision.cents = cents(members, "cents")?;
                decision.expires_in = lasting(members, "expires_in")?;
                Ok(Call::DecideIncrease(id, decision.decider(caller.id.clone())))
            }
        }
    }
}

fn lacks_admin(caller: &Grant) -> Response {
    #[derive(Serialize)]
    struct Lacking<'a> {
        error: &'a str,
        required: &'a str,
        available: &'a Option<Vec<String>>,
    }
    let body = Lacking { error: "insufficient_scope", required: ADMIN, available: &caller.scopes };
    Response::new(403, json(&body)).with("WWW-Authenticate", insufficient_scope([ADMIN]))
}

fn missing(field: &str) -> Response {
    Response::bad_request(&format!("{field} is required"))
}

fn not_found() -> Response {
    Response::error(404, "Request not found")
}

fn string(members: &Map<String, Value>, field: &str) -> Result<Option<String>, Response> {
    match member(members, field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Response::bad_request(&format!("{field} must be a string"))),
    }
}

/// Seconds, or a text such as `2h`.
fn lasting(members: &Map<String, Value>, field: &str) -> Result<Option<std::time::Duration>, Response> {
    let refused = |error: Error| Response::bad_request(error.message());
    match member(members, field) {
        None => Ok(None),
        Some(Value::String(text)) => read_lasts(field, text).map(Some).map_err(refused),
        Some(value) => match value.as_u64() {
            Some(seconds) => Ok(Some(std::time::Duration::from_secs(seconds))),
            None => Err(Response::bad_request(&format!(
                "{field} must be a whole number of seconds, or a string such as \"2h\""
            ))),
        },
    }
}

/// Reads `state=pending&before=12&limit=100`. What else there is does not matter.
fn filter(query: &str) -> Result<IncreaseFilter, Response> {
    let mut filter = IncreaseFilter::new();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let whole = || Response::bad_request(&format!("{name} must be a whole number"));
        match name {
            "state" => {
                let state = value.parse().map_err(|error: Error| Response::bad_request(error.message()))?;
                filter.state = Some(state);
            }
            "before" => filter.before = Some(value.parse().map_err(|_| whole())?),
            "limit" => filter.limit = Some(value.parse().map_err(|_| whole())?),
            _ => {}
        }
    }
    Ok(filter)
}

/// The response to a list.
pub(super) fn listed(requests: &[Increase]) -> Response {
    Response::new(200, json(&requests))
}

/// The response to a request, where something new is `CREATED`, or to a decision.
pub(super) fn outcome(outcome: &IncreaseOutcome, is_new: bool) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Refused<'a> {
        error: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a Increase>,
        #[serde(skip_serializing_if = "Option::is_none")]
        limit_key_id: Option<&'a KeyId>,
    }
    match outcome {
        Ok(recorded) => {
            let status = if is_new && !recorded.replayed { CREATED } else { 200 };
            Response::new(status, json(&recorded.request))
        }
        Err(IncreaseRefusal { reason: IncreaseRefusalReason::UnknownRequest, .. }) => not_found(),
        Err(IncreaseRefusal { reason: IncreaseRefusalReason::InvalidKey, .. }) => {
            Response::bad_token("invalid")
        }
        Err(IncreaseRefusal { reason, request: None, .. })
            if matches!(
                reason,
                IncreaseRefusalReason::Revoked
                    | IncreaseRefusalReason::Disabled
                    | IncreaseRefusalReason::Expired
            ) =>
        {
            Response::bad_token(reason.as_str())
        }
        Err(refusal) => {
            let body = Refused {
                error: refusal.reason.as_str(),
                request: refusal.request.as_ref(),
                limit_key_id: refusal.limit_key_id.as_ref(),
            };
            Response::new(409, json(&body))
        }
    }
}
