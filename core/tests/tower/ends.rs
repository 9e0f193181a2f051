//! What ends a request, and what it then cost.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use agentkey::tower::{AgentKeyLayer, CallerGrant, RequestEnd};
use agentkey::{Cost, Grant};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tower::{Layer, ServiceExt, service_fn};

use super::{CENT, Door, ESTIMATE, send, text};

/// Hears how requests ended, and says nothing of what they cost.
fn hearing(layer: AgentKeyLayer) -> (AgentKeyLayer, mpsc::UnboundedReceiver<RequestEnd>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let layer = layer.cost(move |end: &RequestEnd| drop(sender.send(end.clone())));
    (layer, receiver)
}

#[tokio::test]
async fn cost_hears_the_status_whether_all_was_sent_the_grant_and_what_the_handler_left() {
    #[derive(Clone)]
    struct Tokens(i64);

    let door = Door::open().await;
    let priced = door.layer().cost(|end: &RequestEnd| {
        assert_eq!((end.status, end.completed), (Some(StatusCode::OK), true));
        assert_eq!((end.grant.name.as_str(), end.request.uri.path()), ("default", "/"));
        assert!(format!("{end:?}").contains("default") && !format!("{end:?}").contains("Bearer"));
        end.response.get::<Tokens>().map(|tokens| Cost::microcents(tokens.0))
    });
    let app = Router::new().route("/", get(|| async { (Extension(Tokens(42)), "done") })).layer(priced);
    assert_eq!(text(send(&app, door.get("/")).await).await, "done");
    door.spent(42).await;
    door.close().await;
}

#[tokio::test]
async fn the_handler_has_the_grant_the_reservation_and_may_charge_until_the_request_has_ended() {
    let door = Door::open().await;
    let (grants, mut granted) = mpsc::unbounded_channel();
    let handler = async move |grant: CallerGrant, plain: Grant, again: Option<CallerGrant>| {
        assert!(again.is_some());
        assert_eq!(*grant, plain);
        // As it was before.
        assert_eq!(grant.budget_reserved_cents, 0);
        assert!(grant.reservation().is_some());
        grant.charge(3).unwrap();
        grant.charge(Cost::from_usd("0.0402")).unwrap();
        assert_eq!(grant.charge(Cost::from_usd("much")).unwrap_err().code().as_str(), "invalid_text");
        grants.send(grant).unwrap();
    };
    let app = Router::new().route("/", get(handler)).layer(door.layer());
    assert_eq!(send(&app, door.get("/")).await.status(), 200);
    door.spent(7 * CENT + 20_000).await;
    let late = granted.recv().await.unwrap().charge(5).unwrap_err();
    assert!(late.message().contains("has ended"), "{late}");
    door.spent(7 * CENT + 20_000).await;
    door.close().await;
}

#[tokio::test]
async fn a_stream_is_settled_when_it_ends_and_not_before() {
    let door = Door::open().await;
    let (layer, mut heard) = hearing(door.layer());
    let (parts, rest) = mpsc::unbounded_channel::<Result<Bytes, io::Error>>();
    let rest = Arc::new(tokio::sync::Mutex::new(Some(rest)));
    let handler = async move || {
        let rest = rest.lock().await.take().unwrap();
        Body::from_stream(stream::unfold(rest, |mut rest| async {
            rest.recv().await.map(|part| (part, rest))
        }))
    };
    let app = Router::new().route("/", get(handler)).layer(layer);
    let mut body = send(&app, door.get("/")).await.into_body();
    for _ in 0..3 {
        parts.send(Ok(Bytes::from_static(b"part"))).unwrap();
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(door.is_held().await);
        assert!(heard.try_recv().is_err());
    }
    drop(parts);
    assert!(body.frame().await.is_none());
    let end = heard.recv().await.unwrap();
    assert_eq!((end.status, end.completed), (Some(StatusCode::OK), true));
    door.spent(ESTIMATE * CENT).await;
    door.close().await;
}

#[tokio::test]
async fn a_body_that_is_dropped_fails_or_panics_has_ended() {
    for (ends, worth) in [("dropped", ESTIMATE), ("fails", 0), ("panics", 0)] {
        let door = Door::open().await;
        let (layer, mut heard) = hearing(door.layer());
        let handler = async move || {
            let begun = stream::iter([Ok(Bytes::from_static(b"the beginning"))]);
            Body::from_stream(begun.chain(stream::poll_fn(move |_| match ends {
                "fails" => Poll::Ready(Some(Err(io::Error::other("no more")))),
                "panics" => panic!("in the middle of a stream"),
                _ => Poll::Pending,
            })))
        };
        let app = Router::new().route("/", get(handler)).layer(layer);
        let mut body = send(&app, door.get("/")).await.into_body();
        body.frame().await.unwrap().unwrap();
        match ends {
            "dropped" => drop(body),
            "fails" => assert!(body.frame().await.unwrap().is_err()),
            _ => assert!(
                tokio::spawn(async move { body.frame().await.is_some() }).await.unwrap_err().is_panic()
            ),
        }
        assert!(!heard.recv().await.unwrap().completed, "{ends}");
        door.spent(worth * CENT).await;
        door.close().await;
    }
}

#[tokio::test]
async fn a_body_that_no_server_reads_to_its_end_is_whole() {
    let door = Door::open().await;
    let (layer, mut heard) = hearing(AgentKeyLayer::new(door.ak.clone()));
    let sized = async || {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "4".parse().unwrap());
        // It says its length, but not its end.
        (headers, Body::from_stream(stream::iter([Ok::<_, io::Error>("part")]).chain(stream::pending())))
    };
    let app = Router::new()
        .route("/sized", get(sized))
        .route("/plain", get(|| async { "part" }))
        .route("/none", get(|| async { StatusCode::NO_CONTENT }))
        .route("/unread", get(|| async { Body::from_stream(stream::pending::<Result<Bytes, io::Error>>()) }))
        .layer(layer);
    for (method, path, frames, completed) in [
        ("GET", "/sized", 1, true),
        ("GET", "/sized", 0, false),
        ("GET", "/plain", 1, true),
        ("GET", "/plain", 0, false),
        ("GET", "/none", 0, true),
        ("HEAD", "/plain", 0, true),
        ("HEAD", "/unread", 0, true),
        ("GET", "/unread", 0, false),
    ] {
        let mut body = send(&app, door.request(method, path, "")).await.into_body();
        for _ in 0..frames {
            body.frame().await.unwrap().unwrap();
        }
        drop(body);
        assert_eq!(heard.recv().await.unwrap().completed, completed, "{method} {path}, {frames} frames");
    }
    door.close().await;
}

#[tokio::test]
async fn a_service_that_fails_or_panics_costs_nothing() {
    for panics in [false, true] {
        let door = Door::open().await;
        let service = door.layer().layer(service_fn(move |_: axum::http::Request<Body>| {
            // Before its future is made, as well.
            assert!(!panics, "the handler's own");
            async { Err::<Response<Body>, _>("no service") }
        }));
        let request = door.get("/");
        let outcome = tokio::spawn(async move { service.oneshot(request).await.map(drop) }).await;
        match panics {
            true => assert!(outcome.unwrap_err().is_panic()),
            false => assert_eq!(outcome.unwrap(), Err("no service")),
        }
        door.spent(0).await;
        door.close().await;
    }
}

#[tokio::test]
async fn functions_of_the_application_that_panic_or_fail_harm_nobody() {
    let door = Door::open().await;
    let ok = || get(|| async { "done" });
    let estimate = AgentKeyLayer::new(door.ak.clone()).reserve_with(|_| -> i64 { panic!("no estimate") });
    let app = Router::new().route("/", ok().layer(estimate));
    let response = send(&app, door.get("/")).await;
    assert_eq!(response.status(), 500);
    assert_eq!(text(response).await, r#"{"error":"auth_unavailable"}"#);
    door.spent(0).await;

    let layers = [
        door.layer().cost(|_: &RequestEnd| -> i64 { panic!("no cost") }),
        door.layer().cost_async(|_| async { panic!("no cost") as i64 }),
        door.layer().cost(|_: &RequestEnd| Err::<i64, _>("no cost")),
    ];
    for (count, layer) in layers.into_iter().enumerate() {
        let app = Router::new().route("/", ok().layer(layer));
        door.db.run("UPDATE sdk_api_keys SET budget_used_cents = 0").await;
        assert_eq!(text(send(&app, door.get("/")).await).await, "done");
        super::eventually("it is told", async || door.told.lock().unwrap().len() > count).await;
        let told = door.told.lock().unwrap()[count].clone();
        assert!(told.contains("no cost") && told.contains("50000000 micro-cents"), "{told}");
        assert!(!told.contains(&door.key));
        assert_eq!(door.column("used").await, ESTIMATE * CENT);
    }
    door.close().await;
}

#[tokio::test]
async fn estimates_and_costs_may_be_awaited_and_depend_on_the_request() {
    let door = Door::open().await;
    let tokens =
        |headers: &HeaderMap| headers.get("x-tokens").and_then(|n| n.to_str().ok()?.parse::<i64>().ok());
    let layer = AgentKeyLayer::new(door.ak.clone())
        .reserve_async(move |request| async move { tokens(&request.headers).ok_or("tokens are not said") })
        .cost_async(move |end| async move { tokens(&end.request.headers).map(|tokens| tokens / 2) });
    let app = Router::new().route("/", get(|| async { "done" })).layer(layer);
    for (said, status) in [(None, 500), (Some("101"), 429), (Some("80"), 200)] {
        let mut request = door.get("/");
        if let Some(tokens) = said {
            request.headers_mut().insert("x-tokens", tokens.parse().unwrap());
        }
        assert_eq!(send(&app, request).await.status(), status);
    }
    door.spent(40 * CENT).await;
    door.close().await;
}

#[tokio::test]
async fn a_connection_that_was_upgraded_ends_with_its_grant() {
    let door = Door::open().await;
    let (grants, mut granted) = mpsc::unbounded_channel();
    let service = door.layer().layer(service_fn(move |mut request: axum::http::Request<Body>| {
        grants.send(request.extensions_mut().remove::<CallerGrant>().unwrap()).unwrap();
        async { Ok::<_, Infallible>(StatusCode::SWITCHING_PROTOCOLS.into_response()) }
    }));
    let response = service.clone().oneshot(door.get("/")).await.unwrap();
    assert_eq!(response.status(), 101);
    drop(response);
    let socket = granted.recv().await.unwrap();
    assert!(door.is_held().await);
    socket.charge(7).unwrap();
    let other = socket.clone();
    drop(socket);
    other.charge(1).unwrap();
    drop(other);
    door.spent(8 * CENT).await;

    // One whose task panics cost nothing.
    door.db.run("UPDATE sdk_api_keys SET budget_used_cents = 0").await;
    service.oneshot(door.get("/")).await.unwrap();
    let socket = granted.recv().await.unwrap();
    let serving = tokio::spawn(async move {
        let _socket = socket;
        panic!("in a socket");
    });
    assert!(serving.await.unwrap_err().is_panic());
    door.spent(0).await;
    door.close().await;
}
