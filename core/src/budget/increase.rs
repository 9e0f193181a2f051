//! More budget for a while: a key asks for it, and whoever may decide says yes or no.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::money::MAX_CENTS;
use crate::duration;
use crate::error::{Error, ErrorCode, check_idempotency_key, shortened, storable};
use crate::id::{AccountId, KeyId};
use crate::time::{write_optional_time, write_time};

/// A reason is for people to read.
const MAX_REASON_CHARS: usize = 2_000;
const MAX_DECIDER_CHARS: usize = 200;

/// A request for more budget.
///
/// ```
/// # use agentkey::engine::IncreaseRequest;
/// # use std::time::Duration;
/// let more = IncreaseRequest::new(500, Duration::from_secs(3_600)).reason("twice as many pages as expected");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncreaseRequest {
    /// How much more, in cents.
    pub cents: i64,
    /// How long it is to last, from when it is approved.
    pub lasts: Duration,
    /// Why, for whoever decides.
    pub reason: Option<String>,
    /// Names this request: a second one under it is the first one, also once that is decided.
    pub idempotency_key: Option<String>,
}

impl IncreaseRequest {
    /// So many cents more, for so long.
    pub fn new(cents: i64, lasts: Duration) -> Self {
        IncreaseRequest { cents, lasts, reason: None, idempotency_key: None }
    }

    /// Says why.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Names this request.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_cents(self.cents)?;
        check_lasts("for", self.lasts)?;
        if let Some(reason) = &self.reason {
            check_text("reason", reason, MAX_REASON_CHARS)?;
        }
        check_idempotency_key(self.idempotency_key.as_deref())
    }
}

/// A decision of a request.
///
/// ```
/// # use agentkey::engine::IncreaseDecision;
/// let yes = IncreaseDecision::approve("ana@example.com").cents(300);
/// let no = IncreaseDecision::deny("ana@example.com");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncreaseDecision {
    /// Whether the budget is raised.
    pub approve: bool,
    /// By how much, in cents; `None` is as much as was asked for.
    pub cents: Option<i64>,
    /// For how long from now; `None` is as long as was asked for.
    pub expires_in: Option<Duration>,
    /// Who decides, for the ledger.
    pub by: String,
    /// The key that decides: it must be a live ancestor of the one that asked. `None` is the application itself.
    pub decider: Option<KeyId>,
}

impl IncreaseDecision {
    /// Approves what was asked for.
    pub fn approve(by: impl Into<String>) -> Self {
        IncreaseDecision { approve: true, cents: None, expires_in: None, by: by.into(), decider: None }
    }

    /// Denies it.
    pub fn deny(by: impl Into<String>) -> Self {
        IncreaseDecision { approve: false, ..IncreaseDecision::approve(by) }
    }

    /// Approves another amount.
    pub fn cents(mut self, cents: i64) -> Self {
        self.cents = Some(cents);
        self
    }

    /// Approves another time.
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }

    /// Decides in the name of a key, which must be a live ancestor of the one that asked.
    pub fn decider(mut self, key: impl Into<KeyId>) -> Self {
        self.decider = Some(key.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_text("by", &self.by, MAX_DECIDER_CHARS)?;
        if !self.approve && (self.cents.is_some() || self.expires_in.is_some()) {
            let message = "Invalid decision: cents and expiresIn are only for an approval";
            return Err(Error::new(ErrorCode::InvalidText, message));
        }
        self.cents.map_or(Ok(()), check_cents)?;
        self.expires_in.map_or(Ok(()), |time| check_lasts("expiresIn", time))
    }
}

fn check_cents(cents: i64) -> Result<(), Error> {
    if (1..=MAX_CENTS).contains(&cents) {
        return Ok(());
    }
    let message = format!("Invalid cents: {cents}; it must be a whole number from 1 to {MAX_CENTS}");
    Err(Error::new(ErrorCode::InvalidBudget, message))
}

fn check_lasts(name: &str, time: Duration) -> Result<(), Error> {
    if time < Duration::from_secs(1) {
        let message = format!("Invalid duration: {name} must be a second at least");
        return Err(Error::new(ErrorCode::InvalidDuration, message));
    }
    duration::check(time)
}

fn check_text(name: &str, text: &str, most: usize) -> Result<(), Error> {
    storable(name, text)?;
    if text.trim().is_empty() || text.chars().count() > most {
        let message = format!("Invalid {name}: it must have 1 to {most} characters");
        return Err(Error::new(ErrorCode::InvalidText, message));
    }
    Ok(())
}

/// Reads how long, such as `90s`, `2h` or `1d`.
pub(crate) fn read_lasts(name: &str, text: &str) -> Result<Duration, Error> {
    duration::read_with_seconds(text)?.ok_or_else(|| {
        let message = format!("Invalid duration: {name} is digits and s, m, h, d or mo");
        Error::new(ErrorCode::InvalidDuration, message)
    })
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IncreaseState {
    /// Nobody has decided it.
    Pending,
    /// The budget was raised.
    Approved,
    /// It was not.
    Denied,
}

impl IncreaseState {
    /// The state's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            IncreaseState::Pending => "pending",
            IncreaseState::Approved => "approved",
            IncreaseState::Denied => "denied",
        }
    }
}

impl FromStr for IncreaseState {
    type Err = Error;

    /// `pending`, `approved` or `denied`.
    fn from_str(name: &str) -> Result<Self, Error> {
        let all = [IncreaseState::Pending, IncreaseState::Approved, IncreaseState::Denied];
        all.into_iter().find(|state| state.as_str() == name).ok_or_else(|| {
            let message =
                format!("Invalid state: {}; it must be pending, approved or denied", shortened(name));
            Error::new(ErrorCode::InvalidText, message)
        })
    }
}

/// A request for more budget, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Increase {
    /// Requests are numbered in the order in which they came.
    pub id: i64,
    /// The key that asks.
    pub key_id: KeyId,
    /// Whose key it is.
    pub account_id: Option<String>,
    /// What became of it.
    pub state: IncreaseState,
    /// How much more is asked for.
    pub cents: i64,
    /// Why.
    pub reason: Option<String>,
    /// How long it is to last, in seconds.
    pub for_seconds: i64,
    /// When it came, by the database's clock.
    #[serde(serialize_with = "write_time")]
    pub requested_at: DateTime<Utc>,
    /// When it was decided.
    #[serde(serialize_with = "write_optional_time")]
    pub decided_at: Option<DateTime<Utc>>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// The key that decided; `None` if the application did.
    pub decided_by_key_id: Option<KeyId>,
    /// By how much the budget was raised.
    pub granted_cents: Option<i64>,
    /// Until when.
    #[serde(serialize_with = "write_optional_time")]
    pub granted_until: Option<DateTime<Utc>>,
}

/// Which requests are listed. Every member may stay unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncreaseFilter {
    /// Only of this key.
    pub key_id: Option<KeyId>,
    /// Only of this account.
    pub account_id: Option<AccountId>,
    /// Only of this key and of those that descend from it.
    pub within: Option<KeyId>,
    /// Only of this state.
    pub state: Option<IncreaseState>,
    /// Only requests before the one of this id: the last that was read, to go on from there.
    pub before: Option<i64>,
    /// How many at most: 100 if unset, never more than 1,000.
    pub limit: Option<u32>,
}

impl IncreaseFilter {
    /// All requests.
    pub fn new() -> Self {
        IncreaseFilter::default()
    }

    /// Only of this key.
    pub fn key_id(mut self, id: impl Into<KeyId>) -> Self {
        self.key_id = Some(id.into());
        self
    }

    /// Only of this account.
    pub fn account_id(mut self, id: impl Into<AccountId>) -> Self {
        self.account_id = Some(id.into());
        self
    }

    /// Only of this key and of those that descend from it.
    pub fn within(mut self, id: impl Into<KeyId>) -> Self {
        self.within = Some(id.into());
        self
    }

    /// Only of this state.
    pub fn state(mut self, state: IncreaseState) -> Self {
        self.state = Some(state);
        self
    }

    /// Only requests before the one of this id.
    pub fn before(mut self, id: i64) -> Self {
        self.before = Some(id);
        self
    }

    /// So many at most.
    pub fn limit(mut self, requests: u32) -> Self {
        self.limit = Some(requests);
        self
    }

    pub(crate) fn most(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 1_000)
    }
}
