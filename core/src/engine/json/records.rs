//! Keys as their owner sees them, as JSON.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answers::{Success, json};
use super::keys::KeyLimitJson;
use super::object::Object;
use crate::budget::limit::LimitState;
use crate::duration;
use crate::error::Error;
use crate::id::{AccountId, KeyId};
use crate::key::record::{KeyFilter, KeyRecord, KeyUpdate};
use crate::time::write_optional_time;

/// Which keys are listed, as it is written.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct KeyFilterJson {
    account_id: Option<AccountId>,
    parent: Option<KeyId>,
    delegated_by: Option<String>,
    state: Option<String>,
    scope: Option<String>,
    metadata: Option<Map<String, Value>>,
    over_share: Option<f64>,
    after: Option<KeyId>,
    limit: Option<u32>,
}

impl KeyFilterJson {
    pub(super) fn read(self) -> Result<KeyFilter, Error> {
        Ok(KeyFilter {
            account_id: self.account_id,
            parent: self.parent,
            delegated_by: self.delegated_by,
            state: self.state.map(|state| state.parse()).transpose()?,
            scope: self.scope,
            metadata: self.metadata,
            over_share: self.over_share,
            after: self.after,
            limit: self.limit,
        })
    }
}

/// What is changed, as it is written: `null` is a value.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct KeyUpdateJson {
    name: Option<String>,
    #[serde(deserialize_with = "super::requests::given")]
    scopes: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "super::requests::given")]
    budget_cents: Option<Option<i64>>,
    #[serde(deserialize_with = "super::requests::given")]
    budget_period: Option<Option<String>>,
    limits: Option<Vec<KeyLimitJson>>,
    #[serde(deserialize_with = "super::requests::given")]
    expires_in: Option<Option<String>>,
    #[serde(deserialize_with = "super::requests::given")]
    metadata: Option<Option<Map<String, Value>>>,
}

impl KeyUpdateJson {
    pub(super) fn read(self) -> Result<KeyUpdate, Error> {
        let period = |period: Option<String>| period.map(|period| period.parse()).transpose();
        Ok(KeyUpdate {
            name: self.name,
            scopes: self.scopes,
            budget_cents: self.budget_cents,
            budget_period: self.budget_period.map(period).transpose()?,
            limits: self.limits.map(KeyLimitJson::read_all).transpose()?,
            expires_in: self.expires_in.map(|text| duration::read(text.as_deref())).transpose()?,
            metadata: self.metadata,
            disabled: None,
        })
    }
}

/// The members of an update, checked for names that are none.
pub(super) type Changes = Object<KeyUpdateJson>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(flatten)]
    grant: Success<'a>,
    reason: Option<&'static str>,
    limits: &'a [LimitState],
    key_prefix: &'a str,
    parent_id: &'a Option<KeyId>,
    external_subject: &'a Option<String>,
    #[serde(serialize_with = "write_optional_time")]
    created_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "write_optional_time")]
    last_used_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "write_optional_time")]
    disabled_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "write_optional_time")]
    revoked_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "write_optional_time")]
    previous_expires_at: Option<DateTime<Utc>>,
    budget_boost_cents: Option<i64>,
    #[serde(serialize_with = "write_optional_time")]
    budget_boost_until: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Option<Value>>,
}

impl<'a> Record<'a> {
    fn of(record: &'a KeyRecord, exact: bool) -> Self {
        Record {
            grant: Success::of_any(&record.grant, exact),
            reason: record.reason.map(|reason| reason.as_str()),
            limits: &record.limits,
            key_prefix: &record.key_prefix,
            parent_id: &record.parent_id,
            external_subject: &record.external_subject,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            disabled_at: record.disabled_at,
            revoked_at: record.revoked_at,
            previous_expires_at: record.previous_expires_at,
            budget_boost_cents: record.budget_boost_cents,
            budget_boost_until: record.budget_boost_until,
            metadata: Some(&record.metadata),
        }
    }
}

/// What the holder of a key above it may know: not what the application keeps with it.
fn for_holder(record: &KeyRecord) -> Record<'_> {
    Record { metadata: None, ..Record::of(record, false) }
}

pub(crate) fn record_for_holder(record: &KeyRecord) -> String {
    json(&for_holder(record))
}

/// A page, and what to go on after if there may be more.
pub(crate) fn records_for_holder<'a>(
    records: impl IntoIterator<Item = &'a KeyRecord>,
    next: Option<&KeyId>,
) -> String {
    #[derive(Serialize)]
    struct Page<'a> {
        keys: Vec<Record<'a>>,
        next: Option<&'a KeyId>,
    }
    json(&Page { keys: records.into_iter().map(for_holder).collect(), next })
}

pub(super) fn record(record: Option<&KeyRecord>, exact: bool) -> String {
    json(&record.map(|record| Record::of(record, exact)))
}

pub(super) fn records(records: &[KeyRecord], exact: bool) -> String {
    json(&records.iter().map(|record| Record::of(record, exact)).collect::<Vec<_>>())
}
