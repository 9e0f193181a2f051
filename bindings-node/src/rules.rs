//! The core's pure rules, for the client's synchronous methods.

use agentkey::engine::read_duration;
use agentkey::http::{Credentials, Token};
use napi_derive::napi;

use crate::error::{Result, thrown};

/// The raw key of an `Authorization` header, or of a header that may hold a key.
#[napi]
pub fn presented_key(authorization: Option<String>, api_key: Option<String>) -> Option<String> {
    let credentials = Credentials::new(authorization.as_deref()).api_key(api_key.as_deref());
    Token::of(credentials).ok().map(|token| token.expose().to_owned())
}

/// Seconds from now until a key expires.
#[napi]
pub fn seconds_until_expiry(duration: Option<String>) -> Result<Option<f64>> {
    let duration = read_duration(duration.as_deref()).map_err(thrown)?;
    Ok(duration.map(|duration| duration.as_secs() as f64))
}

/// The known name that a misspelt one is closest to, if any is close.
#[napi]
pub fn nearest_name(name: String, known: Vec<String>) -> Option<String> {
    let is_close = |(distance, _): &(usize, String)| *distance <= 2.max(name.len() / 3);
    let distances = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known));
    distances.filter(is_close).min().map(|(_, known)| known)
}
