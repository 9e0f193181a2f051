//! More budget by the program `agentkey`: requests listed, approved, denied.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "support/cli.rs"]
mod cli;
mod support;

use std::time::Duration;

use agentkey::engine::IncreaseRequest;
use cli::{agentkey, database, done};
use serde_json::json;

#[tokio::test]
async fn requests_are_listed_approved_and_denied() {
    let db = database().await;
    let key = done(&db, &["create", "--account", "a", "--budget-cents", "100"]).await.output;
    done(&db, &["create", "--parent", "1", "--budget-cents", "50"]).await;
    let ak = db.client().await;
    let ask = async |key: &str, cents| {
        let request = IncreaseRequest::new(cents, Duration::from_secs(7200)).reason("more \u{1b}[31mpages");
        ak.request_increase(agentkey::engine::Credential::of_key(key), request).await.unwrap().unwrap()
    };
    assert!(done(&db, &["requests"]).await.error.contains("no such requests"));
    let _ = ask(key.trim_end(), 500).await;

    let list = done(&db, &["requests"]).await.output;
    for part in ["pending", "$5.00", "2h", "more \\u{1b}[31mpages"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    assert_eq!(done(&db, &["requests", "--json", "--key", "2"]).await.json(), json!([]));
    assert_eq!(done(&db, &["requests", "--json", "--within", "1"]).await.json()[0]["cents"], 500);
    assert_eq!(agentkey(&db.url, &["requests", "--key", "99"]).await.code, 3);
    assert_eq!(agentkey(&db.url, &["requests", "--state", "open"]).await.code, 2);

    assert_eq!(agentkey(&db.url, &["approve", "1"]).await.code, 2);
    assert_eq!(agentkey(&db.url, &["approve", "77", "--by", "ana"]).await.code, 3);
    let approved = done(&db, &["approve", "1", "--by", "ana", "--cents", "300", "--for", "90m"]).await;
    assert!(approved.output.starts_with("Request 1 is approved by ana: key 1 may spend $3.00 more until "));
    let again = done(&db, &["approve", "1", "--by", "ana", "--cents", "300", "--json"]).await.json();
    assert_eq!((&again["success"], &again["replayed"]), (&json!(true), &json!(true)));
    let late = agentkey(&db.url, &["deny", "1", "--by", "bob"]).await;
    assert_eq!(late.code, 2, "{late:?}");
    assert!(late.error.contains("it was decided before. Request 1 is approved by ana"), "{late:?}");
    let show = done(&db, &["show", "1"]).await.output;
    assert!(show.contains("$4.00 for life") && show.contains("$3.00 of it until "), "{show}");

    let _ = ask(key.trim_end(), 1).await;
    let denied = done(&db, &["deny", "2", "--by", "bob"]).await.output;
    assert_eq!(denied, "Request 2 of key 1 is denied by bob.\n");
    let all = done(&db, &["requests", "--state", "all", "--json", "--limit", "1"]).await.json();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["state"]), (1, &json!("denied")));
    let all = done(&db, &["requests", "--state", "all", "--limit", "1"]).await;
    assert!(all.error.contains("--before 2"), "{all:?}");
    let events = done(&db, &["events", "--kind", "deny_increase", "--json"]).await.json();
    assert_eq!(events[0]["actor"], "bob");
    ak.close().await;
    db.drop().await;
}
