//! Calls of the client: a step is passed on as the request that it is, and answered as JSON.

use std::time::{Duration, SystemTime};

use agentkey::chrono::{DateTime, Utc};
use agentkey::engine::{
    AcceptedPeriods, Align, Request, Rounding, error_json, has_scope, read_duration, timestamp,
};
use agentkey::{AgentKey, Builder, Error};
use serde_json::{Map, Value, json};
use sqlx::PgPool;

use super::Problem;
use super::fields::{Fields, text, texts};

/// What a step asks for.
#[derive(Debug, Clone)]
pub enum Call {
    /// Anything that a client answers; or why it is no request.
    Request(Result<Box<Request>, Value>),
    HasScope(Option<Vec<String>>, String),
    ValidateScopes(Vec<String>),
    ExpiryFromDuration(Option<String>),
    Construct(Value),
    Stats,
}

impl Call {
    /// Reads a step without its expectations.
    pub fn read(name: &str, mut fields: Fields, ak: &AgentKey) -> Result<Self, Problem> {
        let call = match name {
            "hasScope" => {
                // Of a result only the scopes matter.
                let scopes = match fields.required("result")?.get("scopes").cloned() {
                    None => return Err("a result without scopes".to_owned()),
                    Some(Value::Null) => None,
                    Some(scopes) => Some(texts(scopes)?),
                };
                Call::HasScope(scopes, fields.text("scope")?)
            }
            "validateScopes" => Call::ValidateScopes(texts(fields.required("scopes")?)?),
            "expiryFromDuration" => match fields.required("duration")? {
                Value::Null => Call::ExpiryFromDuration(None),
                duration => Call::ExpiryFromDuration(Some(text(duration)?)),
            },
            "construct" => Call::Construct(fields.required("with")?),
            "stats" => Call::Stats,
            _ => return request(name, fields.into_members(), ak),
        };
        fields.finish()?;
        Ok(call)
    }

    /// The result, or the error, as JSON.
    pub async fn run(self, ak: &AgentKey) -> Result<Result<Value, Value>, Problem> {
        let exact = ak.options().rounding == Rounding::Exact;
        match self {
            Call::Request(Err(error)) => Ok(Err(error)),
            Call::Request(Ok(request)) => match ak.call(*request).await {
                Ok(answer) => serde_json::from_str(&answer.json(exact)).map(Ok).map_err(|e| e.to_string()),
                Err(error) => Ok(Err(shown(&error))),
            },
            Call::HasScope(scopes, scope) => {
                let wildcards = ak.options().wildcards;
                Ok(Ok(has_scope(scopes.as_deref(), &scope, wildcards).into()))
            }
            Call::ValidateScopes(scopes) => {
                let invalid = ak.invalid_scopes(&scopes);
                Ok(Ok(match invalid.is_empty() {
                    true => json!({ "valid": true }),
                    false => json!({ "valid": false, "invalid": invalid }),
                }))
            }
            Call::ExpiryFromDuration(duration) => Ok(read_duration(duration.as_deref())
                .map(|duration: Option<Duration>| {
                    let at = duration.map(|d| DateTime::<Utc>::from(SystemTime::now() + d));
                    json!(at.as_ref().map(timestamp))
                })
                .map_err(|error| shown(&error))),
            Call::Stats => serde_json::from_str(&ak.stats().to_json()).map(Ok).map_err(|e| e.to_string()),
            Call::Construct(options) => {
                let made = client(&options, ak.pool().clone())?;
                Ok(made.map(|_| Value::Null).map_err(|error| shown(&error)))
            }
        }
    }
}

/// A step as a request. One that is none fails the case, unless it is a request whose values are no good.
fn request(name: &str, mut members: Map<String, Value>, ak: &AgentKey) -> Result<Call, Problem> {
    members.insert("op".to_owned(), name.into());
    members.values_mut().for_each(number_as_text);
    match ak.options().read_request(&Value::from(members).to_string()) {
        Ok(request) => Ok(Call::Request(Ok(Box::new(request)))),
        Err(error) if error.message().starts_with("Invalid request") => Err(error.message().to_owned()),
        Err(error) => Ok(Call::Request(Err(shown(&error)))),
    }
}

/// What JSON lacks: the core reads its name.
fn number_as_text(value: &mut Value) {
    if let Some(name) = value.get("$number").cloned() {
        *value = name;
    }
}

fn shown(error: &Error) -> Value {
    serde_json::from_str(&error_json(error)).unwrap_or_else(|e| json!({ "unreadable": e.to_string() }))
}

/// A client with these options.
pub fn client(options: &Value, pool: PgPool) -> Result<Result<AgentKey, Error>, Problem> {
    let mut fields = Fields::read(options.clone())?;
    let mut builder: Builder = AgentKey::builder();
    if let Some(name) = fields.optional_text("tableName")? {
        builder = builder.table_name(name);
    }
    if let Some(prefix) = fields.optional_text("keyPrefix")? {
        builder = builder.key_prefix(prefix);
    }
    if let Some(scopes) = fields.optional("validScopes") {
        builder = builder.valid_scopes(texts(scopes)?);
    }
    if let Some(format) = fields.optional_text("keyFormat")? {
        builder = builder.key_format(format.parse().map_err(|error: Error| error.to_string())?);
    }
    if let Some(lifetime) = fields.optional_text("defaultExpiresIn")? {
        let lifetime = read_duration(Some(&lifetime)).map_err(|error| error.to_string())?;
        builder = builder.default_expires_in(lifetime.ok_or("no duration")?);
    }
    if let Some(are_meant) = fields.optional_flag("wildcards")? {
        builder = builder.wildcards(are_meant);
    }
    if let Some(cents) = fields.optional_count("maxCostCents")? {
        builder = builder.max_cost_cents(cents.try_into().map_err(|_| "too much")?);
    }
    match fields.optional("touchIntervalSeconds") {
        None => {}
        Some(Value::Null) => builder = builder.touch_interval_seconds(None),
        Some(seconds) => {
            let seconds = seconds.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
            builder = builder.touch_interval_seconds(seconds.ok_or("not a count")?);
        }
    }
    if let Some(whole) = fields.optional("ledger") {
        builder = builder.ledger(whole == true);
    }
    if let Some(shares) = fields.optional("thresholds") {
        let shares: Vec<f64> = serde_json::from_value(shares.clone()).map_err(|error| error.to_string())?;
        builder = builder.thresholds(shares);
    }
    if let Some(seconds) = fields.optional_count("expiryNoticeSeconds")? {
        builder = builder.expiry_notice_seconds(seconds.try_into().map_err(|_| "too much")?);
    }
    if let Some(seconds) = fields.optional_count("staleHoldSeconds")? {
        builder = builder.stale_hold_seconds(seconds.try_into().map_err(|_| "too much")?);
    }
    builder = match fields.optional_text("rounding")?.as_deref() {
        None => builder,
        Some("exact") => builder.rounding(Rounding::Exact),
        Some(other) => return Err(format!("unknown rounding {other:?}")),
    };
    builder = match fields.optional_text("acceptedPeriods")?.as_deref() {
        None => builder,
        Some("all") => builder.accepted_periods(AcceptedPeriods::All),
        Some("dayAndMonth") => builder.accepted_periods(AcceptedPeriods::DayAndMonth),
        Some(other) => return Err(format!("unknown acceptedPeriods {other:?}")),
    };
    builder = match fields.optional_text("align")?.as_deref() {
        None => builder,
        Some("creation") => builder.align(Align::Creation),
        Some("calendar") => builder.align(Align::Calendar),
        Some(other) => return Err(format!("unknown align {other:?}")),
    };
    fields.finish()?;
    Ok(builder.pool(pool))
}
