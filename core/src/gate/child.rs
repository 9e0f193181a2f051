//! `POST /sdk-keys`: a caller makes a key that may do no more than its own, and not for longer.

use chrono::{DateTime, TimeDelta, Utc};

use super::body::{Body, Lifetime, Wanted};
use super::http::{Response, insufficient_scope};
use super::wire::timestamp;
use crate::delegation::Parent;
use crate::new_key::CreateKey;
use crate::verdict::Grant;

/// The key to create, of the caller's account, user and human.
pub(super) fn child_of(caller: &Grant, body: &Body, now: DateTime<Utc>) -> Result<CreateKey, Response> {
    let wanted = Wanted::read(body.members()?)?;
    let scopes = match wanted.scopes {
        Some(scopes) => {
            let lacking: Vec<&str> =
                scopes.iter().map(String::as_str).filter(|s| !caller.has_scope(s)).collect();
            if !lacking.is_empty() {
                let message = format!("Cannot grant scopes you do not have: {}", lacking.join(", "));
                return Err(forbidden(&message, lacking));
            }
            Some(scopes)
        }
        None => caller.scopes.clone(),
    };
    if let Some(cap) = caller.budget_cents
        && wanted.budget_cents.is_none_or(|cents| cents > cap)
    {
        return Err(forbidden(
            &format!("budget_cents is required, and at most your own budget of {cap}"),
            [],
        ));
    }
    if let Some(end) = caller.expires_at
        && !ends_by(end, wanted.expires_in.as_ref(), now)
    {
        let end = timestamp(&end);
        return Err(forbidden(
            &format!("expires_in is required, and may not pass your own expiry at {end}"),
            [],
        ));
    }
    Ok(CreateKey {
        account_id: caller.account_id.as_ref().map(ToString::to_string),
        user_id: caller.user_id.clone(),
        scopes,
        budget_cents: wanted.budget_cents,
        budget_period: wanted.budget_period,
        expires_in: wanted.expires_in.map(|lifetime| lifetime.text),
        delegated_by: caller.delegated_by.clone(),
        name: wanted.name,
        parent: Some(Parent::Caller(caller.id.to_string())),
    })
}

fn ends_by(end: DateTime<Utc>, lifetime: Option<&Lifetime>, now: DateTime<Utc>) -> bool {
    let seconds = lifetime.and_then(|lifetime| i64::try_from(lifetime.seconds?).ok());
    let child_end = seconds.and_then(TimeDelta::try_seconds).and_then(|delta| now.checked_add_signed(delta));
    child_end.is_some_and(|child_end| child_end <= end)
}

fn forbidden<'s>(message: &str, scopes: impl IntoIterator<Item = &'s str>) -> Response {
    Response::error(403, message).with("WWW-Authenticate", insufficient_scope(scopes))
}
