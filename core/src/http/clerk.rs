//! Clerk's tokens as credentials. The binding asks Clerk; what its answer means is said here.

use super::bearer::{Credentials, Token, token};
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
    pub(super) fn begin(self, credentials: Credentials<'_>) -> Result<Token, Response> {
        let missing = match self {
            Clerk::M2m => "Missing M2M token",
            Clerk::ApiKey => "Missing API key",
        };
        token(credentials, missing)
    }

    /// The subject to look up.
    pub(super) fn subject(self, verification: Verification) -> Result<String, Response> {
        match verification {
            Verification::Known { subject: Some(subject), revoked: false, expired: false }
                if !subject.is_empty() =>
            {
                Ok(subject)
            }
            Verification::Failed { status, message } if !says_that_the_token_is_bad(status) => {
                let answered =
                    status.map_or("Clerk did not answer".to_owned(), |s| format!("Clerk answered {s}"));
                let message = format!("{answered} to a verification: {message}");
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

/// Everything else is a fault of Clerk's or of the way to it, and says nothing of the caller's token.
fn says_that_the_token_is_bad(status: Option<u16>) -> bool {
    matches!(status, Some(400 | 401 | 403 | 404 | 410 | 422))
}
