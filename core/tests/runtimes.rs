//! One client for several runtimes: none waits for another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::time::Duration;

use agentkey::{AgentKey, CreateKey};
use support::TestDatabase;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A database, a client that every runtime shares, and a key.
fn set_up(runtime: &Runtime) -> (TestDatabase, AgentKey, String) {
    runtime.block_on(async {
        let db = TestDatabase::create().await;
        let ak = AgentKey::builder().timeout(Duration::from_secs(5)).connect(&db.url).await.unwrap();
        ak.migrate().await.unwrap();
        let created = ak.create(CreateKey::new("acct").budget_cents(1_000_000)).await.unwrap();
        (db, ak, created.key.expose().to_owned())
    })
}

async fn use_it(ak: &AgentKey, key: &str) {
    for _ in 0..20 {
        assert!(ak.validate(key).await.unwrap().is_ok());
        assert!(ak.track_usage(key, 1).await.unwrap().is_ok());
        let held = ak.reserve(key, 2).await.unwrap().unwrap();
        assert!(ak.settle(&held.id, 1).await.unwrap().is_ok());
    }
}

#[test]
fn a_runtime_that_nobody_drives_keeps_no_other_waiting() {
    let main = Builder::new_multi_thread().enable_all().build().unwrap();
    let (db, ak, key) = set_up(&main);
    let frozen = current_thread();
    for calls in [1, 2, 7] {
        // It submits its calls, and is not driven any further.
        let pending: Vec<_> = frozen.block_on(async {
            let calls = (0..calls).map(|_| {
                let (ak, key) = (ak.clone(), key.clone());
                tokio::spawn(async move { ak.validate(&key).await })
            });
            let calls = calls.collect();
            tokio::task::yield_now().await;
            calls
        });
        main.block_on(use_it(&ak, &key));
        drop(pending);
    }
    main.block_on(db.drop());
}

#[test]
fn a_client_goes_from_runtime_to_runtime() {
    let first = current_thread();
    let (db, ak, key) = set_up(&first);
    for _ in 0..8 {
        let runtime = current_thread();
        runtime.block_on(use_it(&ak, &key));
        drop(runtime);
    }
    first.block_on(use_it(&ak, &key));
    first.block_on(db.drop());
}

/// As the tests of an application do that share a client.
#[test]
fn a_client_outlives_the_runtime_that_it_was_made_in() {
    let threads = || Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let last = threads();
    let db = last.block_on(TestDatabase::create());
    for others_call in [false, true] {
        let first = threads();
        let (ak, key) = first.block_on(async {
            let ak = AgentKey::builder().timeout(Duration::from_secs(5)).connect(&db.url).await.unwrap();
            ak.migrate().await.unwrap();
            let created = ak.create(CreateKey::new("acct").budget_cents(1_000_000)).await.unwrap();
            let key = created.key.expose().to_owned();
            use_it(&ak, &key).await;
            (ak, key)
        });
        let (mut done, mut unknown) = (0, 0);
        if others_call {
            last.block_on(async {
                let mut callers = JoinSet::new();
                for _ in 0..20 {
                    let (ak, key) = (ak.clone(), key.clone());
                    callers.spawn(async move {
                        let (mut done, mut unknown) = (0, 0);
                        for _ in 0..200 {
                            match ak.track_usage(&key, 1).await {
                                Ok(charged) => done += i64::from(charged.is_ok()),
                                Err(error) if error.may_have_been_recorded() => unknown += 1,
                                Err(error) => panic!("{error}"),
                            }
                            assert!(ak.validate(&key).await.unwrap().is_ok());
                        }
                        (done, unknown)
                    });
                }
                callers.spawn(async move {
                    first.shutdown_background();
                    (0, 0)
                });
                while let Some(caller) = callers.join_next().await {
                    let (more, open): (i64, i64) = caller.unwrap();
                    (done, unknown) = (done + more, unknown + open);
                }
            });
            assert_eq!(done + unknown, 4_000);
        } else {
            drop(first);
        }
        last.block_on(async {
            let used = db.number("SELECT max(id) FROM sdk_api_keys").await;
            let used =
                db.number(&format!("SELECT budget_used_cents FROM sdk_api_keys WHERE id = {used}")).await;
            // 20 charges and 20 settles before.
            assert!((40 + done..=40 + done + unknown).contains(&used), "{used}: {done} and {unknown}");
            use_it(&ak, &key).await;
            ak.close().await;
        });
    }
    last.block_on(db.drop());
}

#[test]
fn runtimes_side_by_side_share_a_client() {
    let first = current_thread();
    let (db, ak, key) = set_up(&first);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| current_thread().block_on(use_it(&ak, &key)));
        }
    });
    first.block_on(db.drop());
}
