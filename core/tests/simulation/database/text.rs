//! How the database writes values, and how it reads parameters.

use agentkey::engine::parse_row;

pub fn optional(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub fn yes_or_no(is_true: bool) -> &'static str {
    if is_true { "t" } else { "f" }
}

/// A field of a row that needs quotes.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
}

/// An array of rows.
pub fn row_array(rows: &[String]) -> String {
    let escaped = |row: &String| format!("\"{}\"", row.replace('\\', "\\\\").replace('"', "\\\""));
    format!("{{{}}}", rows.iter().map(escaped).collect::<Vec<_>>().join(","))
}

pub fn number(text: &str) -> i64 {
    text.parse().expect("a number")
}

/// Reads an array literal: between its braces it is written like a row.
pub fn array(text: &str) -> Vec<String> {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).expect("an array");
    if inner.is_empty() {
        return Vec::new();
    }
    let row = format!("({inner})");
    let items = parse_row(&row).expect("an array's items").into_iter();
    items.map(|item| item.expect("an item that is not NULL").into_owned()).collect()
}
