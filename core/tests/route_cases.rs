//! The shared cases of the self-serve routes (tests/cases/routes), as a router of axum and as a service of tower.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;
#[path = "http_cases/wire.rs"]
mod wire;

use std::collections::HashMap;
use std::path::Path;

use agentkey::tower::{KeyRoutes, RateLimit};
use agentkey::{AgentKey, Cost, CreateKey, Reserve};
use axum::Router;
use axum::http::Request;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use support::TestDatabase;
use wire::Server;

/// A failure in words.
type Problem = String;

fn ensure(holds: bool, problem: impl FnOnce() -> Problem) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(problem()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "about")]
    _about: String,
    #[serde(default)]
    options: Map<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Case {
    name: String,
    #[serde(default)]
    must_fail: bool,
    options: Option<Map<String, Value>>,
    #[serde(default)]
    keys: Vec<Map<String, Value>>,
    #[serde(default)]
    sql: Vec<String>,
    #[serde(default)]
    hold: Vec<Hold>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    #[serde(rename = "as")]
    of: String,
    cents: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(rename = "as")]
    caller: Option<String>,
    send: String,
    body: Option<Value>,
    #[serde(default = "usual_status")]
    status: Value,
    answer: Option<Value>,
    #[serde(default)]
    lacks: Vec<String>,
    keep: Option<String>,
}

fn usual_status() -> Value {
    json!(200)
}

/// `{name.id}` and `{name.key}` of the keys that there are.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn keep(&mut self, name: &str, id: &str, key: &str) {
        self.0.insert(format!("{{{name}.id}}"), id.to_owned());
        self.0.insert(format!("{{{name}.key}}"), key.to_owned());
    }

    fn of(&self, name: &str, what: &str) -> &str {
        &self.0[&format!("{{{name}.{what}}}")]
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

type Make = fn(KeyRoutes) -> Router;

const DOORS: [(&str, Make); 2] = [
    ("axum", |routes| routes.router().unwrap()),
    ("tower", |routes| Router::new().fallback_service(routes.service().unwrap())),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_case_of_the_routes_passes_through_every_door() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/routes");
    let (mut failures, mut count) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let file: File = serde_json::from_str(&text).unwrap();
        for case in &file.cases {
            for (name, make) in DOORS {
                count += 1;
                let options = case.options.as_ref().unwrap_or(&file.options);
                let result = run(&db, &ak, case, make(routes(&ak, options))).await;
                match (case.must_fail, result) {
                    (true, Ok(())) => {
                        failures.push(format!("{name}: {}: it passed, but it must fail", case.name))
                    }
                    (false, Err(problem)) => failures.push(format!("{name}: {}: {problem}", case.name)),
                    _ => {}
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}\n", failures.len(), failures.join("\n"));
    assert!(count > 20, "only {count} cases ran");
    db.drop().await;
}

fn routes(ak: &AgentKey, options: &Map<String, Value>) -> KeyRoutes {
    let mut routes = KeyRoutes::new(ak.clone()).signup(true);
    for (name, value) in options {
        routes = match name.as_str() {
            "manage" => routes.manage(value.as_bool().unwrap()),
            "signup" => routes.signup(value.as_bool().unwrap()),
            "signupRateLimit" => {
                let max = u32::try_from(value.as_u64().unwrap()).unwrap();
                routes.signup_rate_limit(RateLimit::new(max, 3600))
            }
            "signupScopes" => {
                routes.signup_scopes(value.as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()))
            }
            other => panic!("an unknown option of routes: {other}"),
        };
    }
    routes
}

async fn run(db: &TestDatabase, ak: &AgentKey, case: &Case, app: Router) -> Result<(), Problem> {
    let mut names = Names::default();
    for key in &case.keys {
        let created = ak.create(spec(key, &names)).await.map_err(|e| e.to_string())?;
        names.keep(key["as"].as_str().unwrap(), &created.id.to_string(), created.key.expose());
    }
    for sql in &case.sql {
        db.run(&names.fill(sql)).await;
    }
    for Hold { of, cents } in &case.hold {
        let held = ak
            .reserve(names.of(of, "key"), Reserve::new(Cost::cents(*cents)))
            .await
            .map_err(|e| e.to_string())?;
        ensure(held.is_ok(), || format!("nothing is held: {held:?}"))?;
    }
    let server = Server::start(app).await;
    let mut result = Ok(());
    for step in &case.steps {
        result = take(&server, step, &mut names).await.map_err(|problem| format!("{}: {problem}", step.send));
        if result.is_err() {
            break;
        }
    }
    server.stop().await;
    result
}

fn spec(key: &Map<String, Value>, names: &Names) -> CreateKey {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let mut spec = CreateKey::new(text("accountId").unwrap());
    for (name, value) in key {
        spec = match name.as_str() {
            "as" | "accountId" => spec,
            "name" => spec.name(value.as_str().unwrap()),
            "parent" => spec.parent(agentkey::KeyId::from(names.of(value.as_str().unwrap(), "id"))),
            "scopes" => spec.scopes(value.as_array().unwrap().iter().map(|scope| scope.as_str().unwrap())),
            "budgetCents" => spec.budget_cents(value.as_i64().unwrap()),
            "budgetPeriod" => spec.budget_period(value.as_str().unwrap().parse().unwrap()),
            "metadata" => spec.metadata(value.as_object().unwrap().clone()),
            "expiresIn" => {
                let hours = value.as_str().unwrap().strip_suffix('h').unwrap().parse::<u64>().unwrap();
                spec.expires_in(std::time::Duration::from_secs(3600 * hours))
            }
            other => panic!("an unknown option of a key: {other}"),
        };
    }
    spec
}

async fn take(server: &Server, step: &Step, names: &mut Names) -> Result<(), Problem> {
    let (method, path) = step.send.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(names.fill(path));
    if let Some(caller) = &step.caller {
        request = request.header("authorization", format!("Bearer {}", names.of(caller, "key")));
    }
    let body = step.body.as_ref().map_or_else(String::new, Value::to_string);
    let answer = wire::send(server.address, request.body(body).unwrap(), false).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let wanted = step.status.as_array().cloned().unwrap_or_else(|| vec![step.status.clone()]);
    ensure(wanted.contains(&json!(answer.status)), || {
        format!("{}, not {}: {text}", answer.status, step.status)
    })?;
    // What the routes answer themselves is stored nowhere; what the router answers has no body.
    let is_stored = answer.headers.get("cache-control").is_none_or(|value| value != "no-store");
    ensure(text.is_empty() || !is_stored, || "it may be stored".to_owned())?;
    let got: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if let Some(expected) = &step.answer {
        compare("", expected, &got, names)?;
    }
    for lacking in &step.lacks {
        ensure(!text.contains(&names.fill(lacking)), || format!("it has {lacking}: {text}"))?;
    }
    if let Some(name) = &step.keep {
        names.keep(name, &shown(&got["id"]), got["key"].as_str().ok_or("no key")?);
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Objects may have more members than expected; `{"~": "^20"}` is a beginning, or any UUID.
fn compare(at: &str, expected: &Value, got: &Value, names: &Names) -> Result<(), Problem> {
    let wrong = || format!("{at}: {got}, not {expected}");
    match (expected, got) {
        (Value::Object(expected), _) if expected.contains_key("~") => {
            let text = got.as_str().unwrap_or_default();
            let matches = match expected["~"].as_str().unwrap() {
                "^20" => text.starts_with("20"),
                "^[0-9a-f-]{36}$" => {
                    text.len() == 36 && text.chars().all(|c| c == '-' || matches!(c, '0'..='9' | 'a'..='f'))
                }
                other => panic!("an unknown pattern: {other}"),
            };
            ensure(matches, wrong)
        }
        (Value::Object(expected), Value::Object(got)) => expected.iter().try_for_each(|(name, member)| {
            let found = got.get(name).ok_or_else(|| format!("{at}.{name} is missing"))?;
            compare(&format!("{at}.{name}"), member, found, names)
        }),
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
            let pairs = expected.iter().zip(got).enumerate();
            pairs
                .into_iter()
                .try_for_each(|(n, (one, other))| compare(&format!("{at}[{n}]"), one, other, names))
        }
        (Value::String(text), _) if text.starts_with('{') => ensure(names.fill(text) == shown(got), wrong),
        _ => ensure(expected == got, wrong),
    }
}
