//! Where a request presents its key.

use super::response::Response;
use crate::error::{Error, ErrorCode};

/// The headers of a request in which its key may be.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    authorization: Option<&'a str>,
    api_key: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// With the `Authorization` header.
    pub fn new(authorization: Option<&'a str>) -> Self {
        Credentials { authorization, api_key: None }
    }

    /// And with a header that holds nothing but the key, which counts where `Authorization` has no bearer token.
    pub fn api_key(mut self, header: Option<&'a str>) -> Self {
        self.api_key = header;
        self
    }
}

impl<'a> From<Option<&'a str>> for Credentials<'a> {
    fn from(authorization: Option<&'a str>) -> Self {
        Credentials::new(authorization)
    }
}

/// Checks the name of a header that holds nothing but a key, such as `X-API-Key`. Answers it in lower case.
///
/// # Errors
/// `invalid_text` if it is no name of a header, or one that holds something else.
pub fn api_key_header(name: &str) -> Result<String, Error> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = name.to_ascii_lowercase();
    let holds_more = ["authorization", "proxy-authorization", "cookie", "host", "set-cookie"];
    if name.is_empty() || !name.bytes().all(is_part) || holds_more.contains(&name.as_str()) {
        let message =
            "Invalid header of a key; expected a name such as \"x-api-key\", other than Authorization";
        return Err(Error::new(ErrorCode::InvalidText, message));
    }
    Ok(name)
}

/// What a caller presented: a raw key, or a token of somebody else's. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token that a request presents, for handlers that charge the key themselves.
    ///
    /// # Errors
    /// The response to a request without one.
    pub fn of<'a>(credentials: impl Into<Credentials<'a>>) -> Result<Self, Response> {
        token(credentials.into(), "Missing API key")
    }

    /// The secret itself: look it up, keep it nowhere.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(<redacted>)")
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The token of a request. `missing` is the error otherwise.
pub(super) fn token(credentials: Credentials<'_>, missing: &str) -> Result<Token, Response> {
    let header = credentials.api_key.map(|header| header.trim_matches(BLANKS)).filter(|key| !key.is_empty());
    credentials
        .authorization
        .and_then(bearer)
        .or(header)
        .map(|token| Token(token.to_owned()))
        .ok_or_else(|| Response::no_token(missing))
}

/// The token of a `Bearer` header: the scheme in any case, then any number of blanks.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim_matches(BLANKS).split_once(BLANKS)?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(BLANKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_header_is_read_whatever_its_case_and_blanks() {
        for header in ["Bearer k", "bearer k", "BEARER k", "bEaReR   k", "Bearer\tk", "  Bearer \t k  "] {
            assert_eq!(token(Some(header).into(), "none").unwrap().expose(), "k", "{header:?}");
        }
        // Not a token by its syntax, but presented: unknown, not missing.
        assert_eq!(token(Some("Bearer a b").into(), "none").unwrap().expose(), "a b");
    }

    #[test]
    fn everything_else_is_a_missing_token() {
        let bad = [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer \t "),
            Some("Bearerk"),
            Some("Bearer:k"),
            Some("k"),
        ];
        for header in
            bad.into_iter().chain([Some("Basic k"), Some("Token k"), Some("Bearér k"), Some("Bearer\u{a0}k")])
        {
            let response = token(header.into(), "none").unwrap_err();
            assert_eq!((response.status, response.body.as_str()), (401, r#"{"error":"none"}"#), "{header:?}");
            assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"agentkey\""));
        }
    }

    #[test]
    fn a_header_of_its_own_counts_where_there_is_no_bearer_token() {
        let presented = |authorization, api_key| {
            let credentials = Credentials::new(authorization).api_key(api_key);
            token(credentials, "none").map(|token| token.expose().to_owned()).ok()
        };
        assert_eq!(presented(None, Some(" k ")).as_deref(), Some("k"));
        assert_eq!(presented(Some("Basic x"), Some("k")).as_deref(), Some("k"));
        assert_eq!(presented(Some("Bearer b"), Some("k")).as_deref(), Some("b"));
        assert_eq!(presented(Some("Basic x"), Some("\t")), None);
    }

    #[test]
    fn the_name_of_a_header_is_checked() {
        assert_eq!(api_key_header("X-API-Key").unwrap(), "x-api-key");
        for bad in ["", "x api key", "Authorization", "cookie", "x:y", "schlüssel"] {
            assert_eq!(api_key_header(bad).unwrap_err().code(), ErrorCode::InvalidText, "{bad}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(format!("{:?}", token(Some("Bearer secret").into(), "").unwrap()), "Token(<redacted>)");
    }
}
