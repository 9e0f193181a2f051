//! Keys as their owner sees them: what a row says, which rows are listed, what may be changed.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::grant::{DenialReason, Grant};
use super::new_key::CreateKey;
use crate::budget::limit::{KeyLimit, LimitState};
use crate::budget::money::{Cost, Rounding};
use crate::budget::period::{AcceptedPeriods, Period};
use crate::error::{Error, ErrorCode, shortened};
use crate::id::{AccountId, KeyId};
use crate::metadata;

/// A key's row, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRecord {
    /// What the key may do and spend, whether it is live or not.
    pub grant: Grant,
    /// Why `validate` refuses it; `None` of a live key. Its ancestors count.
    pub reason: Option<DenialReason>,
    /// What it may spend in other periods beside its budget, and what is used of that.
    pub limits: Vec<LimitState>,
    /// The beginning of the secret, to tell keys apart.
    pub key_prefix: String,
    /// The key that it draws on and dies with.
    pub parent_id: Option<KeyId>,
    /// The identity of another system that it belongs to.
    pub external_subject: Option<String>,
    /// When it was created, by the database's clock.
    pub created_at: Option<DateTime<Utc>>,
    /// When it was used last, to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Since when it is switched off.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Until when the secret before its last rotation counts; `None` if none does.
    pub previous_expires_at: Option<DateTime<Utc>>,
    /// By how much the budget is raised now, in cents: part of the grant's budget. `None` if it is not.
    pub budget_boost_cents: Option<i64>,
    /// Until when.
    pub budget_boost_until: Option<DateTime<Utc>>,
    /// What the application keeps with it. What no reader of ours takes is a text.
    pub metadata: Option<Value>,
    /// The keys above it, nearest first.
    pub(crate) ancestors: Vec<KeyId>,
}

/// What became of a key, whatever its ancestors and its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// None of the others.
    Live,
    /// Revoked, for good.
    Revoked,
    /// Switched off, until it is enabled again.
    Disabled,
    /// Its time is over.
    Expired,
}

impl KeyState {
    /// The state's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyState::Live => "live",
            KeyState::Revoked => "revoked",
            KeyState::Disabled => "disabled",
            KeyState::Expired => "expired",
        }
    }
}

impl FromStr for KeyState {
    type Err = Error;

    /// `live`, `revoked`, `disabled` or `expired`.
    fn from_str(name: &str) -> Result<Self, Error> {
        let all = [KeyState::Live, KeyState::Revoked, KeyState::Disabled, KeyState::Expired];
        all.into_iter().find(|state| state.as_str() == name).ok_or_else(|| {
            let message =
                format!("Invalid state: {}; it must be live, revoked, disabled or expired", shortened(name));
            Error::new(ErrorCode::InvalidText, message)
        })
    }
}

/// Which keys are listed. Every member may stay unset.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct KeyFilter {
    /// Only keys of this account.
    pub account_id: Option<AccountId>,
    /// Only the children of this key.
    pub parent: Option<KeyId>,
    /// Only keys that this human authorised.
    pub delegated_by: Option<String>,
    /// Only keys of this state.
    pub state: Option<KeyState>,
    /// Only keys whose scopes name this one. What is granted by `admin`, or by having no scopes set, is not looked at.
    pub scope: Option<String>,
    /// Only keys whose metadata contains this, as Postgres's `@>` says.
    pub metadata: Option<Map<String, Value>>,
    /// Only keys that have used at least this share of their budget in this period: above 0, 1 at most.
    pub over_share: Option<f64>,
    /// Only keys after the one of this id: the last that was read, to go on from there.
    pub after: Option<KeyId>,
    /// How many at most: 100 if unset, never more than 1,000.
    pub limit: Option<u32>,
}

impl KeyFilter {
    /// All keys.
    pub fn new() -> Self {
        KeyFilter::default()
    }

    /// Only keys of this account.
    pub fn account_id(mut self, id: impl Into<AccountId>) -> Self {
        self.account_id = Some(id.into());
        self
    }

    /// Only the children of this key.
    pub fn parent(mut self, id: impl Into<KeyId>) -> Self {
        self.parent = Some(id.into());
        self
    }

    /// Only keys that this human authorised.
    pub fn delegated_by(mut self, human: impl Into<String>) -> Self {
        self.delegated_by = Some(human.into());
        self
    }

    /// Only keys of this state.
    pub fn state(mut self, state: KeyState) -> Self {
        self.state = Some(state);
        self
    }

    /// Only keys whose scopes name this one.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Only keys whose metadata contains this.
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Only keys that have used at least this share of their budget.
    pub fn over_share(mut self, share: f64) -> Self {
        self.over_share = Some(share);
        self
    }

    /// Only keys after the one of this id.
    pub fn after(mut self, id: impl Into<KeyId>) -> Self {
        self.after = Some(id.into());
        self
    }

    /// So many at most.
    pub fn limit(mut self, keys: u32) -> Self {
        self.limit = Some(keys);
        self
    }

    /// Refuses what no list can be asked for.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(share) = self.over_share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            let message = format!("Invalid overShare: {share}; it must be above 0 and at most 1");
            return Err(Error::new(ErrorCode::InvalidText, message));
        }
        self.metadata.as_ref().map_or(Ok(()), metadata::check)
    }

    /// Whether it asks for more than whose keys they are.
    pub(crate) fn has_conditions(&self) -> bool {
        let owners = [self.account_id.is_some(), self.parent.is_some(), self.delegated_by.is_some()];
        let is_of_several = owners.into_iter().filter(|is_given| *is_given).count() > 1;
        let of_keys = self.state.is_some() || self.scope.is_some() || self.metadata.is_some();
        is_of_several || of_keys || self.over_share.is_some()
    }

    /// The share in millionths, as it is written, a fraction of one counts: no amount is compared with a float.
    pub(crate) fn over_share_millionths(&self) -> Option<i64> {
        match Cost::from_cents_f64_with(self.over_share?, Rounding::Exact) {
            Cost::Microcents(share) => Some(share),
            Cost::Free | Cost::Invalid => None,
        }
    }

    pub(crate) fn most(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 1_000)
    }
}

/// What is changed of a key. What stays unset stays as it is.
///
/// ```
/// # use agentkey::KeyUpdate;
/// let lowered = KeyUpdate::new().budget_cents(200).scopes(["read"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUpdate {
    /// A name for people.
    pub name: Option<String>,
    /// What the key may do; `Some(None)` is everything that its parent may.
    pub scopes: Option<Option<Vec<String>>>,
    /// The budget in cents; `Some(None)` is no budget. What is used and held stays.
    pub budget_cents: Option<Option<i64>>,
    /// When the budget starts afresh; `Some(None)` is one budget for life. A new period begins now, and what is used
    /// counts in it.
    pub budget_period: Option<Option<Period>>,
    /// What may be spent in other periods beside the budget, in place of the limits that it had. One of the same period
    /// stays the same limit: what is used of it counts. A key that has children gets no more than it had before them.
    pub limits: Option<Vec<KeyLimit>>,
    /// How long the key lives from now on; `Some(None)` is for ever.
    pub expires_in: Option<Option<Duration>>,
    /// What the application keeps with it, in place of what it kept; `Some(None)` is nothing.
    pub metadata: Option<Option<Map<String, Value>>>,
    /// Whether the key is switched off.
    pub disabled: Option<bool>,
}

impl KeyUpdate {
    /// Nothing is changed.
    pub fn new() -> Self {
        KeyUpdate::default()
    }

    /// Sets the name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets what the key may do.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = Some(Some(scopes.into_iter().map(Into::into).collect()));
        self
    }

    /// Sets the budget, in cents.
    pub fn budget_cents(mut self, cents: i64) -> Self {
        self.budget_cents = Some(Some(cents));
        self
    }

    /// Sets when the budget starts afresh.
    pub fn budget_period(mut self, period: Period) -> Self {
        self.budget_period = Some(Some(period));
        self
    }

    /// Sets its limits, in place of those that it had.
    pub fn limits(mut self, limits: impl IntoIterator<Item = KeyLimit>) -> Self {
        self.limits = Some(limits.into_iter().collect());
        self
    }

    /// Sets how long the key lives from now on.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.expires_in = Some(Some(lifetime));
        self
    }

    /// Sets what the application keeps with it, in place of what it kept.
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.metadata = Some(Some(metadata));
        self
    }

    /// Sets whether the key is switched off.
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = Some(disabled);
        self
    }

    /// Whether it comes to the same if it is done twice: times count from when it is done.
    pub(crate) fn is_absolute(&self) -> bool {
        self.expires_in.flatten().is_none() && self.budget_period.flatten().is_none()
    }

    /// Whether nothing but the limits is changed.
    pub(crate) fn has_only_limits(&self) -> bool {
        self.limits.is_some() && KeyUpdate { limits: None, ..self.clone() } == KeyUpdate::default()
    }

    /// Whether a parent's bounds concern it.
    pub(crate) fn is_bounded(&self) -> bool {
        self.scopes.is_some() || self.expires_in.is_some()
    }

    /// The part that a parent bounds, as of a new key.
    pub(crate) fn bounded(&self) -> CreateKey {
        CreateKey {
            scopes: self.scopes.clone().flatten(),
            expires_in: self.expires_in.flatten(),
            ..CreateKey::default()
        }
    }

    /// The checks that need no table.
    pub(crate) fn check(&self, valid: Option<&[String]>, periods: AcceptedPeriods) -> Result<(), Error> {
        let spec = CreateKey {
            budget_cents: self.budget_cents.flatten(),
            budget_period: self.budget_period.flatten(),
            limits: self.limits.clone().unwrap_or_default(),
            name: self.name.clone(),
            metadata: self.metadata.clone().flatten(),
            ..self.bounded()
        };
        spec.check(valid, periods)
    }
}
