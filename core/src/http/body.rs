//! Request bodies: what JSON must look like. A member that is `null` counts as absent; unknown members are ignored.

use std::time::Duration;

use serde_json::{Map, Value};

use super::response::Response;
use crate::budget::money::MAX_CENTS;
use crate::budget::period::Period;
use crate::duration;

/// A request's body, as far as the binding got with it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// There was none.
    Missing,
    /// There was something, but no JSON.
    Unreadable,
    /// There was more than [`MOST_BYTES`](Body::MOST_BYTES).
    TooLarge,
    /// JSON of any type.
    Json(Value),
}

const LONGEST_TEXT: usize = 200;
const MOST_SCOPES: usize = 100;

impl Body {
    /// The longest body that is read.
    pub const MOST_BYTES: usize = 100 * 1024;

    /// Reads what was sent.
    pub fn read(bytes: &[u8]) -> Self {
        if bytes.len() > Self::MOST_BYTES { Body::TooLarge } else { Self::parsed(bytes) }
    }

    /// Reads what the application's own parser let pass, which has a bound of its own.
    pub fn parsed(json: &[u8]) -> Self {
        match json {
            [] => Body::Missing,
            _ => serde_json::from_slice(json).map_or(Body::Unreadable, Body::Json),
        }
    }

    /// The members of an object.
    pub(super) fn members(&self) -> Result<&Map<String, Value>, Response> {
        match self {
            Body::Json(Value::Object(members)) => Ok(members),
            Body::Json(_) => Err(Response::bad_request("The body must be a JSON object")),
            Body::TooLarge => Err(Response::body_too_large()),
            Body::Unreadable => Err(Response::bad_request("The body is not valid JSON")),
            Body::Missing => Err(Response::bad_request("The body is missing: a JSON object is expected")),
        }
    }
}

/// What both POST routes read. Scopes and periods are checked for their type here, for their meaning by the client.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) scopes: Option<Vec<String>>,
    pub(super) budget_cents: Option<i64>,
    pub(super) budget_period: Option<Period>,
    pub(super) expires_in: Option<Lifetime>,
    pub(super) name: Option<String>,
}

/// A time to live, as it was written and as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) text: String,
    /// `None` is for ever: the text was empty.
    pub(super) duration: Option<Duration>,
}

impl Lifetime {
    pub(super) fn read(text: String) -> Result<Self, crate::Error> {
        Ok(Lifetime { duration: duration::read(Some(&text))?, text })
    }
}

impl Wanted {
    pub(super) fn read(members: &Map<String, Value>) -> Result<Self, Response> {
        let expires_in = match member(members, "expires_in") {
            None => None,
            Some(Value::String(text)) => {
                Some(Lifetime::read(text.clone()).map_err(|error| Response::bad_request(error.message()))?)
            }
            Some(_) => return Err(Response::bad_request("expires_in must be a string such as \"24h\"")),
        };
        Ok(Wanted {
            scopes: scopes(members)?,
            budget_cents: cents(members, "budget_cents")?,
            budget_period: match text(members, "budget_period")? {
                Some(period) => {
                    Some(period.parse().map_err(|e: crate::Error| Response::bad_request(e.message()))?)
                }
                None => None,
            },
            expires_in,
            name: text(members, "name")?,
        })
    }
}

pub(super) fn member<'m>(members: &'m Map<String, Value>, field: &str) -> Option<&'m Value> {
    members.get(field).filter(|value| !value.is_null())
}

fn text(members: &Map<String, Value>, field: &str) -> Result<Option<String>, Response> {
    match member(members, field) {
        None => Ok(None),
        Some(Value::String(text)) if is_storable(text) => Ok(Some(text.clone())),
        Some(_) => Err(Response::bad_request(&format!(
            "{field} must be a string of at most {LONGEST_TEXT} characters"
        ))),
    }
}

fn scopes(members: &Map<String, Value>) -> Result<Option<Vec<String>>, Response> {
    let Some(value) = member(members, "scopes") else { return Ok(None) };
    let scopes = value.as_array().filter(|list| list.len() <= MOST_SCOPES).and_then(|list| {
        let name =
            |value: &Value| value.as_str().filter(|s| !s.is_empty() && is_storable(s)).map(str::to_owned);
        list.iter().map(name).collect()
    });
    let wrong = || {
        let message = format!(
            "scopes must be an array of at most {MOST_SCOPES} strings, each of 1 to {LONGEST_TEXT} characters"
        );
        Response::bad_request(&message)
    };
    scopes.map(Some).ok_or_else(wrong)
}

pub(super) fn cents(members: &Map<String, Value>, field: &str) -> Result<Option<i64>, Response> {
    let Some(value) = member(members, field) else { return Ok(None) };
    // 500.0 and 5e2 are 500 in JSON, where JavaScript cannot even tell them apart.
    let whole =
        |number: f64| (number == number.trunc() && number.abs() <= MAX_CENTS as f64).then_some(number as i64);
    let cents = value.as_i64().or_else(|| value.as_f64().and_then(whole));
    match cents.filter(|cents| (0..=MAX_CENTS).contains(cents)) {
        Some(cents) => Ok(Some(cents)),
        None => Err(Response::bad_request(&format!("{field} must be a whole number from 0 to {MAX_CENTS}"))),
    }
}

fn is_storable(text: &str) -> bool {
    text.chars().count() <= LONGEST_TEXT && !text.contains('\0')
}
