//! Scopes: what a key may do. No scopes (`None`) means everything; an empty list means nothing.

use std::borrow::Cow;

use crate::error::{Error, ErrorCode};

/// The scope that passes every check.
pub const ADMIN: &str = "admin";

/// Whether a key with `scopes` may do `scope`: it has no restriction, or one of those that grant it.
pub fn has_scope(scopes: Option<&[String]>, scope: &str, wildcards: bool) -> bool {
    scopes.is_none_or(|scopes| {
        granting(scope, wildcards).any(|granting| scopes.iter().any(|s| **s == granting))
    })
}

/// The scopes that grant `scope`, the only rule for that: itself, and `admin`; with wildcards also `files:*` for whatever
/// begins with `files:`, `files:read:*` among it. A `*` elsewhere is a character as any other.
pub(crate) fn granting(scope: &str, wildcards: bool) -> impl Iterator<Item = Cow<'_, str>> {
    let ends =
        scope.match_indices(':').map(|(at, _)| at + 1).filter(move |end| wildcards && *end < scope.len());
    let wildcards = ends.map(|end| Cow::from(format!("{}*", &scope[..end])));
    [Cow::from(scope), Cow::from(ADMIN)].into_iter().chain(wildcards)
}

/// Those of `scopes` that `valid` does not list. With no list everything is valid.
pub fn invalid_scopes(scopes: &[String], valid: Option<&[String]>) -> Vec<String> {
    let Some(valid) = valid else { return Vec::new() };
    scopes.iter().filter(|s| !valid.contains(s)).cloned().collect()
}

/// Refuses scopes that `valid` does not list, or that cannot be stored.
pub(crate) fn check_scopes(scopes: &[String], valid: Option<&[String]>) -> Result<(), Error> {
    let mut invalid = invalid_scopes(scopes, valid);
    invalid.extend(scopes.iter().filter(|s| s.contains('\0')).map(|s| s.replace('\0', "\\0")));
    if invalid.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidScopes,
        format!("Invalid scopes: {}", crate::error::shortened(&invalid.join(", "))),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scopes: &[&str]) -> Vec<String> {
        scopes.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn a_scope_passes_when_unrestricted_listed_or_admin() {
        assert!(has_scope(None, "write", false));
        assert!(has_scope(Some(&list(&["read", "write"])), "write", false));
        assert!(has_scope(Some(&list(&["admin"])), "write", false));
        assert!(!has_scope(Some(&list(&["read"])), "write", false));
        assert!(!has_scope(Some(&list(&["read:all"])), "read", false));
        assert!(!has_scope(Some(&[]), "read", false));
    }

    #[test]
    fn invalid_scopes_are_named_in_order_and_admin_is_no_exception() {
        let valid = list(&["read", "write"]);
        assert_eq!(invalid_scopes(&list(&["x", "read", "admin"]), Some(&valid)), list(&["x", "admin"]));
        assert!(invalid_scopes(&list(&["x"]), None).is_empty());
        let error = check_scopes(&list(&["a", "b"]), Some(&valid)).unwrap_err();
        assert_eq!(error.message(), "Invalid scopes: a, b");
        assert!(check_scopes(&list(&["a\0"]), None).is_err());
    }

    #[test]
    fn a_wildcard_grants_what_begins_with_it_where_wildcards_are_meant() {
        let has = |scopes: &[&str], scope| has_scope(Some(&list(scopes)), scope, true);
        for scope in ["files:read", "files:read:all", "files:*", "files:read:*", "files::"] {
            assert!(has(&["files:*"], scope), "{scope}");
        }
        for scope in ["files", "files:", "filesystem:read", "file:read", "*", "admin", "x:files:read", ""] {
            assert!(!has(&["files:*"], scope), "{scope}");
        }
        assert!(has(&["files:read:*"], "files:read:x") && !has(&["files:read:*"], "files:write"));
        assert!(
            !has(&["files:read"], "files:*")
                && !has(&["*"], "files:read")
                && !has(&["files:r*"], "files:read")
        );
        assert!(has(&["*"], "*") && has(&[":*"], ":x"));
        assert!(!has_scope(Some(&list(&["files:*"])), "files:read", false));
    }
}
