//! The tower layer and the routes, under everything that may end a request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "../support/mod.rs"]
mod support;

mod closing;
mod ends;
mod gone;
mod routes;
mod stacks;

use std::sync::{Arc, Mutex};

use agentkey::tower::AgentKeyLayer;
use agentkey::{AgentKey, Builder, CreateKey};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use tower::ServiceExt;

use support::{TestDatabase, eventually};

/// What a request may cost, in cents, of a budget of a hundred.
const ESTIMATE: i64 = 50;

/// A client, and a key with a budget of a hundred cents.
struct Door {
    db: TestDatabase,
    ak: AgentKey,
    key: String,
    id: String,
    /// What was told of faults.
    told: Arc<Mutex<Vec<String>>>,
}

impl Door {
    async fn open() -> Self {
        Door::open_with(AgentKey::builder()).await
    }

    async fn open_with(builder: Builder) -> Self {
        let db = TestDatabase::create().await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        let builder = builder.on_error(move |message| hears.lock().unwrap().push(message.to_owned()));
        let ak = builder.pool_size(4).connect(&db.url).await.unwrap();
        ak.migrate().await.unwrap();
        let created = ak.create(CreateKey::new("a").budget_cents(100)).await.unwrap();
        let (key, id) = (created.key.expose().to_owned(), created.id.to_string());
        Door { db, ak, key, id, told }
    }

    /// Holds the estimate.
    fn layer(&self) -> AgentKeyLayer {
        AgentKeyLayer::new(self.ak.clone()).reserve_cents(ESTIMATE)
    }

    fn get(&self, path: &str) -> Request<Body> {
        self.request("GET", path, "")
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Request<Body> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {}", self.key));
        request.body(Body::from(body.to_owned())).unwrap()
    }

    async fn column(&self, name: &str) -> i64 {
        let id = &self.id;
        let sql = format!(
            "SELECT budget_{name}_cents * 1000000 + budget_{name}_microcents FROM sdk_api_keys WHERE id = {id}"
        );
        self.db.number(&sql).await
    }

    async fn is_held(&self) -> bool {
        self.column("reserved").await > 0
    }

    /// So many micro-cents are spent once nothing is held any more, and nothing was told.
    async fn spent(&self, microcents: i64) {
        eventually("nothing is held any more", async || !self.is_held().await).await;
        if microcents > 0 {
            eventually("it is recorded", async || self.column("used").await > 0).await;
        }
        assert_eq!(self.column("used").await, microcents);
        assert_eq!(*self.told.lock().unwrap(), Vec::<String>::new());
    }

    async fn close(self) {
        self.ak.close().await;
        self.db.drop().await;
    }
}

const CENT: i64 = 1_000_000;

async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}
