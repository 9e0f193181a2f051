//! Scopes as tables hold them.

use std::borrow::Cow;

use crate::table::literal::parse_array;

/// Reads a stored value. The column is TEXT[] by the contract, but TEXT columns exist in the wild, holding an array
/// literal, JSON, or a list divided by commas or blanks; a scope always matches as a whole.
pub(crate) fn parse_stored(text: &str) -> Vec<String> {
    let trimmed = text.trim();
    if trimmed.starts_with('{') && trimmed.ends_with('}') {
        if let Some(scopes) = parse_array(trimmed) {
            return scopes.into_iter().flatten().map(Cow::into_owned).collect();
        }
    } else if trimmed.starts_with('[')
        && let Ok(scopes) = serde_json::from_str::<Vec<String>>(trimmed)
    {
        return scopes;
    }
    trimmed
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scopes: &[&str]) -> Vec<String> {
        scopes.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn stored_scopes_are_read_whole_whatever_the_column() {
        assert_eq!(parse_stored("{read,write}"), list(&["read", "write"]));
        assert_eq!(parse_stored(r#"{"a b","c\"d"}"#), list(&["a b", "c\"d"]));
        assert_eq!(parse_stored("{}"), list(&[]));
        assert_eq!(parse_stored(r#"["read","a b"]"#), list(&["read", "a b"]));
        assert_eq!(parse_stored("read, write"), list(&["read", "write"]));
        assert_eq!(parse_stored("readonly"), list(&["readonly"]));
        assert_eq!(parse_stored(""), list(&[]));
    }
}
