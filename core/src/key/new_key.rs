//! Keys to create.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::delegation::Parent;
use super::raw::RawKey;
use super::scope::check_scopes;
use crate::budget::limit::KeyLimit;
use crate::budget::period::{AcceptedPeriods, Period};
use crate::duration;
use crate::error::{Error, ErrorCode, storable};
use crate::id::{AccountId, KeyId};
use crate::metadata;

/// A new key. Everything but its account may stay unset.
///
/// ```
/// # use agentkey::{CreateKey, Period};
/// # use std::time::Duration;
/// let key = CreateKey::new("acct_1")
///     .scopes(["read", "write"])
///     .budget_cents(500)
///     .budget_period(Period::Day)
///     .expires_in(Duration::from_secs(7 * 86_400))
///     .delegated_by("alice@example.com");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateKey {
    /// Whose key it is.
    pub account_id: Option<AccountId>,
    /// A user within the account.
    pub user_id: Option<String>,
    /// What the key may do; `None` is everything, an empty list nothing.
    pub scopes: Option<Vec<String>>,
    /// The budget of a period, or for life, in cents; `None` is no budget, 0 refuses every call.
    pub budget_cents: Option<i64>,
    /// When the budget starts afresh; `None` is one budget for life.
    pub budget_period: Option<Period>,
    /// What may be spent in other periods beside the budget: every charge draws on each of them, too.
    pub limits: Vec<KeyLimit>,
    /// How long the key lives; `None` is for ever.
    pub expires_in: Option<Duration>,
    /// The human who authorises the key.
    pub delegated_by: Option<String>,
    /// A name for people; `default` if unset.
    pub name: Option<String>,
    /// What the application keeps with it: a JSON object of at most 16 KiB.
    pub metadata: Option<Map<String, Value>>,
    /// The key that this one draws on and dies with. Its scopes and expiry bound those of the child. The child takes
    /// them, and the parent's account, user and human, where it names none.
    pub parent: Option<Parent>,
}

macro_rules! text_setters {
    ($($(#[$doc:meta])* $field:ident),*) => {
        $($(#[$doc])*
        pub fn $field(mut self, value: impl Into<String>) -> Self {
            self.$field = Some(value.into());
            self
        })*
    };
}

impl CreateKey {
    /// A key of an account.
    pub fn new(account_id: impl Into<AccountId>) -> Self {
        CreateKey { account_id: Some(account_id.into()), ..CreateKey::default() }
    }

    /// A key below another one, of that one's account.
    pub fn child_of(parent: impl Into<Parent>) -> Self {
        CreateKey { parent: Some(parent.into()), ..CreateKey::default() }
    }

    text_setters!(
        /// Sets the user within the account.
        user_id,
        /// Sets the human who authorises the key.
        delegated_by,
        /// Sets the name.
        name
    );

    /// Sets the account.
    pub fn account_id(mut self, id: impl Into<AccountId>) -> Self {
        self.account_id = Some(id.into());
        self
    }

    /// Sets what the key may do.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the budget, in cents.
    pub fn budget_cents(mut self, cents: i64) -> Self {
        self.budget_cents = Some(cents);
        self
    }

    /// Sets when the budget starts afresh.
    pub fn budget_period(mut self, period: Period) -> Self {
        self.budget_period = Some(period);
        self
    }

    /// Sets what may be spent in other periods beside the budget.
    pub fn limits(mut self, limits: impl IntoIterator<Item = KeyLimit>) -> Self {
        self.limits = limits.into_iter().collect();
        self
    }

    /// Sets how long the key lives.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.expires_in = Some(lifetime);
        self
    }

    /// Sets what the application keeps with it: a JSON object of at most 16 KiB.
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Sets the parent: see [`CreateKey::parent`].
    pub fn parent(mut self, parent: impl Into<Parent>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// The checks that need no table.
    pub(crate) fn check(
        &self,
        valid_scopes: Option<&[String]>,
        periods: AcceptedPeriods,
    ) -> Result<(), Error> {
        if let Some(scopes) = &self.scopes {
            check_scopes(scopes, valid_scopes)?;
        }
        if let Some(period) = self.budget_period {
            period.accept(periods)?;
        }
        if let Some(lifetime) = self.expires_in {
            duration::check(lifetime)?;
        }
        if let Some(cents) = self.budget_cents {
            not_negative(cents)?;
        }
        KeyLimit::check(&self.limits, periods)?;
        let account = self.account_id.as_ref().map(ToString::to_string);
        let texts = [
            ("account id", &account),
            ("user id", &self.user_id),
            ("delegated_by", &self.delegated_by),
            ("name", &self.name),
        ];
        for (field, text) in texts {
            storable(field, text.as_deref().unwrap_or_default())?;
        }
        if let Some(metadata) = &self.metadata {
            metadata::check(metadata)?;
        }
        Ok(())
    }
}

/// No budget is negative.
pub(crate) fn not_negative(budget_cents: i64) -> Result<(), Error> {
    if budget_cents < 0 { Err(invalid_budget(budget_cents, "it must not be negative")) } else { Ok(()) }
}

pub(crate) fn invalid_budget(cents: i64, why: &str) -> Error {
    Error::new(ErrorCode::InvalidBudget, format!("Invalid budget: {cents} cents; {why}"))
}

/// A created key with its secret, which is returned only here.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Created {
    /// The secret: hand it to its owner.
    pub key: RawKey,
    /// The key's row.
    pub id: KeyId,
    /// What it may do; `None` is everything.
    pub scopes: Option<Vec<String>>,
    /// Its budget in cents; `None` is no budget.
    pub budget_cents: Option<i64>,
    /// When its budget starts afresh; `None` is one budget for life.
    pub budget_period: Option<Period>,
    /// When it expires, by the database's clock; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}
