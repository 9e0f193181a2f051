//! The doors for Clerk's tokens. The binding calls Clerk and provisions rows; which answer follows is said here.
//!
//! `begin`, verify the token with Clerk, `subject`, look the subject up; if `needs_row`, create its row and look it up
//! again; then [`Guard::decide`](super::Guard::decide).

use super::bearer::{Token, token};
use super::http::Response;
use crate::error::{Error, ErrorCode};
use crate::verdict::{Denial, DenialReason, Verdict};

/// Which of Clerk's credentials a door takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clerk {
    /// Machine-to-machine tokens: `m2m.verify`.
    M2m,
    /// API keys: `apiKeys.verify`.
    ApiKey,
}

/// What Clerk said of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub fn begin(self, authorization: Option<&str>) -> Result<Token, Response> {
        let missing = match self {
            Clerk::M2m => "Missing M2M token",
            Clerk::ApiKey => "Missing API key",
        };
        token(authorization, missing)
    }

    /// The subject to look up.
    pub fn subject(self, verification: Verification) -> Result<String, Response> {
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

    /// Whether a subject was seen for the first time and must get its row.
    pub fn needs_row(verdict: &Verdict) -> bool {
        matches!(verdict, Err(Denial { reason: DenialReason::Invalid, .. }))
    }

    /// The response when the row could not be made. Whatever the reason, the caller has no part in it.
    pub fn row_failed(error: &Error) -> Response {
        Response::unavailable(error)
    }
}

/// Clerk is down or busy, or does not accept our own secret: that says nothing of the caller's token.
fn is_clerks_fault(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 429 | 500..)
}
