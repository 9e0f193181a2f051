//! `POST /sdk-keys`: a caller makes a key that may do no more than its own, and not for longer. A key that is changed
//! keeps to the same bounds.

use std::time::Duration;

use super::body::{Body, Wanted};
use super::call::NewKey;
use super::response::{Response, insufficient_scope};
use crate::engine::timestamp;
use crate::error::{Error, ErrorCode};
use crate::key::delegation::Parent;
use crate::key::grant::Grant;
use crate::key::new_key::CreateKey;

/// The key to create, of the caller's account, user and human. Whether it would outlive the caller's is for the
/// database to say, by its clock.
pub(super) fn child_of(caller: &Grant, body: &Body) -> Result<NewKey, Response> {
    let wanted = Wanted::read(body.members()?)?;
    if let Some(scopes) = &wanted.scopes {
        may_grant(caller, scopes)?;
    }
    may_spend(caller, wanted.budget_cents)?;
    let lifetime = wanted.expires_in.as_ref().and_then(|lifetime| lifetime.duration);
    may_live(caller, lifetime)?;
    let spec = CreateKey {
        metadata: None,
        limits: Vec::new(),
        account_id: caller.account_id.clone(),
        user_id: caller.user_id.clone(),
        scopes: wanted.scopes.or_else(|| caller.scopes.clone()),
        budget_cents: wanted.budget_cents,
        budget_period: wanted.budget_period,
        expires_in: lifetime,
        delegated_by: caller.delegated_by.clone(),
        name: wanted.name,
        parent: Some(Parent::Caller(caller.id.to_string())),
    };
    Ok(NewKey { spec, expires_in: wanted.expires_in.map(|lifetime| lifetime.text) })
}

/// Only what the caller may do itself.
pub(super) fn may_grant(caller: &Grant, scopes: &[String]) -> Result<(), Response> {
    let lacking: Vec<&str> = scopes.iter().map(String::as_str).filter(|s| !caller.has_scope(s)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let message = format!("Cannot grant scopes you do not have: {}", lacking.join(", "));
    Err(forbidden(&message, lacking))
}

/// No more than the caller's own cap.
pub(super) fn may_spend(caller: &Grant, budget_cents: Option<i64>) -> Result<(), Response> {
    match caller.budget_cents {
        Some(cap) if budget_cents.is_none_or(|cents| cents > cap) => {
            let message = format!("budget_cents is required, and at most your own budget of {cap}");
            Err(forbidden(&message, []))
        }
        _ => Ok(()),
    }
}

/// Not for ever, where the caller's own time ends.
pub(super) fn may_live(caller: &Grant, lifetime: Option<Duration>) -> Result<(), Response> {
    match (caller.expires_at, lifetime) {
        (Some(end), None) => {
            let end = timestamp(&end);
            let message = format!("expires_in is required, and may not pass your own expiry at {end}");
            Err(forbidden(&message, []))
        }
        _ => Ok(()),
    }
}

/// The response where a child could not be made or changed. Its duration was read before: it is too long for the caller.
pub(super) fn child_failed(error: &Error) -> Response {
    match error.code() {
        ErrorCode::InvalidDuration => forbidden("expires_in may not pass your own expiry", []),
        _ => Response::failed(error),
    }
}

pub(super) fn forbidden<'s>(message: &str, scopes: impl IntoIterator<Item = &'s str>) -> Response {
    Response::error(403, message).with("WWW-Authenticate", insufficient_scope(scopes))
}
