//! What names a key's row.

use super::raw::{KeyHash, RawKey};
use crate::id::KeyId;

/// What names a row: the hash of a raw key, an external subject, or the row's id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver of another database must handle each")]
pub enum Credential {
    /// The hash of a raw key.
    Key(KeyHash),
    /// The identity that `ensure_subject` was given.
    Subject(String),
    /// The row's id, for whoever has no secret: a worker, say.
    Id(KeyId),
}

impl Credential {
    /// The credential of a raw key. Only its hash is kept.
    pub fn of_key(raw_key: &str) -> Self {
        Credential::Key(KeyHash::of(raw_key))
    }

    /// The credential of an external subject.
    pub fn of_subject(subject: impl Into<String>) -> Self {
        Credential::Subject(subject.into())
    }
}

impl From<KeyId> for Credential {
    fn from(id: KeyId) -> Self {
        Credential::Id(id)
    }
}

impl From<&KeyId> for Credential {
    fn from(id: &KeyId) -> Self {
        Credential::Id(id.clone())
    }
}

impl From<&RawKey> for Credential {
    fn from(key: &RawKey) -> Self {
        Credential::Key(key.hash())
    }
}
