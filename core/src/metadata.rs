//! Metadata of keys and of entries of the ledger: JSON objects that the application keeps with them.

use serde_json::{Map, Value};

use crate::error::{Error, ErrorCode};

/// The most that it may be, as JSON.
const MAX_BYTES: usize = 16 * 1024;
/// How deep it may be nested. Readers of JSON have limits, the nearest of them at 128 levels with those around it.
pub(crate) const MAX_LEVELS: usize = 100;

/// Refuses metadata that is too large, too deep, or that Postgres cannot hold.
pub(crate) fn check(metadata: &Map<String, Value>) -> Result<(), Error> {
    let invalid = |why: &str| Err(Error::new(ErrorCode::InvalidText, format!("Invalid metadata: {why}")));
    // First: nothing else looks at what lies too deep.
    if !metadata.values().all(|value| is_at_most(value, MAX_LEVELS - 1)) {
        return invalid(&format!("nested more than {MAX_LEVELS} levels deep"));
    }
    let text = Value::from(metadata.clone()).to_string();
    if text.len() > MAX_BYTES || has_nul(metadata) {
        return invalid(&format!("at most {MAX_BYTES} bytes of JSON without NUL characters"));
    }
    Ok(())
}

/// Whether arrays and objects are nested so many levels deep at most.
fn is_at_most(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_at_most(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| is_at_most(member, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Whether a text in it has a NUL character.
fn has_nul(members: &Map<String, Value>) -> bool {
    fn of(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(of),
            Value::Object(members) => has_nul(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    members.iter().any(|(name, value)| name.contains('\0') || of(value))
}
