//! Connections that rest between statements, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::time::Duration;

use agentkey::{AgentKey, CreateKey};
use support::{TestDatabase, eventually};

const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND application_name = 'resting'";

async fn client(db: &TestDatabase, connections: u32) -> (AgentKey, String) {
    let builder = AgentKey::builder().pool_size(connections).timeout(Duration::from_secs(20));
    let separator = if db.url.contains('?') { '&' } else { '?' };
    let ak = builder.connect(&format!("{}{separator}application_name=resting", db.url)).await.unwrap();
    ak.migrate().await.unwrap();
    let key = ak.create(CreateKey::new("acct")).await.unwrap().key.expose().to_owned();
    (ak, key)
}

async fn validates(ak: &AgentKey, key: &str) {
    for _ in 0..50 {
        assert!(ak.validate(key).await.unwrap().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_one_by_one_use_one_connection_and_give_it_back() {
    let db = TestDatabase::create().await;
    let (ak, key) = client(&db, 4).await;
    for _ in 0..3 {
        validates(&ak, &key).await;
        eventually("all are back", async || ak.pool().num_idle() == ak.pool().size() as usize).await;
    }
    assert!(db.number(OTHERS).await <= 2, "the first may have been on its way back");
    ak.close().await;
    eventually("all are closed", async || db.number(OTHERS).await == 0).await;
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_connection_of_a_pool_does_not_rest() {
    let db = TestDatabase::create().await;
    let (ak, key) = client(&db, 1).await;
    for _ in 0..20 {
        assert!(ak.validate(&key).await.unwrap().is_ok());
        drop(tokio::time::timeout(Duration::from_secs(20), ak.pool().acquire()).await.unwrap().unwrap());
    }
    ak.close().await;
    db.drop().await;
}

/// Where there is no runtime, nothing can be given back.
#[test]
fn a_client_is_dropped_or_closed_outside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (db, dropped, closed) = runtime.block_on(async {
        let db = TestDatabase::create().await;
        let (dropped, key) = client(&db, 4).await;
        validates(&dropped, &key).await;
        let (closed, key) = client(&db, 4).await;
        validates(&closed, &key).await;
        (db, dropped, closed)
    });
    drop(dropped);
    block_on(closed.close());
    runtime.block_on(async {
        eventually("all are closed", async || db.number(OTHERS).await == 0).await;
        db.drop().await;
    });
}

/// Waits in this thread, without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}
