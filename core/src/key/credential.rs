//! What names a key's row.

use super::raw::KeyHash;

/// What names a row: the hash of a raw key, or an external subject.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver of another database must handle both")]
pub enum Credential {
    /// The hash of a raw key.
    Key(KeyHash),
    /// The identity that `ensure_subject` was given.
    Subject(String),
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
