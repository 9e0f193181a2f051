//! Delegation: what a child key takes from its parent, and what it may not exceed.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::key::KeyPrefix;
use crate::lookup::Lookup;
use crate::new_key::CreateKey;
use crate::request::Credential;
use crate::scope::has_scope;
use crate::verdict::{DenialReason, Grant, KeyId};

/// Keys below one another: the parent of a key at this depth can have no child.
pub(crate) const MAX_DEPTH: usize = 8;

/// Names a parent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Parent {
    /// By its row's id, as text.
    Id(String),
    /// By its raw key.
    Key(String),
    /// By its external subject.
    Subject(String),
    /// By its row's id, for callers that make keys of their own: on a table that cannot hold the link there is none, as
    /// in the original.
    Caller(String),
}

/// A raw key is a secret.
impl std::fmt::Debug for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Parent::Id(id) | Parent::Caller(id) => write!(f, "Parent({id:?})"),
            Parent::Subject(subject) => write!(f, "Parent({subject:?})"),
            Parent::Key(_) => f.write_str("Parent(<secret>)"),
        }
    }
}

impl From<KeyId> for Parent {
    fn from(id: KeyId) -> Self {
        Parent::Id(id.to_string())
    }
}

/// How the parent's row is looked up.
pub(crate) enum ParentLookup {
    Id(String),
    Credential(Credential),
}

impl Parent {
    /// What a text names, where it may be an id or a raw key: a raw key is the prefix and 48 hexadecimal characters.
    pub fn of_text(text: &str, prefix: &KeyPrefix) -> Self {
        match prefix.is_of(text) {
            true => Parent::Key(text.to_owned()),
            false => Parent::Id(text.to_owned()),
        }
    }

    /// Whether a key without the link is better than none.
    pub(crate) fn is_optional(&self) -> bool {
        matches!(self, Parent::Caller(_))
    }

    pub(crate) fn lookup(&self) -> ParentLookup {
        match self {
            Parent::Id(id) | Parent::Caller(id) => ParentLookup::Id(id.clone()),
            Parent::Key(raw) => ParentLookup::Credential(Credential::Key(crate::key::KeyHash::of(raw))),
            Parent::Subject(subject) => ParentLookup::Credential(Credential::Subject(subject.clone())),
        }
    }
}

/// A parent as it was found, and what is above it.
pub(crate) struct Ancestry {
    grant: Grant,
    /// Nearest first.
    ancestors: Vec<KeyId>,
    seconds_left: Option<i64>,
}

impl Ancestry {
    /// An exhausted parent may have children; one that is revoked, disabled or expired may not.
    pub(crate) fn of(lookup: Option<Lookup<'_>>) -> Result<Self, Error> {
        let Some(lookup) = lookup else { return Err(Ancestry::missing()) };
        let ancestors = lookup.ancestors;
        let grant = match lookup.verdict {
            Ok(grant) => grant,
            Err(denial) => match (denial.reason, denial.key) {
                (DenialReason::BudgetExceeded, Some(key)) => *key,
                (reason, _) => return Err(invalid_parent(&format!("it is {reason}"))),
            },
        };
        if ancestors.len() + 1 >= MAX_DEPTH {
            return Err(invalid_parent(&format!(
                "keys descend from one another over {MAX_DEPTH} levels at most"
            )));
        }
        Ok(Ancestry { grant, ancestors, seconds_left: lookup.seconds_left })
    }

    /// The error where there is no such parent.
    pub(crate) fn missing() -> Error {
        invalid_parent("there is no such key")
    }

    /// The error where it was revoked meanwhile.
    pub(crate) fn revoked() -> Error {
        invalid_parent("it is revoked")
    }

    /// The parent and its ancestors.
    pub(crate) fn chain(&self) -> Vec<KeyId> {
        std::iter::once(self.grant.id.clone()).chain(self.ancestors.iter().cloned()).collect()
    }

    /// Fills in what the child leaves open, and refuses what goes beyond the parent.
    pub(crate) fn bind(
        &self,
        spec: &mut CreateKey,
        expires_in_seconds: Option<u64>,
        subject: Option<&str>,
    ) -> Result<(), Error> {
        let parent = &self.grant;
        match &spec.scopes {
            None => spec.scopes.clone_from(&parent.scopes),
            Some(scopes) => {
                let lacking: Vec<&str> = scopes
                    .iter()
                    .map(String::as_str)
                    .filter(|scope| !has_scope(parent.scopes.as_deref(), scope))
                    .collect();
                if !lacking.is_empty() {
                    let message =
                        format!("Invalid scopes: {}; the parent does not have them", lacking.join(", "));
                    return Err(Error::new(ErrorCode::InvalidScopes, message));
                }
            }
        }
        if let (Some(left), Some(seconds)) = (self.seconds_left, expires_in_seconds)
            && i64::try_from(seconds).unwrap_or(i64::MAX) > left
        {
            let message = "Invalid duration: the key would outlive its parent";
            return Err(Error::new(ErrorCode::InvalidDuration, message));
        }
        if spec.account_id.is_none() {
            spec.account_id = match (&parent.account_id, subject) {
                (Some(account), _) => Some(account.to_string()),
                (None, subject) => subject.map(str::to_owned),
            };
        }
        if spec.user_id.is_none() {
            spec.user_id.clone_from(&parent.user_id);
        }
        if spec.delegated_by.is_none() {
            spec.delegated_by.clone_from(&parent.delegated_by);
        }
        Ok(())
    }
}

fn invalid_parent(why: &str) -> Error {
    Error::new(ErrorCode::InvalidParent, format!("Invalid parent: {why}"))
}
