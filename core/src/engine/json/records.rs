//! Keys as their owner sees them, as JSON.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::answers::json;
use super::object::Object;
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
    #[serde(deserialize_with = "super::requests::given")]
    expires_in: Option<Option<String>>,
}

impl KeyUpdateJson {
    pub(super) fn read(self) -> Result<KeyUpdate, Error> {
        let period = |period: Option<String>| period.map(|period| period.parse()).transpose();
        Ok(KeyUpdate {
            name: self.name,
            scopes: self.scopes,
            budget_cents: self.budget_cents,
            budget_period: self.budget_period.map(period).transpose()?,
            expires_in: self.expires_in.map(|text| duration::read(text.as_deref())).transpose()?,
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
    grant: Shown<'a>,
    reason: Option<&'static str>,
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
}

/// The members that `validate` answers of a live key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: &'a KeyId,
    account_id: &'a Option<AccountId>,
    user_id: &'a Option<String>,
    name: &'a str,
    scopes: &'a Option<Vec<String>>,
    budget_cents: Option<i64>,
    budget_used_cents: i64,
    budget_reserved_cents: i64,
    budget_remaining_cents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_used_microcents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_remaining_microcents: Option<i64>,
    budget_period: &'a Option<String>,
    #[serde(serialize_with = "write_optional_time")]
    budget_reset_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "write_optional_time")]
    expires_at: Option<DateTime<Utc>>,
    delegated_by: &'a Option<String>,
}

impl<'a> Record<'a> {
    fn of(record: &'a KeyRecord, exact: bool) -> Self {
        let grant = &record.grant;
        Record {
            grant: Shown {
                id: &grant.id,
                account_id: &grant.account_id,
                user_id: &grant.user_id,
                name: &grant.name,
                scopes: &grant.scopes,
                budget_cents: grant.budget_cents,
                budget_used_cents: grant.budget_used_cents,
                budget_reserved_cents: grant.budget_reserved_cents,
                budget_remaining_cents: grant.budget_remaining_cents,
                budget_used_microcents: exact.then_some(grant.budget_used_microcents),
                budget_remaining_microcents: grant.budget_remaining_microcents().filter(|_| exact),
                budget_period: &grant.budget_period,
                budget_reset_at: grant.budget_reset_at,
                expires_at: grant.expires_at,
                delegated_by: &grant.delegated_by,
            },
            reason: record.reason.map(|reason| reason.as_str()),
            key_prefix: &record.key_prefix,
            parent_id: &record.parent_id,
            external_subject: &record.external_subject,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            disabled_at: record.disabled_at,
            revoked_at: record.revoked_at,
        }
    }
}

pub(super) fn record(record: Option<&KeyRecord>, exact: bool) -> String {
    json(&record.map(|record| Record::of(record, exact)))
}

pub(super) fn records(records: &[KeyRecord], exact: bool) -> String {
    json(&records.iter().map(|record| Record::of(record, exact)).collect::<Vec<_>>())
}
