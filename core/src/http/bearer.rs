//! The `Authorization` header.

use super::response::Response;

/// What a caller presented: a raw key, or a token of somebody else's. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token of an `Authorization` header, for handlers that charge the key themselves.
    ///
    /// # Errors
    /// The response to a request without one.
    pub fn of(authorization: Option<&str>) -> Result<Self, Response> {
        token(authorization, "Missing API key")
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

/// The token of a `Bearer` header: the scheme in any case, then any number of blanks. `missing` is the error otherwise.
pub(super) fn token(authorization: Option<&str>, missing: &str) -> Result<Token, Response> {
    const BLANKS: [char; 2] = [' ', '\t'];
    authorization
        .and_then(|header| header.trim_matches(BLANKS).split_once(BLANKS))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| Token(token.trim_start_matches(BLANKS).to_owned()))
        .ok_or_else(|| Response::no_token(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_header_is_read_whatever_its_case_and_blanks() {
        for header in ["Bearer k", "bearer k", "BEARER k", "bEaReR   k", "Bearer\tk", "  Bearer \t k  "] {
            assert_eq!(token(Some(header), "none").unwrap().expose(), "k", "{header:?}");
        }
        // Not a token by its syntax, but presented: unknown, not missing.
        assert_eq!(token(Some("Bearer a b"), "none").unwrap().expose(), "a b");
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
            let response = token(header, "none").unwrap_err();
            assert_eq!((response.status, response.body.as_str()), (401, r#"{"error":"none"}"#), "{header:?}");
            assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"agentkey\""));
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(format!("{:?}", token(Some("Bearer secret"), "").unwrap()), "Token(<redacted>)");
    }
}
