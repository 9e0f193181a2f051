//! Requests for more budget and their decisions, as JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answers::json;
use crate::budget::increase::{Increase, IncreaseDecision, IncreaseFilter, IncreaseRequest, read_lasts};
use crate::budget::increase_outcome::IncreaseOutcome;
use crate::error::Error;
use crate::id::{AccountId, KeyId};

/// How long: a number of seconds, or a text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum LastsJson {
    Seconds(u64),
    Text(String),
}

impl LastsJson {
    fn read(self, name: &str) -> Result<Duration, Error> {
        match self {
            LastsJson::Seconds(seconds) => Ok(Duration::from_secs(seconds)),
            LastsJson::Text(text) => read_lasts(name, &text),
        }
    }
}

/// What is asked for, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IncreaseRequestJson {
    cents: i64,
    r#for: LastsJson,
    reason: Option<String>,
    idempotency_key: Option<String>,
}

impl IncreaseRequestJson {
    pub(super) fn read(self) -> Result<IncreaseRequest, Error> {
        let lasts = self.r#for.read("for")?;
        let IncreaseRequestJson { cents, reason, idempotency_key, .. } = self;
        Ok(IncreaseRequest { cents, lasts, reason, idempotency_key })
    }
}

/// A decision, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IncreaseDecisionJson {
    approve: bool,
    cents: Option<i64>,
    expires_in: Option<LastsJson>,
    by: String,
    decider: Option<KeyId>,
}

impl IncreaseDecisionJson {
    pub(super) fn read(self) -> Result<IncreaseDecision, Error> {
        let expires_in = self.expires_in.map(|time| time.read("expiresIn")).transpose()?;
        let IncreaseDecisionJson { approve, cents, by, decider, .. } = self;
        Ok(IncreaseDecision { approve, cents, expires_in, by, decider })
    }
}

/// Which requests are listed, as it is written.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct IncreaseFilterJson {
    key_id: Option<KeyId>,
    account_id: Option<AccountId>,
    within: Option<KeyId>,
    state: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

impl IncreaseFilterJson {
    pub(super) fn read(self) -> Result<IncreaseFilter, Error> {
        Ok(IncreaseFilter {
            key_id: self.key_id,
            account_id: self.account_id,
            within: self.within,
            state: self.state.map(|state| state.parse()).transpose()?,
            before: self.before,
            limit: self.limit,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Recorded<'a> {
    success: bool,
    request: &'a Increase,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused<'a> {
    success: bool,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a Increase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_key_id: Option<&'a KeyId>,
}

pub(super) fn outcome(outcome: &IncreaseOutcome) -> String {
    match outcome {
        Ok(recorded) => json(&Recorded {
            success: true,
            request: &recorded.request,
            replayed: recorded.replayed.then_some(true),
        }),
        Err(refusal) => json(&Refused {
            success: false,
            reason: refusal.reason.as_str(),
            request: refusal.request.as_ref(),
            limit_key_id: refusal.limit_key_id.as_ref(),
        }),
    }
}
