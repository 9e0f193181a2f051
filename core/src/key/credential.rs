//! What names a key's row.

use super::raw::{KeyHash, RawKey, is_mistyped};
use crate::id::KeyId;

/// What names a row: the hash of a raw key, an external subject, or the row's id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver of another database must handle each")]
pub enum Credential {
    /// The hash of a raw key.
    Key(KeyHash),
    /// The hash of a text that has the form of a key with a checksum, and another one: nobody's key to a client that makes
    /// such keys.
    Mistyped(KeyHash),
    /// The identity that `ensure_subject` was given.
    Subject(String),
    /// The row's id, for whoever has no secret: a worker, say.
    Id(KeyId),
}

impl Credential {
    /// The credential of a raw key. Only its hash is kept.
    pub fn of_key(raw_key: &str) -> Self {
        let hash = KeyHash::of(raw_key);
        if is_mistyped(raw_key) { Credential::Mistyped(hash) } else { Credential::Key(hash) }
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
