//! Delegation: what a child key takes from its parent, and what it may not exceed.

use std::time::Duration;

use super::credential::Credential;
use super::grant::{DenialReason, Grant, Verdict};
use super::new_key::CreateKey;
use super::raw::{KeyHash, KeyPrefix, RawKey, has_secret};
use crate::budget::limit::MAX_LIMITS;
use crate::error::{Error, ErrorCode};
use crate::id::KeyId;

/// Keys below one another: the parent of a key at this depth can have no child.
pub(crate) const MAX_DEPTH: usize = 8;
/// Rows above a key at most: its ancestors, and the limits of all of them.
pub(crate) const MAX_ANCESTORS: usize = MAX_DEPTH * (MAX_LIMITS + 1) - 1;

/// Names a parent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parent {
    /// By its row's id, as text.
    Id(String),
    /// By its raw key, of which only the hash is kept.
    Key(KeyHash),
    /// By its external subject.
    Subject(String),
    /// By its row's id, for callers that make keys of their own: on a table that cannot hold the link there is none, as
    /// in the original.
    Caller(String),
}

impl From<KeyId> for Parent {
    fn from(id: KeyId) -> Self {
        Parent::Id(id.to_string())
    }
}

impl From<&KeyId> for Parent {
    fn from(id: &KeyId) -> Self {
        Parent::Id(id.to_string())
    }
}

impl From<&RawKey> for Parent {
    fn from(key: &RawKey) -> Self {
        Parent::Key(key.hash())
    }
}

/// How the parent's row is looked up.
pub(crate) enum ParentLookup {
    Id(String),
    Credential(Credential),
}

impl Parent {
    /// What a text names where it may be an id or a raw key. A raw key is the prefix, where it is known, and 48
    /// hexadecimal characters.
    pub(crate) fn of_text(text: &str, prefix: Option<&KeyPrefix>) -> Self {
        match prefix.map_or_else(|| has_secret(text), |prefix| prefix.is_of(text)) {
            true => Parent::Key(KeyHash::of(text)),
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
            Parent::Key(hash) => ParentLookup::Credential(Credential::Key(hash.clone())),
            Parent::Subject(subject) => ParentLookup::Credential(Credential::Subject(subject.clone())),
        }
    }
}

/// A parent as it was found, and what is above it.
pub(crate) struct Ancestry {
    grant: Grant,
    /// Until the parent or one of its ancestors expires.
    seconds_left: Option<i64>,
}

impl Ancestry {
    /// An exhausted parent may have children. One that is revoked, disabled or expired may not.
    pub(crate) fn new(verdict: Verdict, ancestors: usize, seconds_left: Option<i64>) -> Result<Self, Error> {
        let grant = match verdict {
            Ok(grant) => grant,
            Err(denial) => match (denial.reason, denial.key) {
                (DenialReason::BudgetExceeded, Some(key)) => *key,
                (reason, _) => return Err(invalid_parent(&format!("it is {reason}"))),
            },
        };
        if ancestors + 1 >= MAX_DEPTH {
            return Err(invalid_parent(&format!(
                "keys descend from one another over {MAX_DEPTH} levels at most"
            )));
        }
        Ok(Ancestry { grant, seconds_left })
    }

    /// The error where there is no such parent.
    pub(crate) fn missing() -> Error {
        invalid_parent("there is no such key")
    }

    /// The error where it was revoked meanwhile.
    pub(crate) fn revoked() -> Error {
        invalid_parent("it is revoked")
    }

    /// The parent.
    pub(crate) fn id(&self) -> &KeyId {
        &self.grant.id
    }

    /// Fills in what the child leaves open, and refuses what goes beyond the parent.
    pub(crate) fn bind(&self, spec: &mut CreateKey, subject: Option<&str>) -> Result<(), Error> {
        let parent = &self.grant;
        match &spec.scopes {
            None => spec.scopes.clone_from(&parent.scopes),
            Some(scopes) => {
                let lacking: Vec<&str> =
                    scopes.iter().map(String::as_str).filter(|scope| !parent.has_scope(scope)).collect();
                if !lacking.is_empty() {
                    let message =
                        format!("Invalid scopes: {}; the parent does not have them", lacking.join(", "));
                    return Err(Error::new(ErrorCode::InvalidScopes, message));
                }
            }
        }
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        if let (Some(left), Some(lifetime)) = (self.seconds_left, spec.expires_in)
            && seconds(lifetime) > left
        {
            let message = "Invalid duration: the key would outlive its parent";
            return Err(Error::new(ErrorCode::InvalidDuration, message));
        }
        if spec.account_id.is_none() {
            spec.account_id = parent.account_id.clone().or_else(|| subject.map(Into::into));
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
