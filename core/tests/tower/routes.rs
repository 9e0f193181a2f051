//! The self-serve routes.

use std::net::SocketAddr;

use agentkey::Period;
use agentkey::http::{RateLimit, RevokePolicy};
use agentkey::tower::KeyRoutes;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Door, send, text};

async fn answer(app: &Router, request: Request<Body>) -> (u16, Value) {
    let response = send(app, request).await;
    let status = response.status().as_u16();
    (status, serde_json::from_str(&text(response).await).unwrap_or(Value::Null))
}

fn anybody(body: &str) -> Request<Body> {
    Request::post("/keys/signup").body(Body::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn keys_are_signed_up_for_shown_made_and_revoked() {
    let mut door = Door::open().await;
    let routes = KeyRoutes::new(door.ak.clone())
        .signup_scopes(["search"])
        .signup_budget(100, Period::Day)
        .signup_max_expires_in("7d")
        .revoke_policy(RevokePolicy::Descendants);
    let app = Router::new().nest("/keys", routes.router().unwrap());

    assert_eq!(answer(&app, anybody("{}")).await, (400, json!({ "error": "Valid email is required" })));
    assert_eq!(answer(&app, anybody("no json")).await.0, 400);
    let (status, made) = answer(&app, anybody(r#"{"email":"a@b.c"}"#)).await;
    assert_eq!((status, &made["scopes"], &made["budgetCents"]), (201, &json!(["search"]), &json!(100)));
    door.key = made["key"].as_str().unwrap().to_owned();

    let (status, me) = answer(&app, door.get("/keys/sdk-keys/me")).await;
    assert_eq!((status, &me["userId"], &me["budgetPeriod"]), (200, &json!("a@b.c"), &json!("day")));
    assert_eq!(answer(&app, door.get("/keys/sdk-keys/7")).await.0, 404);

    let child = r#"{"scopes":["search"],"budget_cents":10,"expires_in":"1h"}"#;
    let (status, child) = answer(&app, door.request("POST", "/keys/sdk-keys", child)).await;
    assert_eq!((status, &child["budgetCents"]), (201, &json!(10)));
    let wider = r#"{"scopes":["admin"],"budget_cents":10,"expires_in":"1h"}"#;
    assert_eq!(answer(&app, door.request("POST", "/keys/sdk-keys", wider)).await.0, 403);

    let path = format!("/keys/sdk-keys/{}", child["id"]);
    assert_eq!(answer(&app, door.request("DELETE", &path, "")).await, (200, json!({ "revoked": true })));
    assert_eq!(answer(&app, door.request("DELETE", &path, "")).await.0, 404);
    assert_eq!(answer(&app, door.request("DELETE", "/keys/sdk-keys/me", "")).await.0, 400);
    assert_eq!(answer(&app, Request::get("/keys/sdk-keys/me").body(Body::empty()).unwrap()).await.0, 401);
    door.close().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_not_read_and_signups_are_limited_by_address() {
    let door = Door::open().await;
    let routes =
        |limit| KeyRoutes::new(door.ak.clone()).signup(true).signup_rate_limit(RateLimit::new(limit, 60));
    let app = Router::new().nest("/keys", routes(1).router().unwrap());
    let body = r#"{"email":"a@b.c"}"#;
    assert_eq!(answer(&app, anybody(&format!("{body}{}", " ".repeat(200 * 1024)))).await.0, 413);
    let from = |ip: &str| {
        let mut request = anybody(body);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(ip.parse().unwrap(), 1)));
        request
    };
    assert_eq!(answer(&app, from("10.0.0.1")).await.0, 201);
    let limited = send(&app, from("10.0.0.1")).await;
    assert_eq!((limited.status().as_u16(), limited.headers().contains_key("retry-after")), (429, true));
    assert_eq!(answer(&app, from("10.0.0.2")).await.0, 201);

    let forwarded = |parts: &axum::http::request::Parts| {
        parts.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let app = Router::new().nest("/keys", routes(1).client_address(forwarded).router().unwrap());
    // One table, one count: the address has signed up at the other routes.
    for (address, status) in [("10.0.0.1", 429), ("10.0.0.3", 201), ("10.0.0.3", 429), ("10.0.0.4", 201)] {
        let mut request = from("10.9.9.9");
        request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
        assert_eq!(answer(&app, request).await.0, status);
    }
    door.close().await;
}

#[tokio::test]
async fn as_a_service_they_answer_everything_and_as_a_router_only_their_own() {
    let door = Door::open().await;
    let routes = KeyRoutes::new(door.ak.clone()).signup(false).api_key_header("x-api-key").unwrap();
    let service = routes.clone().service().unwrap();
    let of = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("x-api-key", &door.key);
        request.body(Body::empty()).unwrap()
    };
    for (method, path, status) in [
        ("GET", "/sdk-keys/me/", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/signup", 404),
        ("PUT", "/sdk-keys", 404),
    ] {
        let response = service.clone().oneshot(of(method, path)).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
    }
    let mine = Router::new().route("/signup", axum::routing::post(|| async { "my own" }));
    let app = mine.merge(routes.router().unwrap());
    assert_eq!(text(send(&app, of("POST", "/signup")).await).await, "my own");
    assert_eq!(send(&app, of("HEAD", "/sdk-keys/me")).await.status(), 200);
    assert_eq!(send(&app, of("PUT", "/sdk-keys")).await.status(), 405);

    let wrong = KeyRoutes::new(door.ak.clone()).signup_max_expires_in("").service().unwrap_err();
    assert_eq!(wrong.code().as_str(), "invalid_duration");
    door.close().await;
}
