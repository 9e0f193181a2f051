//! The layer among others.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use agentkey::CreateKey;
use agentkey::tower::{AgentKeyLayer, CallerGrant, presented_key};
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Query;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{BoxError, Router};
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;

use super::{CENT, Door, ESTIMATE, send, text};

async fn late(_: BoxError) -> StatusCode {
    StatusCode::REQUEST_TIMEOUT
}

fn timeout() -> impl Layer<
    axum::routing::Route,
    Service: Service<Request<Body>, Response: IntoResponse, Error = Infallible, Future: Send>
                 + Clone
                 + Send
                 + Sync,
> + Clone
+ Send
+ Sync {
    ServiceBuilder::new().layer(HandleErrorLayer::new(late)).timeout(Duration::from_secs(2))
}

#[tokio::test]
async fn a_handler_that_is_stopped_within_failed_and_outside_was_left() {
    for (within, worth) in [(true, 0), (false, ESTIMATE)] {
        let door = Door::open().await;
        let app = Router::new().route("/", get(std::future::pending::<()>));
        let app = match within {
            true => app.layer(timeout()).layer(door.layer()),
            false => app.layer(door.layer()).layer(timeout()),
        };
        assert_eq!(send(&app, door.get("/")).await.status(), StatusCode::REQUEST_TIMEOUT);
        door.spent(worth * CENT).await;
        door.close().await;
    }
}

#[tokio::test]
async fn a_panic_that_is_caught_within_or_outside_costs_nothing() {
    for within in [true, false] {
        let door = Door::open().await;
        async fn handler() {
            panic!("the handler's own");
        }
        let app = Router::new().route("/", get(handler));
        let app = match within {
            true => app.layer(CatchPanicLayer::new()).layer(door.layer()),
            false => app.layer(door.layer()).layer(CatchPanicLayer::new()),
        };
        assert_eq!(send(&app, door.get("/")).await.status(), 500);
        door.spent(0).await;
        door.close().await;
    }
}

#[tokio::test]
async fn what_has_no_route_costs_nothing_wherever_the_layer_stands() {
    let door = Door::open().await;
    let priced = || door.layer().bill_errors(true).cost(|_: &_| 7);
    let inner = || {
        Router::new()
            .route("/there", post(|| async { "done" }))
            // It knows of the route, though a layer around the whole router does not.
            .route(
                "/gone",
                get(|grant: CallerGrant| async move { (StatusCode::NOT_FOUND, grant.name.clone()) }),
            )
    };
    let nested = Router::new().nest("/api", inner());
    let around = Router::new().fallback_service(priced().layer(nested.clone()));
    for (name, app) in [
        ("each route", nested.clone().layer(priced())),
        ("within a nest", Router::new().nest("/api", inner().layer(priced()))),
        ("around a nest", around),
        ("a service in a nest", Router::new().nest_service("/api", priced().layer(inner()))),
    ] {
        door.db.run("UPDATE sdk_api_keys SET budget_used_cents = 0").await;
        assert_eq!(send(&app, door.get("/api/nowhere")).await.status(), 404, "{name}");
        assert_eq!(send(&app, door.get("/api/there")).await.status(), 405, "{name}");
        door.spent(0).await;
        assert_eq!(send(&app, door.get("/api/gone")).await.status(), 404, "{name}");
        door.spent(7 * CENT).await;
    }
    door.close().await;
}

#[tokio::test]
async fn of_two_layers_each_records_its_own() {
    let door = Door::open().await;
    let outer = door.layer().cost(|_: &_| 3);
    let inner = AgentKeyLayer::new(door.ak.clone()).reserve_cents(10).budget_headers(true);
    let handler = |grant: CallerGrant| async move {
        assert_eq!(grant.budget_reserved_cents, ESTIMATE);
        grant.charge(4).unwrap();
        [("ratelimit", "mine")]
    };
    let app = Router::new().route("/", get(handler)).layer(inner).layer(outer);
    let response = send(&app, door.get("/")).await;
    assert_eq!(response.headers()["ratelimit"], "mine");
    assert!(response.headers().contains_key("ratelimit-policy"));
    drop(response);
    door.spent(7 * CENT).await;
    door.close().await;
}

#[tokio::test]
async fn who_does_not_pass_is_not_counted_by_what_stands_within() {
    let door = Door::open().await;
    let created = door.ak.create(CreateKey::new("a").scopes(["read"])).await.unwrap();
    let layer = door.layer().scope("read").scope("write").exceeded_status(402).unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let serving = Arc::clone(&served);
    let handler = async move || {
        serving.fetch_add(1, Ordering::Relaxed);
    };
    let app = Router::new().route("/", get(handler)).layer(layer);
    for (bearer, status) in [
        (String::new(), 401),
        ("ak_nobody".to_owned(), 401),
        (created.key.expose().to_owned(), 403),
        (door.key.clone(), 200),
        (door.key.clone(), 200),
        (door.key.clone(), 402),
    ] {
        let request = Request::get("/").header("authorization", format!("Bearer {bearer}"));
        let response = send(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{bearer}");
        let is_json = response
            .headers()
            .get("content-type")
            .is_some_and(|value| value == "application/json; charset=utf-8");
        assert_eq!(
            (is_json, text(response).await.starts_with(r#"{"error":"#)),
            (status != 200, status != 200)
        );
        super::eventually("nothing is held", async || !door.is_held().await).await;
    }
    assert_eq!(served.load(Ordering::Relaxed), 2);
    door.close().await;
}

/// A service that may be called only where it was asked whether it is ready.
struct Ready {
    is_ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Ready {
    fn clone(&self) -> Self {
        Ready { is_ready: false, calls: Arc::clone(&self.calls) }
    }
}

impl Service<Request<Body>> for Ready {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        self.calls.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_service() {
    let door = Door::open().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let stack = ServiceBuilder::new()
        .layer(AgentKeyLayer::new(door.ak.clone()))
        .concurrency_limit(1)
        .service(Ready { is_ready: false, calls: Arc::clone(&calls) });
    let mut service: BoxCloneService<_, _, BoxError> = BoxCloneService::new(stack);
    let mut other = service.clone();
    for _ in 0..3 {
        service.ready().await.unwrap().call(door.get("/")).await.unwrap();
        other.ready().await.unwrap().call(door.get("/")).await.unwrap();
    }
    // A place is taken from when the service is ready until the request is served, or refused.
    let first = service.ready().await.unwrap().call(Request::new(Body::empty()));
    let mut waiting = std::pin::pin!(other.ready());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(first.await.unwrap().status(), 401);
    waiting.await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 6);
    door.close().await;
}

#[tokio::test]
async fn without_the_layer_the_extractor_explains_itself() {
    let app = Router::new()
        .route("/", get(|_: CallerGrant| async {}))
        .route("/either", get(|grant: Option<CallerGrant>| async move { grant.is_none().to_string() }));
    let response = send(&app, Request::get("/").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 500);
    assert!(text(response).await.contains("AgentKeyLayer"));
    let either = send(&app, Request::get("/either").body(Body::empty()).unwrap()).await;
    assert_eq!(text(either).await, "true");
}

#[test]
fn options_are_checked_at_once_and_name_what_is_accepted() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let ak = agentkey::AgentKey::builder().connect_lazy().unwrap();
    let layer = || AgentKeyLayer::new(ak.clone());
    for (error, code, says) in [
        (layer().exceeded_status(500).unwrap_err(), "invalid_text", "402 or 429"),
        (layer().api_key_header("Authorization").unwrap_err(), "invalid_text", "x-api-key"),
        (layer().api_key_header("x api key").unwrap_err(), "invalid_text", "x-api-key"),
        (layer().reserve_ttl(Duration::ZERO).unwrap_err(), "invalid_duration", "30d"),
        (layer().reserve_ttl(Duration::MAX).unwrap_err(), "invalid_duration", "30d"),
    ] {
        assert_eq!(error.code().as_str(), code);
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn a_key_is_read_as_by_the_layer_and_never_shown() {
    let mut headers = HeaderMap::new();
    let name = "x-api-key".parse().unwrap();
    assert!(presented_key(&headers, Some(&name)).is_none());
    headers.insert("x-api-key", "ak_1".parse().unwrap());
    assert_eq!(presented_key(&headers, Some(&name)).unwrap().expose(), "ak_1");
    assert!(presented_key(&headers, None).is_none());
    headers.append("x-api-key", "ak_2".parse().unwrap());
    assert!(presented_key(&headers, Some(&name)).is_none());
    headers.insert("authorization", axum::http::HeaderValue::from_bytes(b"bearer  ak\xff").unwrap());
    let token = presented_key(&headers, Some(&name)).unwrap();
    assert_eq!(token.expose(), "ak\u{ff}");
    assert!(!format!("{token:?}").contains("ak"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_number_of_requests_at_once_spends_no_more_than_the_budget() {
    #[derive(serde::Deserialize)]
    struct Plan {
        cents: i64,
    }

    let door = Door::open().await;
    let layer = AgentKeyLayer::new(door.ak.clone()).reserve_cents(9);
    let handler = async |grant: CallerGrant, Query(plan): Query<Plan>| {
        tokio::task::yield_now().await;
        grant.charge(plan.cents).unwrap();
    };
    let app = Router::new().route("/", get(handler)).layer(layer);
    let mut served = 0;
    // Whoever was refused while others held more than they spent may try again.
    while served <= 91 {
        let mut sending = tokio::task::JoinSet::new();
        for n in 0..100 {
            let (app, cents) = (app.clone(), 1 + n % 9);
            let request = door.get(&format!("/?cents={cents}"));
            sending.spawn(async move {
                match send(&app, request).await.status().as_u16() {
                    200 => cents,
                    429 => 0,
                    other => panic!("answered {other}"),
                }
            });
        }
        served += sending.join_all().await.into_iter().sum::<i64>();
        door.spent(served * CENT).await;
    }
    assert!(served <= 100, "{served} cents");
    door.close().await;
}
