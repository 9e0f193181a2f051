//! Calls of the client: read from JSON, answered as JSON, in the shapes of the npm package.

use std::time::{Duration, SystemTime};

use agentkey::{
    AcceptedPeriods, AccountId, AgentKey, Align, Builder, Cost, CreateKey, Error, KeyId, Usage, Verdict,
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::Problem;
use super::fields::{Fields, text, texts};

#[derive(Debug, Clone)]
pub enum Call {
    Create(CreateKey),
    Validate(String),
    TrackUsage(String, Cost),
    Revoke(KeyId),
    RevokeOfAccount(KeyId, Option<AccountId>),
    EnsureSubject(String, CreateKey),
    ValidateBySubject(String),
    TrackUsageBySubject(String, Cost),
    HasScope(Option<Vec<String>>, String),
    ValidateScopes(Vec<String>),
    ExpiryFromDuration(Option<String>),
    Migrate,
    Construct(Value),
}

impl Call {
    /// Takes what the call needs; `None` if there is no call of this name.
    pub fn read(name: &str, fields: &mut Fields) -> Result<Option<Self>, Problem> {
        Ok(Some(match name {
            "create" => Call::Create(spec(fields.required("with")?)?),
            "validate" => Call::Validate(fields.text("key")?),
            "trackUsage" => Call::TrackUsage(fields.text("key")?, cost(&fields.required("costCents")?)?),
            "revoke" => {
                let id = key_id(fields.required("id")?)?;
                match fields.optional("accountId") {
                    None => Call::Revoke(id),
                    Some(Value::Null) => Call::RevokeOfAccount(id, None),
                    Some(account) => Call::RevokeOfAccount(id, Some(account_id(account)?)),
                }
            }
            "ensureSubject" => {
                let with = fields.optional("with").unwrap_or_else(|| json!({}));
                Call::EnsureSubject(fields.text("subject")?, spec(with)?)
            }
            "validateBySubject" => Call::ValidateBySubject(fields.text("subject")?),
            "trackUsageBySubject" => {
                Call::TrackUsageBySubject(fields.text("subject")?, cost(&fields.required("costCents")?)?)
            }
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
            "migrate" => Call::Migrate,
            "construct" => Call::Construct(fields.required("with")?),
            _ => return Ok(None),
        }))
    }

    /// The result, or the error, as JSON.
    pub async fn run(self, ak: &AgentKey) -> Result<Result<Value, Value>, Problem> {
        let answer = match self {
            Call::Create(spec) => ak.create(spec).await.map(|created| {
                json!({
                    "key": created.key.expose(),
                    "id": created.id,
                    "scopes": created.scopes,
                    "budgetCents": created.budget_cents,
                    "budgetPeriod": created.budget_period,
                    "expiresAt": created.expires_at,
                })
            }),
            Call::Validate(key) => ak.validate(&key).await.map(verdict),
            Call::TrackUsage(key, cost) => ak.track_usage(&key, cost).await.map(usage),
            Call::Revoke(id) => ak.revoke(id).await.map(Value::from),
            Call::RevokeOfAccount(id, account) => ak.revoke_of_account(id, account).await.map(Value::from),
            Call::EnsureSubject(subject, spec) => {
                ak.ensure_subject(&subject, spec).await.map(|()| Value::Null)
            }
            Call::ValidateBySubject(subject) => ak.validate_by_subject(&subject).await.map(verdict),
            Call::TrackUsageBySubject(subject, cost) => {
                ak.track_usage_by_subject(&subject, cost).await.map(usage)
            }
            Call::HasScope(scopes, scope) => Ok(agentkey::has_scope(scopes.as_deref(), &scope).into()),
            Call::ValidateScopes(scopes) => {
                let invalid = ak.invalid_scopes(&scopes);
                Ok(if invalid.is_empty() {
                    json!({ "valid": true })
                } else {
                    json!({ "valid": false, "invalid": invalid })
                })
            }
            Call::ExpiryFromDuration(duration) => {
                agentkey::seconds_until_expiry(duration.as_deref()).map(|seconds| {
                    json!(seconds.map(|s| DateTime::<Utc>::from(SystemTime::now() + Duration::from_secs(s))))
                })
            }
            Call::Migrate => ak.migrate().await.map(|()| Value::Null),
            Call::Construct(options) => client(&options, ak.pool().clone())?.map(|_| Value::Null),
        };
        Ok(answer.map_err(|error| json!({ "code": error.code().as_str(), "message": error.message() })))
    }
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
    if let Some(seconds) = fields.optional_count("touchIntervalSeconds")? {
        builder = builder.touch_interval_seconds(u32::try_from(seconds).map_err(|e| e.to_string())?);
    }
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

fn spec(value: Value) -> Result<CreateKey, Problem> {
    let mut fields = Fields::read(value)?;
    let given = |value: &Value| !value.is_null();
    let spec = CreateKey {
        account_id: fields
            .optional("accountId")
            .filter(given)
            .map(account_id)
            .transpose()?
            .map(|a| a.to_string()),
        user_id: fields.nullable_text("userId")?,
        scopes: fields.optional("scopes").filter(given).map(texts).transpose()?,
        budget_cents: fields.optional("budgetCents").filter(given).map(whole).transpose()?,
        budget_period: fields.nullable_text("budgetPeriod")?,
        expires_in: fields.nullable_text("expiresIn")?,
        delegated_by: fields.nullable_text("delegatedBy")?,
        name: fields.nullable_text("name")?,
    };
    fields.finish()?;
    Ok(spec)
}

fn whole(value: Value) -> Result<i64, Problem> {
    value.as_i64().ok_or_else(|| format!("not a whole number: {value}"))
}

fn key_id(value: Value) -> Result<KeyId, Problem> {
    if value.is_number() { whole(value).map(KeyId::Integer) } else { text(value).map(KeyId::Text) }
}

fn account_id(value: Value) -> Result<AccountId, Problem> {
    if value.is_number() { whole(value).map(AccountId::Integer) } else { text(value).map(AccountId::Text) }
}

fn cost(value: &Value) -> Result<Cost, Problem> {
    if let Some(cents) = value.as_i64() {
        return Ok(Cost::cents(cents));
    }
    let number = match value.get("$number").and_then(Value::as_str) {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    };
    number.map(Cost::from_cents_f64).ok_or_else(|| format!("not a cost: {value}"))
}

fn verdict(verdict: Verdict) -> Value {
    let (valid, members) = match verdict {
        Ok(grant) => (true, json!(grant)),
        Err(denial) => (false, json!(denial)),
    };
    let mut members = members;
    members["valid"] = valid.into();
    members
}

fn usage(usage: Usage) -> Value {
    match usage {
        Usage::Recorded { budget_used_cents, budget_remaining_cents } => json!({
            "success": true,
            "budgetUsedCents": budget_used_cents,
            "budgetRemainingCents": budget_remaining_cents,
        }),
        Usage::Free => json!({ "success": true }),
        Usage::Refused(refusal) => json!({ "success": false, "reason": refusal.as_str() }),
        other => json!({ "unknown": format!("{other:?}") }),
    }
}
