//! The cases as they are written.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A failure in words.
pub type Problem = String;

pub fn ensure(holds: bool, problem: impl FnOnce() -> Problem) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(problem()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[expect(dead_code, reason = "for people")]
    about: String,
    #[serde(default)]
    door: Map<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    pub name: String,
    #[serde(default, rename = "note")]
    _note: Option<String>,
    doors: Option<Vec<String>>,
    #[serde(default)]
    pub must_fail: bool,
    #[serde(default = "usual_key")]
    pub key: Value,
    pub sql: Option<String>,
    #[serde(default, rename = "door")]
    own_door: Option<Map<String, Value>>,
    #[serde(skip)]
    pub door: Map<String, Value>,
    pub cost: Option<Cost>,
    #[serde(default)]
    pub handler: Handler,
    #[serde(default)]
    pub request: Request,
    pub response: Option<Response>,
    pub spent_microcents: Option<i64>,
    pub logs: Option<String>,
}

fn usual_key() -> Value {
    json!({ "accountId": "a", "budgetCents": 100 })
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    #[serde(default)]
    pub says: Value,
    pub fails: Option<String>,
    pub sql: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Handler {
    pub status: u16,
    pub throws: bool,
    pub leaves: bool,
    pub missing: bool,
    /// No door of Rust reads parameters.
    #[serde(rename = "invalid")]
    _invalid: bool,
    pub charges: Vec<Value>,
}

impl Default for Handler {
    fn default() -> Self {
        Handler {
            status: 200,
            throws: false,
            leaves: false,
            missing: false,
            _invalid: false,
            charges: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Request {
    pub method: String,
    /// `null` is none.
    pub authorization: Option<String>,
    pub api_key: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Request { method: "GET".to_owned(), authorization: Some("Bearer {key}".to_owned()), api_key: None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    pub status: u16,
    pub body: Option<Value>,
    #[serde(default)]
    pub headers: Map<String, Value>,
}

impl Case {
    pub fn is_for(&self, door: &str) -> bool {
        self.doors.as_ref().is_none_or(|doors| doors.iter().any(|name| name == door))
    }
}

/// Every case of every file.
pub fn files() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/http");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let file: File = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(!file.cases.is_empty(), "{}: no cases", path.display());
        for mut case in file.cases {
            case.door = case.own_door.take().unwrap_or_else(|| file.door.clone());
            cases.push(case);
        }
    }
    cases
}
