//! Clerk's tokens as credentials. The binding asks Clerk; what its answer means is said here.

use super::bearer::{Token, token};
use super::response::Response;
use crate::error::{Error, ErrorCode};

/// Which of Clerk's credentials a door takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clerk {
    /// Machine-to-machine tokens: `m2m.verify`.
    M2m,
    /// API keys: `apiKeys.verify`.
    ApiKey,
}

/// What Clerk said of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a binding makes them")]
pub enum Verification {
    /// It knows it.
    Known {
        /// Whose it is.
        subject: Option<String>,
        /// Whether it was revoked.
        revoked: bool,
        /// Whether its time is over.
        expired: bool,
    },
    /// Its client failed.
    Failed {
        /// The status of Clerk's answer, if there was one.
        status: Option<u16>,
        /// For the log.
        message: String,
    },
}

impl Clerk {
    /// The token to verify.
    pub(super) fn begin(self, authorization: Option<&str>) -> Result<Token, Response> {
        let missing = match self {
            Clerk::M2m => "Missing M2M token",
            Clerk::ApiKey => "Missing API key",
        };
        token(authorization, missing)
    }

    /// The subject to look up.
    pub(super) fn subject(self, verification: Verification) -> Result<String, Response> {
        match verification {
            Verification::Known { subject: Some(subject), revoked: false, expired: false }
                if !subject.is_empty() =>
            {
                Ok(subject)
            }
            Verification::Failed { status: Some(status), message } if is_clerks_fault(status) => {
                let message = format!("Clerk answered {status} to a verification: {message}");
                Err(Response::unavailable(&Error::new(ErrorCode::UnexpectedResponse, message)))
            }
            Verification::Known { .. } | Verification::Failed { .. } => {
                Err(Response::bad_token(match self {
                    Clerk::M2m => "invalid_token",
                    Clerk::ApiKey => "invalid_key",
                }))
            }
        }
    }
}

/// Clerk is down or busy, or does not accept our own secret: that says nothing of the caller's token.
fn is_clerks_fault(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 429 | 500..)
}
