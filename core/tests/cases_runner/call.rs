//! Calls of the client: read from JSON, answered as JSON, in the shapes of the npm package.

use std::time::{Duration, SystemTime};

use agentkey::gate::wire;
use agentkey::{
    AcceptedPeriods, AccountId, AgentKey, Align, Builder, Charge, Cost, CreateKey, Error, EventFilter, KeyId,
    Overrun, Parent, ReservationId, Reserve, RevokeFilter, Rounding, UsageFilter,
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
    TrackUsage(String, Charge),
    Revoke(KeyId),
    RevokeOfAccount(KeyId, Option<AccountId>),
    EnsureSubject(String, CreateKey),
    ValidateBySubject(String),
    TrackUsageBySubject(String, Charge),
    Reserve(String, Reserve),
    ReserveBySubject(String, Reserve),
    Settle(String, Cost),
    Release(String),
    Extend(String, String),
    Sweep,
    RevokeAll(RevokeFilter),
    Events(EventFilter),
    Usage(UsageFilter),
    VerifyLedger(Option<KeyId>),
    PruneEvents(u64),
    HasScope(Option<Vec<String>>, String),
    ValidateScopes(Vec<String>),
    ExpiryFromDuration(Option<String>),
    Migrate,
    Construct(Value),
}

impl Call {
    /// Takes what the call needs; `None` if there is no call of this name.
    pub fn read(name: &str, fields: &mut Fields, rounding: Rounding) -> Result<Option<Self>, Problem> {
        Ok(Some(match name {
            "create" => Call::Create(spec(fields.required("with")?)?),
            "validate" => Call::Validate(fields.text("key")?),
            "trackUsage" => Call::TrackUsage(fields.text("key")?, charge(fields, rounding)?),
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
                Call::TrackUsageBySubject(fields.text("subject")?, charge(fields, rounding)?)
            }
            "reserve" => Call::Reserve(fields.text("key")?, reserve(fields, rounding)?),
            "reserveBySubject" => Call::ReserveBySubject(fields.text("subject")?, reserve(fields, rounding)?),
            "settle" => Call::Settle(fields.text("id")?, cost_of(fields, rounding)?),
            "release" => Call::Release(fields.text("id")?),
            "extend" => Call::Extend(fields.text("id")?, fields.text("ttl")?),
            "sweepReservations" => Call::Sweep,
            "revokeAll" => Call::RevokeAll(revoke_filter(fields.required("filter")?)?),
            "events" => Call::Events(from_json(with_text_ids(fields.required("filter")?))?),
            "usage" => Call::Usage(from_json(with_text_ids(fields.required("filter")?))?),
            "verifyLedger" => Call::VerifyLedger(fields.optional("id").map(key_id).transpose()?),
            "pruneEvents" => Call::PruneEvents(
                u64::try_from(whole(fields.required("olderThanSeconds")?)?).map_err(|e| e.to_string())?,
            ),
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
        let exact = ak.options().rounding == Rounding::Exact;
        let answer = match self {
            Call::Create(spec) => ak
                .create(spec)
                .await
                .map(|created| wired(wire::created(created.key.expose(), &created.row()))),
            Call::Validate(key) => {
                ak.validate(&key).await.map(|verdict| wired(wire::verdict(&verdict, exact)))
            }
            Call::TrackUsage(key, charge) => {
                ak.track_usage(&key, charge).await.map(|usage| wired(wire::usage(&usage, exact)))
            }
            Call::Reserve(key, reserve) => {
                ak.reserve(&key, reserve).await.map(|held| wired(wire::reserved(&held, exact)))
            }
            Call::ReserveBySubject(subject, reserve) => {
                ak.reserve_by_subject(&subject, reserve).await.map(|held| wired(wire::reserved(&held, exact)))
            }
            Call::Settle(id, cost) => match ReservationId::parse(&id) {
                Some(id) => ak.settle(&id, cost).await.map(|done| wired(wire::settled(&done, exact))),
                None => Ok(unknown_reservation()),
            },
            Call::Release(id) => match ReservationId::parse(&id) {
                Some(id) => ak.release(&id).await.map(|done| wired(wire::released(&done))),
                None => Ok(unknown_reservation()),
            },
            Call::Extend(id, ttl) => match ReservationId::parse(&id) {
                Some(id) => ak.extend(&id, &ttl).await.map(|done| wired(wire::extended(&done))),
                None => Ok(unknown_reservation()),
            },
            Call::Sweep => ak.sweep_reservations().await.map(Value::from),
            Call::RevokeAll(filter) => ak.revoke_all(filter).await.map(Value::from),
            Call::Events(filter) => ak.events(filter).await.map(|events| json!(events)),
            Call::Usage(filter) => ak.usage(filter).await.map(|usage| json!(usage)),
            Call::VerifyLedger(id) => ak.verify_ledger(id).await.map(|found| json!(found)),
            Call::PruneEvents(seconds) => {
                ak.prune_events(Duration::from_secs(seconds)).await.map(Value::from)
            }
            Call::Revoke(id) => ak.revoke(id).await.map(Value::from),
            Call::RevokeOfAccount(id, account) => ak.revoke_of_account(id, account).await.map(Value::from),
            Call::EnsureSubject(subject, spec) => {
                ak.ensure_subject(&subject, spec).await.map(|()| Value::Null)
            }
            Call::ValidateBySubject(subject) => {
                ak.validate_by_subject(&subject).await.map(|verdict| wired(wire::verdict(&verdict, exact)))
            }
            Call::TrackUsageBySubject(subject, charge) => ak
                .track_usage_by_subject(&subject, charge)
                .await
                .map(|usage| wired(wire::usage(&usage, exact))),
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
    if let Some(whole) = fields.optional("ledger") {
        builder = builder.ledger(whole == true);
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
        parent: fields.optional("parent").filter(given).map(parent).transpose()?,
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

fn cost(value: &Value, rounding: Rounding) -> Result<Cost, Problem> {
    if let Some(cents) = value.as_i64() {
        return Ok(Cost::cents(cents));
    }
    let number = match value.get("$number").and_then(Value::as_str) {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    };
    number
        .map(|cents| Cost::from_cents_f64_with(cents, rounding))
        .ok_or_else(|| format!("not a cost: {value}"))
}

/// What the wire's writers make, as JSON again.
fn wired(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or_else(|e| json!({ "unreadable": e.to_string() }))
}

fn unknown_reservation() -> Value {
    wired(wire::settled(&Err(agentkey::FinishRefusal::UnknownReservation), false))
}

/// The members of a charge.
fn charge(fields: &mut Fields, rounding: Rounding) -> Result<Charge, Problem> {
    let mut charge = Charge::new(cost_of(fields, rounding)?);
    if let Some(key) = fields.optional_text("idempotencyKey")? {
        charge = charge.idempotency_key(key);
    }
    if let Some(metadata) = fields.optional("metadata") {
        charge = charge.metadata(from_json(metadata)?);
    }
    match fields.optional_text("overrun")?.as_deref() {
        None | Some("reject") => Ok(charge),
        Some("record") => Ok(charge.overrun(Overrun::Record)),
        Some(other) => Err(format!("unknown overrun {other:?}")),
    }
}

fn reserve(fields: &mut Fields, rounding: Rounding) -> Result<Reserve, Problem> {
    let mut reserve = Reserve::new(cost_of(fields, rounding)?);
    if let Some(ttl) = fields.optional_text("ttl")? {
        reserve = reserve.ttl(ttl);
    }
    if let Some(key) = fields.optional_text("idempotencyKey")? {
        reserve = reserve.idempotency_key(key);
    }
    if let Some(metadata) = fields.optional("metadata") {
        reserve = reserve.metadata(from_json(metadata)?);
    }
    Ok(reserve)
}

/// One of `costCents`, `costMicrocents` and `costUsd`. Cents are rounded as the case's client rounds them.
fn cost_of(fields: &mut Fields, rounding: Rounding) -> Result<Cost, Problem> {
    if let Some(microcents) = fields.optional("costMicrocents") {
        return whole(microcents).map(Cost::microcents);
    }
    if let Some(usd) = fields.optional_text("costUsd")? {
        return Ok(Cost::from_usd(&usd));
    }
    cost(&fields.required("costCents")?, rounding)
}

fn revoke_filter(value: Value) -> Result<RevokeFilter, Problem> {
    let mut fields = Fields::read(with_text_ids(value))?;
    let filter = if let Some(account) = fields.optional_text("accountId")? {
        RevokeFilter::Account(account)
    } else if let Some(parent) = fields.optional_text("parent")? {
        RevokeFilter::Parent(parent)
    } else {
        RevokeFilter::DelegatedBy(fields.text("delegatedBy")?)
    };
    fields.finish()?;
    Ok(filter)
}

fn parent(value: Value) -> Result<Parent, Problem> {
    if let Some(subject) = value.get("subject").and_then(Value::as_str) {
        return Ok(Parent::Subject(subject.to_owned()));
    }
    match value {
        Value::String(raw) if raw.starts_with("ak_") => Ok(Parent::Key(raw)),
        other => key_id(other).map(Parent::from),
    }
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// Ids may be numbers in cases, and are text in filters.
fn with_text_ids(mut value: Value) -> Value {
    for name in ["keyId", "accountId", "parent"] {
        if let Some(id) = value.get_mut(name).filter(|id| id.is_number()) {
            *id = id.to_string().into();
        }
    }
    value
}
