//! Scopes: what a key may do. No scopes (`None`) means everything; an empty list means nothing.

use crate::error::{Error, ErrorCode};

/// The scope that passes every check.
pub const ADMIN: &str = "admin";

/// Whether a key with `scopes` may do `scope`: it has no restriction, it has the scope, or it is an admin.
pub fn has_scope(scopes: Option<&[String]>, scope: &str) -> bool {
    scopes.is_none_or(|scopes| scopes.iter().any(|s| s == scope || s == ADMIN))
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
        assert!(has_scope(None, "write"));
        assert!(has_scope(Some(&list(&["read", "write"])), "write"));
        assert!(has_scope(Some(&list(&["admin"])), "write"));
        assert!(!has_scope(Some(&list(&["read"])), "write"));
        assert!(!has_scope(Some(&list(&["read:all"])), "read"));
        assert!(!has_scope(Some(&[]), "read"));
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
}
