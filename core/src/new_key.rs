//! Keys and subjects to create: what is asked for, and the row that it becomes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::delegation::Parent;
use crate::duration::seconds_until_expiry;
use crate::error::{Error, ErrorCode, storable};
use crate::key::{KeyHash, MintedKey};
use crate::options::Options;
use crate::period::Period;
use crate::request::MAX_INDEXED_BYTES;
use crate::scope::check_scopes;
use crate::shape::{TableShape, invalid_account};
use crate::verdict::{AccountId, KeyId};

/// A new key. Only the account is usual; everything else may stay unset.
///
/// ```
/// # use agentkey::{CreateKey, Period};
/// let key = CreateKey::new("acct_1")
///     .scopes(["read", "write"])
///     .budget_cents(500)
///     .budget_period(Period::Day)
///     .expires_in("7d")
///     .delegated_by("alice@example.com");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateKey {
    /// Whose key it is.
    pub account_id: Option<String>,
    /// A user within the account.
    pub user_id: Option<String>,
    /// What the key may do; `None` is everything, an empty list nothing.
    pub scopes: Option<Vec<String>>,
    /// The budget in cents, of a period or for life. 0 refuses every call.
    pub budget_cents: Option<i64>,
    /// `hour`, `day`, `week`, `month` or `year`; `None` is one budget for life.
    pub budget_period: Option<String>,
    /// Time to live: `30m`, `12h`, `7d`, `1mo`. `None` or empty is for ever.
    pub expires_in: Option<String>,
    /// The human who authorises the key.
    pub delegated_by: Option<String>,
    /// A name for people; `default` if unset.
    pub name: Option<String>,
    /// The key that this one draws on and dies with. Its scopes and expiry bound those of the child, and are the child's
    /// where it names none; so are its account, user and human.
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
        CreateKey { account_id: Some(account_id.into().to_string()), ..CreateKey::default() }
    }

    text_setters!(
        /// Sets the user within the account.
        user_id,
        /// Sets the budget's period: a [`Period`](crate::Period) or its name.
        budget_period,
        /// Sets the time to live.
        expires_in,
        /// Sets the human who authorises the key.
        delegated_by,
        /// Sets the name.
        name
    );

    /// Sets what the key may do.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the parent: see [`CreateKey::parent`].
    pub fn parent(mut self, parent: impl Into<Parent>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// Sets the budget, in cents.
    pub fn budget_cents(mut self, cents: i64) -> Self {
        self.budget_cents = Some(cents);
        self
    }

    /// The checks that need no table. Answers the seconds until expiry.
    fn check(&self, options: &Options) -> Result<Option<u64>, Error> {
        if let Some(scopes) = &self.scopes {
            check_scopes(scopes, options.valid_scopes.as_deref())?;
        }
        if let Some(period) = &self.budget_period {
            Period::accept(period, options.accepted_periods)?;
        }
        let expires_in_seconds = seconds_until_expiry(self.expires_in.as_deref())?;
        if let Some(cents) = self.budget_cents {
            not_negative(cents)?;
        }
        let texts = [
            ("account id", &self.account_id),
            ("user id", &self.user_id),
            ("delegated_by", &self.delegated_by),
            ("name", &self.name),
        ];
        for (field, text) in texts {
            storable(field, text.as_deref().unwrap_or_default())?;
        }
        Ok(expires_in_seconds)
    }
}

/// No budget is negative.
pub(crate) fn not_negative(budget_cents: i64) -> Result<(), Error> {
    if budget_cents < 0 { Err(invalid_budget(budget_cents, "it must not be negative")) } else { Ok(()) }
}

fn invalid_budget(cents: i64, why: &str) -> Error {
    Error::new(ErrorCode::InvalidBudget, format!("Invalid budget: {cents} cents; {why}"))
}

/// A row to insert: checked, but not yet against the table.
#[derive(Debug, Clone)]
pub struct NewRow {
    spec: CreateKey,
    expires_in_seconds: Option<u64>,
    key_hash: KeyHash,
    shown_prefix: String,
    subject: Option<String>,
    /// The parent's row and its ancestors, nearest first, once they are known.
    chain: Vec<KeyId>,
}

impl NewRow {
    /// A row for a freshly minted key.
    pub fn for_key(spec: CreateKey, minted: &MintedKey, options: &Options) -> Result<Self, Error> {
        let expires_in_seconds = spec.check(options)?;
        let key_hash = minted.raw.hash();
        Ok(NewRow {
            spec,
            expires_in_seconds,
            key_hash,
            shown_prefix: minted.shown_prefix.clone(),
            subject: None,
            chain: Vec::new(),
        })
    }

    /// The row of an external subject, whose account is the subject itself unless the spec names one.
    pub fn for_subject(subject: &str, mut spec: CreateKey, options: &Options) -> Result<Self, Error> {
        if subject.is_empty() || subject.contains('\0') || subject.len() > MAX_INDEXED_BYTES {
            return Err(Error::new(
                ErrorCode::InvalidSubject,
                "Invalid subject: it is empty, too long, or holds a NUL character",
            ));
        }
        if spec.parent.is_none() {
            spec.account_id.get_or_insert_with(|| subject.to_owned());
        }
        let expires_in_seconds = spec.check(options)?;
        Ok(NewRow {
            spec,
            expires_in_seconds,
            key_hash: crate::key::unusable_hash()?,
            shown_prefix: options.key_prefix.for_subject(),
            subject: Some(subject.to_owned()),
            chain: Vec::new(),
        })
    }

    /// The parent that is not looked up yet.
    pub(crate) fn parent(&self) -> Option<&Parent> {
        self.spec.parent.as_ref().filter(|_| self.chain.is_empty())
    }

    /// No parent after all: the table has no room for the link, and it was not asked for.
    pub(crate) fn without_parent(mut self) -> Self {
        self.spec.parent = None;
        self
    }

    /// The same below its parent, whose bounds it keeps.
    pub(crate) fn below(
        mut self,
        parent: &crate::delegation::Ancestry,
        options: &Options,
    ) -> Result<Self, Error> {
        let subject = self.subject.clone();
        parent.bind(&mut self.spec, self.expires_in_seconds, subject.as_deref())?;
        self.spec.check(options)?;
        self.chain = parent.chain();
        Ok(self)
    }

    pub(crate) fn has_parent(&self) -> bool {
        self.spec.parent.is_some()
    }

    pub(crate) fn is_subject(&self) -> bool {
        self.subject.is_some()
    }

    /// The parameter of `insert_key.sql`, once the row is known to fit the table.
    pub(crate) fn parameter(&self, shape: &TableShape, options: &Options) -> Result<String, Error> {
        let spec = &self.spec;
        let needed = [
            ("user_id", spec.user_id.is_some()),
            ("scopes", spec.scopes.is_some()),
            ("budget_cents", spec.budget_cents.is_some()),
            ("budget_used_cents", spec.budget_cents.is_some()),
            ("budget_period", spec.budget_period.is_some()),
            ("budget_reset_at", spec.budget_period.is_some()),
            ("expires_at", self.expires_in_seconds.is_some()),
            ("delegated_by", spec.delegated_by.is_some()),
            ("external_subject", self.subject.is_some()),
            ("parent_id", !self.chain.is_empty()),
            ("ancestor_ids", !self.chain.is_empty()),
        ];
        shape.require(
            &needed.into_iter().filter(|(_, used)| *used).map(|(column, _)| column).collect::<Vec<_>>(),
        )?;
        if let Some(cents) = spec.budget_cents.filter(|cents| *cents > shape.max_cents()) {
            return Err(invalid_budget(
                cents,
                &format!("the most that the table holds is {}", shape.max_cents()),
            ));
        }
        match &spec.account_id {
            Some(account) if !shape.fits_account(account) => return Err(invalid_account(account, shape)),
            None if shape.account_required() => {
                return Err(Error::new(
                    ErrorCode::InvalidAccountId,
                    "Invalid account id: the table requires one",
                ));
            }
            _ => {}
        }
        let parameter = serde_json::json!({
            "key_hash": self.key_hash.as_str(),
            "key_prefix": self.shown_prefix,
            "account_id": spec.account_id,
            "user_id": spec.user_id,
            "scopes": spec.scopes.as_ref().map(|scopes| shape.scopes_parameter(scopes)),
            "budget_cents": spec.budget_cents,
            "budget_period": spec.budget_period,
            "align": options.align.as_str(),
            "expires_in_seconds": self.expires_in_seconds,
            "delegated_by": spec.delegated_by,
            "name": spec.name.as_deref().unwrap_or("default"),
            "external_subject": self.subject,
            "parent_id": self.chain.first().map(KeyId::to_string),
            "ancestor_ids": self.chain.iter().map(KeyId::to_string).collect::<Vec<_>>(),
        });
        Ok(parameter.to_string())
    }

    pub(crate) fn created(&self, id: KeyId, expires_at: Option<DateTime<Utc>>) -> CreatedKey {
        CreatedKey {
            id,
            scopes: self.spec.scopes.clone(),
            budget_cents: self.spec.budget_cents,
            budget_period: self.spec.budget_period.clone(),
            expires_at,
        }
    }
}

/// A created key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CreatedKey {
    /// The key's row.
    pub id: KeyId,
    /// What it may do; `None` is everything.
    pub scopes: Option<Vec<String>>,
    /// Its budget in cents; `None` is no budget.
    pub budget_cents: Option<i64>,
    /// Its budget's period; `None` is one budget for life.
    pub budget_period: Option<String>,
    /// When it expires, by the database's clock; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}
