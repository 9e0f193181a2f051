//! The core's pure rules, for the client's synchronous methods.

use napi_derive::napi;

use crate::error::{Result, thrown};

/// Whether a key with `scopes` may do `scope`.
#[napi]
pub fn has_scope(scopes: Option<Vec<String>>, scope: String) -> bool {
    agentkey::has_scope(scopes.as_deref(), &scope)
}

/// Seconds from now until a key expires.
#[napi]
pub fn seconds_until_expiry(duration: Option<String>) -> Result<Option<f64>> {
    let seconds = agentkey::seconds_until_expiry(duration.as_deref()).map_err(thrown)?;
    Ok(seconds.map(|seconds| seconds as f64))
}
