//! A key's scopes in SQL, whatever the type of their column.

/// The scopes of `k` as `text[]`, NULL where there is no restriction. Text columns hold lists in several notations, which
/// only `rows/scopes.rs` reads: to SQL such a key has no scope.
pub(super) fn scopes_array(sql_type: &str, exists: bool) -> &'static str {
    match sql_type {
        _ if !exists => "NULL::text[]",
        array if array.ends_with("[]") => "k.scopes::text[]",
        "jsonb" | "json" => {
            "CASE WHEN k.scopes IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(\
             CASE jsonb_typeof(k.scopes::jsonb) WHEN 'array' THEN k.scopes::jsonb ELSE '[]' END)) END"
        }
        _ => "CASE WHEN k.scopes IS NOT NULL THEN '{}'::text[] END",
    }
}

/// Whether `$5` is one of the scopes of `k`, which are `text[]`, as the index of a migration knows it.
pub(super) const NAMES_SCOPE: &str = "k.scopes IS NOT NULL AND CASE WHEN array_ndims(k.scopes) = 1 AND \
    array_position(k.scopes, NULL::text) IS NULL THEN jsonb_object(k.scopes, k.scopes) END \
    @> jsonb_build_object($5::text, $5::text)";

/// Whether `k` has scopes that no request can name.
pub(super) fn bad_scopes(sql_type: &str) -> &'static str {
    match sql_type {
        array if array.ends_with("[]") => {
            "array_position(k.scopes::text[], NULL) IS NOT NULL OR '' = ANY (k.scopes::text[]) OR array_ndims(k.scopes) > 1"
        }
        "jsonb" | "json" => {
            "jsonb_typeof(k.scopes::jsonb) <> 'array' OR jsonb_path_exists(k.scopes::jsonb, '$[*] ? (@.type() != \"string\")')"
        }
        _ => "false",
    }
}
