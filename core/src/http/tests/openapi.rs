//! The description of the routes has every route, and no other.

use super::*;
use serde_json::Map;

fn described(options: &RouteOptions) -> Vec<String> {
    let document: Value = serde_json::from_str(&Routes::new(options).unwrap().openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = |path: &String, operations: &Value| -> Vec<String> {
        operations
            .as_object()
            .unwrap()
            .keys()
            .map(|method| format!("{} {path}", method.to_uppercase()))
            .collect()
    };
    paths.iter().flat_map(|(path, of)| operations(path, of)).collect()
}

#[test]
fn what_is_served_is_described() {
    let all = RouteOptions { manage: true, ..RouteOptions::default() };
    let expected = [
        "GET /sdk-keys",
        "POST /sdk-keys",
        "GET /sdk-keys/increases",
        "POST /sdk-keys/increases",
        "POST /sdk-keys/increases/{id}",
        "GET /sdk-keys/me",
        "DELETE /sdk-keys/{id}",
        "PATCH /sdk-keys/{id}",
        "POST /sdk-keys/{id}/disable",
        "POST /sdk-keys/{id}/enable",
        "POST /sdk-keys/{id}/rotate",
        "POST /signup",
    ];
    assert_eq!(described(&all), expected);
    let unasked = [
        "POST /sdk-keys",
        "GET /sdk-keys/increases",
        "POST /sdk-keys/increases",
        "POST /sdk-keys/increases/{id}",
        "GET /sdk-keys/me",
        "DELETE /sdk-keys/{id}",
        "POST /signup",
    ];
    assert_eq!(described(&RouteOptions::default()), unasked);
    let closed = RouteOptions { signup: Some(false), ..RouteOptions::default() };
    assert_eq!(described(&closed), unasked[..6]);
}

#[test]
fn each_operation_is_a_route_and_each_reference_is_there() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let route = Route::of(&method.to_uppercase(), path);
            assert_ne!(route, Route::Unknown, "{method} {path}");
            assert_eq!(route.has_body(), operation.get("requestBody").is_some(), "{method} {path}");
            assert_eq!(route == Route::Signup, operation.get("security").is_none(), "{method} {path}");
        }
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    check_references(&document, schemas);
}

fn check_references(part: &Value, schemas: &Map<String, Value>) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                let name = reference.strip_prefix("#/components/schemas/").unwrap();
                assert!(schemas.contains_key(name), "{reference}");
            }
            members.values().for_each(|member| check_references(member, schemas));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(item, schemas)),
        _ => {}
    }
}
