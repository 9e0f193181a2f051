//! Rotation: a new secret for a key that stays the same.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::raw::RawKey;
use crate::duration;
use crate::error::{Error, ErrorCode, check_idempotency_key};
use crate::id::KeyId;

/// How long the secret before counts unless the caller says otherwise.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(86_400);

/// A rotation, with its options. By default both secrets count for 24 hours.
///
/// ```
/// # use agentkey::Rotate;
/// # use std::time::Duration;
/// let leaked = Rotate::new().grace(Duration::ZERO);
/// let planned = Rotate::new().grace(Duration::from_secs(7 * 86_400)).idempotency_key("rotation-of-may");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotate {
    pub(crate) grace: Duration,
    pub(crate) idempotency_key: Option<String>,
}

impl Rotate {
    /// A rotation after which both secrets count for 24 hours.
    pub fn new() -> Self {
        Rotate { grace: DEFAULT_GRACE, idempotency_key: None }
    }

    /// Sets how long the secret before counts beside the new one. Nothing: it stops at once.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets the idempotency key. A second rotation of the key under it, because the answer of the first one was lost,
    /// replaces the secret that the first one made. The secret before stays what it was.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        duration::check(self.grace)?;
        check_idempotency_key(self.idempotency_key.as_deref())
    }
}

impl Default for Rotate {
    fn default() -> Self {
        Rotate::new()
    }
}

/// A key with a new secret, which is returned only here.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Rotated {
    /// The secret: hand it to its owner.
    pub key: RawKey,
    /// The key's row, which is the same as before.
    pub id: KeyId,
    /// Until when the secret before counts, by the database's clock; `None` if it counts no more.
    pub previous_expires_at: Option<DateTime<Utc>>,
}

/// Why a key is not rotated. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use]
pub enum RotateRefusal {
    /// There is no such key, or it is an external subject's row, which has no secret.
    InvalidKey,
    /// It was revoked.
    Revoked,
    /// The idempotency key was used for something else, or for a rotation that was not the last one.
    IdempotencyConflict,
}

impl RotateRefusal {
    /// Every refusal.
    pub const ALL: &'static [RotateRefusal] =
        &[RotateRefusal::InvalidKey, RotateRefusal::Revoked, RotateRefusal::IdempotencyConflict];

    /// The refusal's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            RotateRefusal::InvalidKey => "invalid_key",
            RotateRefusal::Revoked => "revoked",
            RotateRefusal::IdempotencyConflict => "idempotency_conflict",
        }
    }
}

impl std::fmt::Display for RotateRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for RotateRefusal {}

/// What became of a rotation.
pub type RotateOutcome = Result<Rotated, RotateRefusal>;

/// Reads a grace such as `24h`, `30s` or `0s`.
pub(crate) fn read_grace(text: &str) -> Result<Duration, Error> {
    duration::read_with_seconds(text)?.ok_or_else(|| {
        Error::new(ErrorCode::InvalidDuration, "Invalid duration: a grace is a number and s, m, h, d or mo")
    })
}
