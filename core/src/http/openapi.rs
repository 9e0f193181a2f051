//! The OpenAPI description of the routes. `openapi.json` has all of them; a server describes those that it serves.

use serde_json::{Map, Value};

use super::route::Route;

/// All routes, described.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The description of the routes that are `served`.
pub(super) fn description(served: impl Fn(&Route) -> bool) -> String {
    // The file is ours: a test reads it.
    let mut document: Map<String, Value> = serde_json::from_str(OPENAPI).unwrap_or_default();
    if let Some(Value::Object(paths)) = document.get_mut("paths") {
        for (path, operations) in &mut *paths {
            if let Value::Object(operations) = operations {
                operations.retain(|method, _| served(&Route::of(&method.to_ascii_uppercase(), path)));
            }
        }
        paths.retain(|_, operations| operations.as_object().is_some_and(|operations| !operations.is_empty()));
    }
    Value::Object(document).to_string()
}
