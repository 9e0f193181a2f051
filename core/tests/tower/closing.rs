//! What is under way when the client is closed, or its runtime stops.

use std::time::{Duration, Instant};

use agentkey::AgentKey;
use agentkey::tower::{CallerGrant, RequestEnd};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::{CENT, Door, ESTIMATE, eventually, send};
use crate::support::server::TestServer;

/// The one message that was told: it names the key, the reservation and the amount.
fn one_told(door: &Door, says: &str) {
    let told = door.told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains(says) && told[0].contains(&format!("key {}, reservation ", door.id)),
        "{told:?}"
    );
    assert!(told[0].contains("micro-cents") && !told[0].contains(&door.key), "{told:?}");
}

#[tokio::test]
async fn close_waits_for_requests_under_way_and_for_what_they_cost() {
    let door = Door::open().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let (go, gone) = oneshot::channel::<()>();
    let gone = std::sync::Arc::new(std::sync::Mutex::new(Some(gone)));
    let handler = async move |grant: CallerGrant| {
        started.send(()).unwrap();
        let gone = gone.lock().unwrap().take().unwrap();
        gone.await.unwrap();
        grant.charge(12).unwrap();
    };
    let app = Router::new().route("/", get(handler)).layer(door.layer());
    let request = door.get("/");
    let serving = tokio::spawn(async move { send(&app, request).await.status() });
    starts.recv().await.unwrap();
    let ak = door.ak.clone();
    let mut closing = tokio::spawn(async move { ak.close().await });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut closing).await.is_err());
    go.send(()).unwrap();
    assert_eq!(serving.await.unwrap(), 200);
    closing.await.unwrap();
    // It is there when close is over.
    assert_eq!(door.column("used").await, 12 * CENT);
    assert!(!door.is_held().await);
    door.close().await;
}

#[test]
fn close_needs_no_timer_where_nothing_is_under_way() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let door = runtime.block_on(Door::open());
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(door.ak.close());
    runtime.block_on(door.db.drop());
}

#[tokio::test]
async fn close_tells_of_requests_that_go_on_for_too_long_and_is_over() {
    for asks in [false, true] {
        let door = Door::open_with(AgentKey::builder().close_timeout(Duration::from_millis(100))).await;
        let layer = if asks { door.layer().cost(|_: &RequestEnd| 7) } else { door.layer() };
        let endless = get(|| async { Body::from_stream(stream::pending::<Result<&str, std::io::Error>>()) });
        let app = Router::new().route("/", endless).layer(layer);
        let response = send(&app, door.get("/")).await;
        let begun = Instant::now();
        door.ak.close().await;
        assert!(begun.elapsed() < Duration::from_secs(5));
        one_told(&door, "the client was closed first");
        // Its end that comes later is told of no more.
        drop(response);
        door.ak.close().await;
        one_told(&door, "the client was closed first");
        door.db.drop().await;
    }
}

#[tokio::test]
async fn close_does_not_wait_for_a_cost_that_is_never_said() {
    let door = Door::open_with(AgentKey::builder().close_timeout(Duration::from_millis(100))).await;
    let (asked, mut asks) = mpsc::unbounded_channel();
    let layer = door.layer().cost_async(move |_| {
        asked.send(()).unwrap();
        std::future::pending::<i64>()
    });
    let app = Router::new().route("/", get(|| async { "done" })).layer(layer);
    assert_eq!(send(&app, door.get("/")).await.status(), 200);
    asks.recv().await.unwrap();
    door.ak.close().await;
    one_told(&door, "the client was closed first");
    door.db.drop().await;
}

#[tokio::test]
async fn a_server_that_shuts_down_in_the_middle_of_a_stream_loses_nothing() {
    let door = Door::open().await;
    let (parts, rest) = mpsc::unbounded_channel::<Result<&'static str, std::io::Error>>();
    let rest = std::sync::Arc::new(std::sync::Mutex::new(Some(rest)));
    let handler = async move || {
        let rest = rest.lock().unwrap().take().unwrap();
        Body::from_stream(stream::unfold(rest, |mut rest| async {
            rest.recv().await.map(|part| (part, rest))
        }))
    };
    let app = Router::new().route("/", get(handler)).layer(door.layer());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) }).await
    });
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut response = sender.send_request(door.get("/")).await.unwrap();
    parts.send(Ok("the beginning")).unwrap();
    response.frame().await.unwrap().unwrap();
    stop.send(()).unwrap();
    let ak = door.ak.clone();
    let closing = tokio::spawn(async move {
        serving.await.unwrap().unwrap();
        ak.close().await;
    });
    parts.send(Ok(", and the end")).unwrap();
    drop(parts);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), ", and the end");
    closing.await.unwrap();
    assert_eq!(door.column("used").await, ESTIMATE * CENT);
    assert!(!door.is_held().await && door.told.lock().unwrap().is_empty());
    door.db.drop().await;
}

#[test]
fn a_runtime_that_stops_tells_what_is_lost_or_another_one_records_it() {
    // The client belongs to another runtime: whatever becomes of that of the server, the end is recorded.
    let lasting = tokio::runtime::Runtime::new().unwrap();
    let door = lasting.block_on(Door::open());
    let serving = tokio::runtime::Runtime::new().unwrap();
    let endless = get(|| async { Body::from_stream(stream::pending::<Result<&str, std::io::Error>>()) });
    let app = Router::new().route("/", endless).layer(door.layer());
    let response = serving.block_on(send(&app, door.get("/")));
    serving.spawn(async move {
        let _response = response;
        std::future::pending::<()>().await;
    });
    drop(serving);
    lasting.block_on(door.spent(ESTIMATE * CENT));

    // A client on the application's own pool has no runtime but the caller's.
    let (told, tells) = std::sync::mpsc::channel();
    let builder = AgentKey::builder().on_error(move |message| drop(told.send(message.to_owned())));
    let serving = tokio::runtime::Runtime::new().unwrap();
    let response = serving.block_on(async {
        let pool = sqlx::postgres::PgPoolOptions::new().connect(&door.db.url).await.unwrap();
        let ak = builder.pool(pool).unwrap();
        let endless = get(|| async { Body::from_stream(stream::pending::<Result<&str, std::io::Error>>()) });
        let layer = agentkey::tower::AgentKeyLayer::new(ak).reserve_cents(ESTIMATE);
        send(&Router::new().route("/", endless).layer(layer), door.get("/")).await
    });
    assert_eq!(response.status(), 200);
    drop(serving);
    drop(response);
    let message = tells.recv().unwrap();
    assert!(message.contains("the runtime stopped first") && message.contains("reservation"), "{message}");
    lasting.block_on(door.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_recorded_though_the_database_restarts() {
    let server = TestServer::start().await;
    let ak = AgentKey::builder().connect(&server.url).await.unwrap();
    ak.migrate().await.unwrap();
    let created = ak.create(agentkey::CreateKey::new("a").budget_cents(100)).await.unwrap();
    let (ends, mut ended) = mpsc::unbounded_channel();
    let layer = agentkey::tower::AgentKeyLayer::new(ak.clone()).reserve_cents(ESTIMATE).cost(
        move |_: &RequestEnd| {
            ends.send(()).unwrap();
            7
        },
    );
    let (go, gone) = oneshot::channel::<()>();
    let gone = std::sync::Arc::new(std::sync::Mutex::new(Some(gone)));
    let handler = async move || {
        let gone = gone.lock().unwrap().take().unwrap();
        drop(gone.await);
        "done"
    };
    let app = Router::new().route("/", get(handler)).layer(layer);
    let request =
        axum::http::Request::get("/").header("authorization", format!("Bearer {}", created.key.expose()));
    let request = request.body(Body::empty()).unwrap();
    let serving = tokio::spawn(async move { super::text(send(&app, request).await).await });
    eventually("it is held", async || {
        ak.validate(created.key.expose()).await.unwrap().unwrap().budget_reserved_cents > 0
    })
    .await;
    server.crash().await;
    go.send(()).unwrap();
    assert_eq!(serving.await.unwrap(), "done");
    ended.recv().await.unwrap();
    server.restart().await;
    ak.close().await;
    let ak = AgentKey::connect(&server.url).await.unwrap();
    let grant = ak.validate(created.key.expose()).await.unwrap().unwrap();
    assert_eq!((grant.budget_used_cents, grant.budget_reserved_cents), (7, 0));
    ak.close().await;
}
