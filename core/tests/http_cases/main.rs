//! The shared cases of requests at a guarded door (tests/cases/http), over real HTTP, through axum and plain tower.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod wire;

use std::sync::{Arc, Mutex};

use agentkey::http::Price;
use agentkey::tower::{AgentKeyLayer, CallerGrant, RequestEnd};
use agentkey::{AgentKey, CreateKey};
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use axum::{Extension, Router};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tower::Layer;
use tower_http::catch_panic::CatchPanicLayer;

use case::{Case, Problem, ensure, files};
use support::TestDatabase;
use wire::{Answer, Server};

/// The doors by the name that cases have for them.
const DOORS: [(&str, &str, Make); 3] = [
    ("axum", "axum", |layer, path, route| Router::new().route(path, route).layer(layer)),
    (ONE_ROUTE, "axum", |layer, path, route| Router::new().route(path, route.layer(layer))),
    // Whether the service has a route is not to be seen from outside.
    ("tower", "tower", |layer, path, route| {
        Router::new().fallback_service(layer.layer(Router::new().route(path, route)))
    }),
];
const ONE_ROUTE: &str = "axum, one route";

type Make = fn(AgentKeyLayer, &str, MethodRouter) -> Router;

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_through_every_door() {
    let log = Log::start();
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let mut failures = Vec::new();
    let mut count = 0;
    for (name, door, make) in DOORS {
        for case in files().into_iter().filter(|case| case.is_for(door)) {
            // What has no route does not come to a layer of one.
            if case.handler.missing && name == ONE_ROUTE {
                continue;
            }
            count += 1;
            log.take();
            let result = run(&db, &ak, &case, make, &log).await;
            let result = match (case.must_fail, result) {
                (true, Err(_)) => Ok(()),
                (true, Ok(())) => Err("it passed, but it must fail".to_owned()),
                (false, result) => result,
            };
            if let Err(problem) = result {
                failures.push(format!("{name}: {}: {problem}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}\n", failures.len(), failures.join("\n"));
    assert!(count > 150, "only {count} cases ran");
    db.drop().await;
}

async fn run(db: &TestDatabase, ak: &AgentKey, case: &Case, make: Make, log: &Log) -> Result<(), Problem> {
    let created = ak.create(spec(&case.key)).await.map_err(|e| e.to_string())?;
    let (key, id) = (created.key.expose(), created.id.to_string());
    if let Some(sql) = &case.sql {
        db.run(&sql.replace("{id}", &id)).await;
    }
    let behind = AgentKey::builder().pool_size(2).connect(&db.url).await.map_err(|e| e.to_string())?;
    let path = if case.handler.missing { "/elsewhere" } else { "/" };
    let app = make(layer(db, &behind, case, &id), path, get(handle));
    let app = app.layer(Extension(Arc::new(case.handler.clone()))).layer(CatchPanicLayer::new());
    let server = Server::start(app).await;
    let answer = wire::send(server.address, request(case, key), case.handler.leaves).await;
    // It waits for the end of the request, and for what that cost to be recorded.
    behind.close().await;
    server.stop().await;
    check_answer(db, case, &answer).await?;
    if let Some(spent) = case.spent_microcents {
        let column = |name: &str| {
            format!(
                "SELECT budget_{name}_cents * 1000000 + budget_{name}_microcents FROM sdk_api_keys WHERE id = {id}"
            )
        };
        ensure(db.number(&column("reserved")).await == 0, || "an amount is still held".to_owned())?;
        let used = db.number(&column("used")).await;
        ensure(used == spent, || format!("{used} micro-cents are spent, not {spent}"))?;
    }
    let lines = log.take();
    ensure(!lines.contains(key), || "the log has the key".to_owned())?;
    match &case.logs {
        Some(pattern) => {
            let is_it = lines.lines().count() == 1 && matches(db, pattern, &lines).await;
            ensure(is_it, || format!("logged: {lines:?}"))
        }
        None => ensure(lines.is_empty(), || format!("logged: {lines:?}")),
    }
}

fn spec(key: &Value) -> CreateKey {
    let mut spec = CreateKey::new(key["accountId"].as_str().expect("an account"));
    for (name, value) in key.as_object().expect("a key") {
        spec = match name.as_str() {
            "accountId" => spec,
            "budgetCents" => spec.budget_cents(value.as_i64().unwrap()),
            "budgetPeriod" => spec.budget_period(value.as_str().unwrap().parse().unwrap()),
            "scopes" => spec.scopes(value.as_array().unwrap().iter().map(|scope| scope.as_str().unwrap())),
            other => panic!("an unknown option of a key: {other}"),
        };
    }
    spec
}

fn layer(db: &TestDatabase, ak: &AgentKey, case: &Case, id: &str) -> AgentKeyLayer {
    let mut layer = AgentKeyLayer::new(ak.clone());
    for (name, value) in &case.door {
        layer = match name.as_str() {
            "scope" => layer.scope(value.as_str().unwrap()),
            "reserve" => {
                let amount = value.to_string();
                layer.reserve_with(move |_| Price::read(Some(&amount)))
            }
            "billErrors" => layer.bill_errors(value.as_bool().unwrap()),
            "budgetHeaders" => layer.budget_headers(value.as_bool().unwrap()),
            "exceededStatus" => layer.exceeded_status(value.as_u64().unwrap() as u16).unwrap(),
            "apiKeyHeader" => layer.api_key_header(value.as_str().unwrap()).unwrap(),
            other => panic!("an unknown option of a door: {other}"),
        };
    }
    let Some(cost) = case.cost.clone() else { return layer };
    let (pool, id) = (db.pool.clone(), id.to_owned());
    layer.cost_async(move |_: RequestEnd| {
        let (cost, pool, id) = (cost.clone(), pool.clone(), id.clone());
        async move {
            if let Some(sql) = &cost.sql {
                let sql = sqlx::AssertSqlSafe(sql.replace("{id}", &id));
                sqlx::query(sql).execute(&pool).await.unwrap();
            }
            match cost.fails {
                Some(why) => Err(why),
                None => Ok(Price::read(Some(&cost.says.to_string()))),
            }
        }
    })
}

async fn handle(
    Extension(plan): Extension<Arc<case::Handler>>,
    Extension(grant): Extension<CallerGrant>,
) -> Response<Body> {
    for amount in &plan.charges {
        if let Err(error) = grant.charge(Price::read(Some(&amount.to_string()))) {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
    }
    assert!(!plan.throws, "the handler's own");
    if plan.leaves {
        let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"the beginning"))]);
        return Body::from_stream(begun.chain(stream::pending())).into_response();
    }
    let content = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::from_u16(plan.status).unwrap(), content, r#"{"ok":true}"#).into_response()
}

fn request(case: &Case, key: &str) -> Request<String> {
    let mut request = Request::builder().method(case.request.method.as_str()).uri("/");
    if let Some(value) = &case.request.authorization {
        request = request.header("authorization", value.replace("{key}", key));
    }
    if let Some(value) = &case.request.api_key {
        request = request.header("x-api-key", value.replace("{key}", key));
    }
    request.body(String::new()).unwrap()
}

async fn check_answer(db: &TestDatabase, case: &Case, answer: &Answer) -> Result<(), Problem> {
    let Some(expected) = &case.response else { return Ok(()) };
    ensure(answer.status == expected.status, || {
        format!("status {}, not {}", answer.status, expected.status)
    })?;
    if let Some(body) = &expected.body {
        let got = serde_json::from_slice(&answer.body).unwrap_or(json!("no JSON"));
        ensure(got == *body, || format!("body {got}, not {body}"))?;
    }
    for (name, pattern) in &expected.headers {
        let value = answer.headers.get(name.as_str()).map_or("", |value| value.to_str().unwrap());
        let pattern = pattern.as_str().unwrap();
        ensure(matches(db, pattern, value).await, || format!("{name}: {value:?}, not {pattern}"))?;
    }
    Ok(())
}

/// Whether a text matches a regular expression, as Postgres reads it.
async fn matches(db: &TestDatabase, pattern: &str, text: &str) -> bool {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    db.text(&format!("SELECT {} ~ {}", literal(text), literal(pattern))).await == "true"
}

/// What agentkey logs.
#[derive(Clone)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> Self {
        let log = Log(Arc::default());
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    }

    /// The lines since it was last asked. Others may log, too.
    fn take(&self) -> String {
        let lines = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        lines.lines().filter(|line| line.contains(" agentkey: ")).map(|line| format!("{line}\n")).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
