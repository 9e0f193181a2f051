//! Clients that are gone before they are answered.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sqlx::Executor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{CENT, Door, ESTIMATE, eventually, send};

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn bearer(door: &Door, uri: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(uri).header("authorization", format!("Bearer {}", door.key));
    request.body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_before_the_response_pays_the_estimate() {
    let door = Door::open().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let handler = async move || {
        started.send(()).unwrap();
        std::future::pending::<()>().await;
    };
    let address = serve(Router::new().route("/", get(handler)).layer(door.layer())).await;
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = bearer(&door, "/");
    let sending = tokio::spawn(async move { sender.send_request(request).await });
    starts.recv().await.unwrap();
    assert!(door.is_held().await);
    connection.abort();
    sending.abort();
    door.spent(ESTIMATE * CENT).await;
    door.close().await;
}

#[tokio::test]
async fn over_http_2_a_stream_ends_whole_or_when_it_is_reset_and_the_connection_lives_on() {
    let door = Door::open().await;
    let begun = || stream::iter([Ok::<_, Infallible>("the beginning")]);
    let app = Router::new()
        .route("/whole", get(move || async move { Body::from_stream(begun().chain(begun())) }))
        .route("/endless", get(move || async move { Body::from_stream(begun().chain(stream::pending())) }))
        .layer(door.layer().cost(|end: &agentkey::tower::RequestEnd| if end.completed { 3 } else { 4 }));
    let address = serve(app).await;
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);

    let whole = sender.send_request(bearer(&door, "http://door/whole")).await.unwrap();
    assert_eq!(whole.into_body().collect().await.unwrap().to_bytes().len(), 26);
    door.spent(3 * CENT).await;

    door.db.run("UPDATE sdk_api_keys SET budget_used_cents = 0").await;
    let mut endless = sender.send_request(bearer(&door, "http://door/endless")).await.unwrap();
    endless.frame().await.unwrap().unwrap();
    assert!(door.is_held().await);
    drop(endless);
    door.spent(4 * CENT).await;

    let head = Request::head("http://door/endless").header("authorization", format!("Bearer {}", door.key));
    door.db.run("UPDATE sdk_api_keys SET budget_used_cents = 0").await;
    assert_eq!(sender.send_request(head.body(Empty::new()).unwrap()).await.unwrap().status(), 200);
    door.spent(3 * CENT).await;
    door.close().await;
}

#[tokio::test]
async fn whoever_leaves_while_the_amount_is_being_held_pays_nothing_and_holds_nothing() {
    let door = Door::open().await;
    let app = Router::new().route("/", get(|| async { "done" })).layer(door.layer());
    // Somebody has locked the key.
    let mut locker = door.db.session().await;
    locker.execute("BEGIN").await.unwrap();
    locker.execute("SELECT FROM sdk_api_keys FOR UPDATE").await.unwrap();
    let request = door.get("/");
    let serving = tokio::spawn(async move { send(&app, request).await.status() });
    eventually("it waits for the key", async || door.db.waiting_sessions().await > 0).await;
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    locker.execute("COMMIT").await.unwrap();
    // It was held, for it had been sent, and is given back.
    let reservations = "SELECT count(*) FROM sdk_api_keys_reservations";
    eventually("it was held", async || door.db.number(reservations).await > 0).await;
    door.spent(0).await;
    door.close().await;
}

#[tokio::test]
async fn requests_whose_clients_leave_at_any_moment_leave_nothing_held() {
    let door = Door::open().await;
    let app = Router::new()
        .route("/", get(|| async { tokio::task::yield_now().await }))
        .layer(agentkey::tower::AgentKeyLayer::new(door.ak.clone()).reserve_cents(1).cost(|_: &_| 0));
    for polls in 0..200 {
        let mut serving = std::pin::pin!(send(&app, door.get("/")));
        for _ in 0..polls % 20 {
            if futures_util::poll!(&mut serving).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    door.spent(0).await;
    door.close().await;
}
