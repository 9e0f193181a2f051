//! A guarded service on axum, or around a whole router, which says on stdout what its requests spent: see run.mjs. Its
//! requests carry a plan in their query.
//!
//!     DATABASE_URL=... agentkey-doors axum
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentkey::tower::{AgentKeyLayer, CallerGrant, Price, RequestEnd};
use agentkey::{AgentKey, Cost};
use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tower_layer::Layer;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    is_flat: bool,
    estimate: i64,
    says: String,
    each: i64,
    parts: u32,
    pause_ms: u64,
    bytes: usize,
    status: u16,
    throws: bool,
}

/// What a request does, and what it has counted so far.
struct Work {
    plan: Plan,
    counted: Mutex<Option<i64>>,
}

#[derive(Deserialize)]
struct Planned {
    plan: String,
}

fn say(line: &Value) {
    println!("{line}");
}

fn reservation(grant: &CallerGrant) -> Value {
    grant.reservation().map_or(Value::Null, |held| held.id.as_str().into())
}

/// Before the layer, so that `cost` sees the work.
async fn plan(Query(planned): Query<Planned>, mut request: Request, next: Next) -> Response<Body> {
    let plan = serde_json::from_str(&planned.plan).unwrap();
    request.extensions_mut().insert(Arc::new(Work { plan, counted: Mutex::default() }));
    next.run(request).await
}

fn work_of(extensions: &axum::http::Extensions) -> &Arc<Work> {
    extensions.get().expect("a plan")
}

impl Work {
    fn count(&self, grant: &CallerGrant) {
        let mut counted = self.counted.lock().unwrap();
        *counted = Some(counted.unwrap_or(0) + self.plan.each);
        if self.plan.says == "charges" {
            grant.charge(Cost::microcents(self.plan.each)).unwrap();
            say(&json!({ "spent": self.plan.each, "reservation": reservation(grant), "key": grant.id }));
        }
    }

    fn cost(&self, end: &RequestEnd) -> Price {
        let plan = &self.plan;
        let counted = *self.counted.lock().unwrap();
        let amount = counted.filter(|_| plan.says == "amount");
        let is_error =
            (plan.throws && counted.is_some()) || end.status.is_some_and(|status| status.as_u16() >= 400);
        let fails = plan.says == "fails" && counted.is_some();
        let estimate = if plan.is_flat { 0 } else { plan.estimate };
        let unsaid = if is_error && !fails { 0 } else { estimate };
        let held = end.reservation.as_ref().map(|held| held.id.as_str());
        say(&json!({ "spent": amount.unwrap_or(unsaid), "reservation": held, "key": end.grant.id }));
        match fails {
            true => Price::Failed("the price is not known".to_owned()),
            false => amount.map(Cost::microcents).into(),
        }
    }
}

async fn handle(Extension(work): Extension<Arc<Work>>, grant: CallerGrant) -> Response<Body> {
    say(&json!({ "ran": reservation(&grant) }));
    work.counted.lock().unwrap().get_or_insert(0);
    if work.plan.throws {
        work.count(&grant);
        panic!("thrown on purpose");
    }
    let status = StatusCode::from_u16(work.plan.status).unwrap();
    let parts = stream::unfold(0, move |sent| {
        let (work, grant) = (Arc::clone(&work), grant.clone());
        async move {
            if sent == work.plan.parts {
                return None;
            }
            if sent > 0 {
                // A model that thinks.
                tokio::time::sleep(Duration::from_millis(work.plan.pause_ms)).await;
            }
            work.count(&grant);
            Some((Ok::<_, std::io::Error>(vec![b'x'; work.plan.bytes]), sent + 1))
        }
    });
    (status, Body::from_stream(parts)).into_response()
}

#[tokio::main]
async fn main() {
    let ak =
        AgentKey::builder().pool_size(4).ledger(true).on_error(|message| say(&json!({ "told": message })));
    let ak = ak.database_url(&std::env::var("DATABASE_URL").unwrap()).unwrap().connect_lazy().unwrap();
    let flat = AgentKeyLayer::new(ak.clone()).cost(|end| work_of(&end.request.extensions).cost(end));
    let held = flat
        .clone()
        .reserve_with(|request| Cost::microcents(work_of(&request.extensions).plan.estimate))
        .reserve_ttl(Duration::from_secs(10))
        .unwrap();
    let app = match std::env::args().nth(1).as_deref() {
        Some("axum") => {
            let flat = Router::new().route("/flat", get(handle)).route_layer(flat);
            Router::new().route("/held", get(handle)).layer(held).merge(flat)
        }
        // Around whole routers, into which the layer cannot see.
        Some("tower") => {
            let flat = flat.layer(Router::new().route("/flat", get(handle)));
            let held = held.layer(Router::new().route("/held", get(handle)));
            Router::new().route_service("/flat", flat).fallback_service(held)
        }
        other => panic!("no such server: {other:?}"),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    say(&json!({ "port": listener.local_addr().unwrap().port() }));
    let stopped = Arc::new(Notify::new());
    let stops = Arc::clone(&stopped);
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let serving = axum::serve(listener, app.layer(from_fn(plan)))
        .with_graceful_shutdown(async move { stops.notified().await });
    let serving = tokio::spawn(async move { serving.await });
    terminate.recv().await;
    stopped.notify_one();
    // A second of grace: what still runs then goes on while the client is being closed.
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    ak.close().await;
}
