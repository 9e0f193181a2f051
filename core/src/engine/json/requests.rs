//! Requests as JSON: `{ "op": "trackUsage", "key": "ak_...", "costCents": 2 }`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::cost::read_cost;
use super::increases::{IncreaseDecisionJson, IncreaseFilterJson, IncreaseRequestJson};
use super::keys::{CreateKeyJson, KeyJson, Secret, credential, key_or_subject, secrets};
use super::object::Object;
use super::records::{Changes, KeyFilterJson};
use crate::budget::charge::Charge;
use crate::budget::ledger::{EventFilter, UsageFilter};
use crate::budget::reservation::{ReservationId, Reserve, read_ttl};
use crate::engine::deliveries::DeliveryFilter;
use crate::engine::options::Options;
use crate::engine::request::{AccountFilter, Request, Revocation, RevokeFilter};
use crate::engine::webhook::{DeliveryEnd, Webhook};
use crate::error::{Error, ErrorCode, shortened};
use crate::id::{AccountId, KeyId};
use crate::key::explanation::LEAST_COST;
use crate::key::record::KeyUpdate;
use crate::key::rotation::{DEFAULT_GRACE, Rotate, read_grace};
use crate::metadata::MAX_LEVELS;

/// A request as it is written. A member that is `null` counts as absent, except where it means something; a member that
/// is not known is refused.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum RequestJson {
    #[serde(alias = "validateBySubject", alias = "validateById")]
    Validate {
        key: Option<Secret>,
        subject: Option<String>,
        key_id: Option<KeyId>,
    },
    #[serde(alias = "trackUsageBySubject", alias = "trackUsageById")]
    TrackUsage {
        key: Option<Secret>,
        subject: Option<String>,
        key_id: Option<KeyId>,
        cost_cents: Option<Value>,
        cost_microcents: Option<Value>,
        cost_usd: Option<Value>,
        idempotency_key: Option<String>,
        overrun: Option<String>,
        metadata: Option<Map<String, Value>>,
    },
    #[serde(alias = "reserveBySubject", alias = "reserveById")]
    Reserve {
        key: Option<Secret>,
        subject: Option<String>,
        key_id: Option<KeyId>,
        cost_cents: Option<Value>,
        cost_microcents: Option<Value>,
        cost_usd: Option<Value>,
        ttl: Option<String>,
        if_expired: Option<String>,
        scope: Option<String>,
        idempotency_key: Option<String>,
        metadata: Option<Map<String, Value>>,
    },
    Settle {
        reservation_id: String,
        cost_cents: Option<Value>,
        cost_microcents: Option<Value>,
        cost_usd: Option<Value>,
    },
    Release {
        reservation_id: String,
    },
    Extend {
        reservation_id: String,
        ttl: String,
    },
    Refund {
        key_id: KeyId,
        cost_cents: Option<Value>,
        cost_microcents: Option<Value>,
        cost_usd: Option<Value>,
        idempotency_key: Option<String>,
        metadata: Option<Map<String, Value>>,
    },
    SweepReservations {},
    Create {
        with: Object<CreateKeyJson>,
    },
    EnsureSubject {
        subject: String,
        with: Option<Object<CreateKeyJson>>,
    },
    Get {
        key_id: KeyId,
    },
    #[serde(alias = "explainBySubject")]
    Explain {
        key: Option<KeyJson>,
        subject: Option<String>,
        cost_cents: Option<Value>,
        cost_microcents: Option<Value>,
        cost_usd: Option<Value>,
    },
    List {
        filter: Option<Object<KeyFilterJson>>,
    },
    Update {
        key_id: KeyId,
        with: Changes,
    },
    Disable {
        key_id: KeyId,
    },
    Enable {
        key_id: KeyId,
    },
    Rotate {
        key: KeyJson,
        grace: Option<GraceJson>,
        idempotency_key: Option<String>,
    },
    #[serde(alias = "requestIncreaseBySubject")]
    RequestIncrease {
        key: Option<KeyJson>,
        subject: Option<String>,
        with: Object<IncreaseRequestJson>,
    },
    ListIncreases {
        filter: Option<Object<IncreaseFilterJson>>,
    },
    DecideIncrease {
        request_id: i64,
        with: Object<IncreaseDecisionJson>,
    },
    Revoke {
        key_id: KeyId,
        #[serde(default, deserialize_with = "given")]
        account_id: Option<Option<AccountId>>,
        within: Option<KeyId>,
    },
    RevokeAll {
        filter: Object<RevokeFilterJson>,
    },
    Events {
        filter: Object<EventFilter>,
    },
    Usage {
        filter: Object<UsageFilterJson>,
    },
    VerifyLedger {
        key_id: Option<KeyId>,
    },
    PruneEvents {
        older_than_seconds: u64,
    },
    ClaimDeliveries {
        webhook: Object<WebhookJson>,
        most: Option<u32>,
    },
    EndDelivery {
        webhook: String,
        event_id: i64,
        attempt: u32,
        status: Option<u16>,
        error: Option<String>,
    },
    Deliveries {
        filter: Object<DeliveryFilter>,
    },
    Migrate {},
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WebhookJson {
    name: String,
    #[serde(deserialize_with = "secrets")]
    secrets: Vec<Secret>,
}

/// Tells `null` from a member that is not there.
pub(super) fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum RevokeFilterJson {
    AccountId(AccountId),
    Parent(KeyId),
    DelegatedBy(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UsageFilterJson {
    key_id: KeyId,
    from: Option<chrono::DateTime<chrono::Utc>>,
    to: Option<chrono::DateTime<chrono::Utc>>,
    by: Option<String>,
}

impl Options {
    /// Reads a request from its JSON.
    ///
    /// # Errors
    /// The code of the member that is no good; `invalid_text` for JSON that is no request.
    pub fn read_request(&self, json: &str) -> Result<Request, Error> {
        let Object::<RequestJson>(read) = serde_json::from_str(json).map_err(|e| {
            let why = e.to_string();
            // Only metadata may be nested.
            let message = match why.starts_with("recursion limit") {
                true => format!("Invalid metadata: nested more than {MAX_LEVELS} levels deep"),
                false => format!("Invalid request: {}", shortened(&why)),
            };
            Error::new(ErrorCode::InvalidText, message)
        })?;
        read.request(self)
    }
}

impl RequestJson {
    fn request(self, options: &Options) -> Result<Request, Error> {
        let rounding = options.rounding;
        Ok(match self {
            RequestJson::Validate { key, subject, key_id } => {
                Request::Validate(credential(key, subject, key_id)?)
            }
            RequestJson::TrackUsage {
                key,
                subject,
                key_id,
                cost_cents,
                cost_microcents,
                cost_usd,
                idempotency_key,
                overrun,
                metadata,
            } => {
                let mut charge = Charge::new(read_cost(cost_cents, cost_microcents, cost_usd, rounding)?);
                charge.idempotency_key = idempotency_key;
                charge.metadata = metadata;
                if let Some(overrun) = overrun {
                    charge.overrun = overrun.parse()?;
                }
                Request::Charge(credential(key, subject, key_id)?, charge)
            }
            RequestJson::Reserve {
                key,
                subject,
                key_id,
                cost_cents,
                cost_microcents,
                cost_usd,
                ttl,
                if_expired,
                scope,
                idempotency_key,
                metadata,
            } => {
                let mut reserve = Reserve::new(read_cost(cost_cents, cost_microcents, cost_usd, rounding)?);
                if let Some(ttl) = ttl {
                    reserve.ttl = read_ttl(&ttl)?;
                }
                if let Some(if_expired) = if_expired {
                    reserve.if_expired = if_expired.parse()?;
                }
                reserve.scope = scope;
                reserve.idempotency_key = idempotency_key;
                reserve.metadata = metadata;
                Request::Reserve(credential(key, subject, key_id)?, reserve)
            }
            RequestJson::Settle { reservation_id, cost_cents, cost_microcents, cost_usd } => Request::Settle(
                ReservationId::of_text(&reservation_id),
                read_cost(cost_cents, cost_microcents, cost_usd, rounding)?,
            ),
            RequestJson::Release { reservation_id } => {
                Request::Release(ReservationId::of_text(&reservation_id))
            }
            RequestJson::Extend { reservation_id, ttl } => {
                Request::Extend(ReservationId::of_text(&reservation_id), read_ttl(&ttl)?)
            }
            RequestJson::Refund {
                key_id,
                cost_cents,
                cost_microcents,
                cost_usd,
                idempotency_key,
                metadata,
            } => {
                let mut refund = Charge::new(read_cost(cost_cents, cost_microcents, cost_usd, rounding)?);
                refund.idempotency_key = idempotency_key;
                refund.metadata = metadata;
                Request::Refund(key_id, refund)
            }
            RequestJson::SweepReservations {} => Request::SweepReservations,
            RequestJson::Create { with: Object(with) } => {
                Request::Create(with.read(Some(&options.key_prefix))?)
            }
            RequestJson::EnsureSubject { subject, with } => {
                let spec = with
                    .map_or_else(CreateKeyJson::default, |Object(with)| with)
                    .read(Some(&options.key_prefix))?;
                Request::EnsureSubject(subject, spec)
            }
            RequestJson::Get { key_id } => Request::Get(key_id),
            RequestJson::Explain { key, subject, cost_cents, cost_microcents, cost_usd } => {
                let cost = match (&cost_cents, &cost_microcents, &cost_usd) {
                    (None, None, None) => LEAST_COST,
                    _ => read_cost(cost_cents, cost_microcents, cost_usd, rounding)?,
                };
                Request::Explain(key_or_subject(key, subject, &options.key_prefix)?, cost)
            }
            RequestJson::List { filter } => {
                Request::List(filter.map_or_else(KeyFilterJson::default, |Object(filter)| filter).read()?)
            }
            RequestJson::Update { key_id, with: Object(with) } => Request::Update(key_id, with.read()?),
            RequestJson::Disable { key_id } => Request::Update(key_id, KeyUpdate::new().disabled(true)),
            RequestJson::Enable { key_id } => Request::Update(key_id, KeyUpdate::new().disabled(false)),
            RequestJson::Rotate { key, grace, idempotency_key } => {
                let grace = grace.map_or(Ok(DEFAULT_GRACE), GraceJson::read)?;
                let rotate = Rotate { grace, idempotency_key };
                Request::Rotate(key.read(&options.key_prefix), rotate)
            }
            RequestJson::RequestIncrease { key, subject, with: Object(with) } => {
                Request::RequestIncrease(key_or_subject(key, subject, &options.key_prefix)?, with.read()?)
            }
            RequestJson::ListIncreases { filter } => {
                let filter = filter.map_or_else(IncreaseFilterJson::default, |Object(filter)| filter);
                Request::ListIncreases(filter.read()?)
            }
            RequestJson::DecideIncrease { request_id, with: Object(with) } => {
                Request::DecideIncrease(request_id, with.read()?)
            }
            RequestJson::Revoke { key_id, account_id, within } => {
                let account = account_id.map_or(AccountFilter::Any, AccountFilter::Only);
                Request::Revoke(Revocation { key_id, account, within })
            }
            RequestJson::RevokeAll { filter: Object(filter) } => Request::RevokeAll(match filter {
                RevokeFilterJson::AccountId(account) => RevokeFilter::Account(account),
                RevokeFilterJson::Parent(id) => RevokeFilter::Parent(id),
                RevokeFilterJson::DelegatedBy(human) => RevokeFilter::DelegatedBy(human),
            }),
            RequestJson::Events { filter: Object(filter) } => Request::Events(filter),
            RequestJson::Usage { filter: Object(UsageFilterJson { key_id, from, to, by }) } => {
                let by = by.as_deref().unwrap_or("day");
                let by = by.parse().map_err(|_| {
                    let message = format!("Invalid period: {}", shortened(by));
                    Error::new(ErrorCode::InvalidBudgetPeriod, message)
                })?;
                Request::Usage(UsageFilter { key_id, from, to, by })
            }
            RequestJson::VerifyLedger { key_id } => Request::VerifyLedger(key_id),
            RequestJson::PruneEvents { older_than_seconds } => {
                Request::PruneEvents(Duration::from_secs(older_than_seconds))
            }
            RequestJson::ClaimDeliveries { webhook: Object(WebhookJson { name, secrets }), most } => {
                let webhook = Webhook::new(name, secrets)?;
                Request::ClaimDeliveries(webhook, most.unwrap_or(10))
            }
            RequestJson::EndDelivery { webhook, event_id, attempt, status, error } => {
                let result = status.ok_or_else(|| error.unwrap_or_else(|| "no answer".to_owned()));
                Request::EndDelivery(DeliveryEnd { webhook, event_id, attempt, result })
            }
            RequestJson::Deliveries { filter: Object(filter) } => Request::Deliveries(filter),
            RequestJson::Migrate {} => Request::Migrate,
        })
    }
}

/// How long: a number of seconds, or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum GraceJson {
    Seconds(u64),
    Text(String),
}

impl GraceJson {
    fn read(self) -> Result<Duration, Error> {
        match self {
            GraceJson::Seconds(seconds) => Ok(Duration::from_secs(seconds)),
            GraceJson::Text(text) => read_grace(&text),
        }
    }
}
