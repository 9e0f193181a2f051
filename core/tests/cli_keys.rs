//! Keys by the program `agentkey`: listed, shown, changed, rotated, explained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "support/cli.rs"]
mod cli;
mod support;

use std::process::Stdio;

use cli::{agentkey, database, done, program, said};
use serde_json::{Value, json};
use support::TestDatabase;

async fn charge(db: &TestDatabase, key: &str, cents: i64, idempotency_key: &str) {
    let ak = db.client().await;
    let charge = agentkey::Charge::new(agentkey::Cost::cents(cents)).idempotency_key(idempotency_key);
    let charged = ak.track_usage(key, charge).await.unwrap();
    assert!(charged.is_ok());
}

#[tokio::test]
async fn keys_are_listed_shown_and_changed() {
    let db = database().await;
    let key = done(
        &db,
        &["create", "--account", "a", "--name", "team", "--budget-cents", "2000", "--budget-period", "month"],
    )
    .await
    .output;
    done(&db, &["create", "--parent", "1", "--name", "first", "--budget-cents", "100"]).await;
    done(&db, &["create", "--parent", "2", "--name", "below"]).await;
    done(&db, &["create", "--parent", "1", "--name", "second", "--delegated-by", "alice"]).await;
    done(&db, &["create", "--account", "b", "--name", "\u{1b}[31modd\u{202e}"]).await;
    charge(&db, key.trim_end(), 1_234, "r1").await;

    let list = done(&db, &["list"]).await;
    assert_eq!(list.error, "");
    let lines: Vec<&str> = list.output.lines().collect();
    let starts = ["ID", "1 ", "├─ 2 ", "│  └─ 3 ", "└─ 4 ", "5 "];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{start}: {}", list.output);
    }
    assert_eq!(lines.len(), starts.len(), "{}", list.output);
    for part in ["█████████████░░░░░░░", "$12.34", "$7.66", "$20.00/month", "alice"]
    {
        assert!(list.output.contains(part), "{part}: {}", list.output);
    }
    assert!(!list.output.contains('\u{1b}') && !list.output.contains('\u{202e}'), "{}", list.output);
    assert!(list.output.contains("\\u{1b}[31modd"), "{}", list.output);
    let mut ascii = program(&db.url, &["list"]);
    ascii.env("LC_ALL", "C");
    let ascii = said(ascii.output().await.unwrap());
    assert!(ascii.output.contains("#############......."), "{}", ascii.output);

    let ids = async |arguments: &[&str]| -> Vec<i64> {
        let json = done(&db, arguments).await.json();
        json.as_array().unwrap().iter().map(|key| key["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&["list", "--json"]).await, [1, 2, 3, 4, 5]);
    assert_eq!(ids(&["list", "--json", "--account", "b"]).await, [5]);
    assert_eq!(ids(&["list", "--json", "--parent", "1"]).await, [2, 4]);
    assert_eq!(ids(&["list", "--json", "--delegated-by", "alice"]).await, [4]);
    assert_eq!(ids(&["list", "--json", "--after", "3"]).await, [4, 5]);
    let part = done(&db, &["list", "--json", "--limit", "2"]).await;
    assert!(part.error.contains("--after 2"), "{part:?}");

    let show = done(&db, &["show", "2"]).await.output;
    assert!(
        show.contains("$1.00 for life") && show.contains("2 (first)") && show.contains("$20.00/month"),
        "{show}"
    );
    let shown = done(&db, &["show", "1", "--json"]).await.json();
    assert_eq!((&shown["budgetUsedCents"], &shown["name"]), (&json!(1234), &json!("team")));

    let updated = done(
        &db,
        &[
            "update",
            "2",
            "--json",
            "--name",
            "n",
            "--budget-usd",
            "$0",
            "--scopes",
            "a,b",
            "--expires-in",
            "1h",
            "--budget-period",
            "week",
        ],
    )
    .await
    .json();
    assert_eq!(
        (&updated["name"], &updated["budgetCents"], &updated["scopes"], &updated["budgetPeriod"]),
        (&json!("n"), &json!(0), &json!(["a", "b"]), &json!("week"))
    );
    assert!(updated["expiresAt"].is_string());
    let updated =
        done(&db, &["update", "2", "--json", "--no-budget", "--all-scopes", "--no-period", "--no-expiry"])
            .await
            .json();
    assert_eq!(
        (&updated["budgetCents"], &updated["scopes"], &updated["budgetPeriod"], &updated["expiresAt"]),
        (&Value::Null, &Value::Null, &Value::Null, &Value::Null)
    );

    assert_eq!(done(&db, &["disable", "2", "--json"]).await.json()["reason"], "disabled");
    assert_eq!(ids(&["list", "--json", "--state", "disabled"]).await, [2]);
    assert!(done(&db, &["list"]).await.output.lines().nth(3).unwrap().contains("disabled"));
    assert_eq!(done(&db, &["enable", "2", "--json"]).await.json()["reason"], Value::Null);
    assert!(done(&db, &["revoke", "2"]).await.output.contains("is revoked"));
    assert!(done(&db, &["revoke", "2"]).await.output.contains("before"));
    assert_eq!(done(&db, &["revoke", "2", "--json"]).await.output, "false\n");
    assert_eq!(done(&db, &["revoke", "5", "--json"]).await.output, "true\n");
    db.drop().await;
}

#[tokio::test]
async fn limits_are_given_shown_explained_and_taken_away() {
    let db = database().await;
    let create = ["create", "--account", "a", "--json", "--limit", "200/5m:disable", "--limit", "2000/month"];
    let created = done(&db, &create).await.json();
    let id = created["id"].to_string();
    let show = done(&db, &["show", &id]).await.output;
    assert!(
        show.contains("$2.00 every 5m ($2.00 free, switches the key off); $20.00 every month ($20.00 free)"),
        "{show}"
    );
    charge(&db, created["key"].as_str().unwrap(), 200, "r1").await;
    let explained = done(&db, &["explain", &id]).await.output;
    assert!(
        explained.contains("$2.00/5m, switches off") && explained.contains("$20.00/month"),
        "{explained}"
    );
    let listed = done(&db, &["list", "--json"]).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "limits are no keys: {listed}");
    let updated = done(&db, &["update", &id, "--json", "--limit", "5000"]).await.json();
    assert_eq!(updated["limits"][0]["cents"], json!(5000));
    let updated = done(&db, &["update", &id, "--json", "--no-limits"]).await.json();
    assert_eq!(updated["limits"], json!([]));
    for bad in ["x/5m", "200/5s", "200/5m:explode", "-1/day", ""] {
        let ended = agentkey(&db.url, &["create", "--account", "a", &format!("--limit={bad}")]).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{bad}: {ended:?}");
        assert!(bad == "-1/day" || ended.error.contains("--limit"), "{ended:?}");
    }
    db.drop().await;
}

#[tokio::test]
async fn keys_are_listed_by_what_they_may_hold_and_used() {
    let db = database().await;
    let key =
        done(&db, &["create", "--account", "a", "--scopes", "read", "--budget-cents", "100"]).await.output;
    done(&db, &["create", "--account", "a", "--scopes", "write", "--metadata", r#"{"team":"red"}"#]).await;
    charge(&db, key.trim_end(), 80, "r1").await;
    for (flag, value, expected) in
        [("--scope", "read", 1), ("--metadata", r#"{"team":"red"}"#, 2), ("--over-share", "0.8", 1)]
    {
        let keys = done(&db, &["list", "--json", flag, value]).await.json();
        let ids: Vec<&Value> = keys.as_array().unwrap().iter().map(|key| &key["id"]).collect();
        assert_eq!(ids, [&json!(expected)], "{flag}");
    }
    assert_eq!(done(&db, &["list", "--json", "--over-share", "0.81"]).await.json(), json!([]));
    for (flag, value) in
        [("--metadata", "[1]"), ("--metadata", "{"), ("--over-share", "0"), ("--over-share", "2")]
    {
        let bad = agentkey(&db.url, &["list", flag, value]).await;
        assert_eq!((bad.code, bad.output.as_str()), (2, ""), "{flag} {value}: {bad:?}");
    }
    db.drop().await;
}

#[tokio::test]
async fn a_new_secret_goes_to_standard_output_and_the_one_before_lives_for_the_grace() {
    let db = database().await;
    let ak = db.client().await;
    let first = done(&db, &["create", "--account", "a"]).await.output;
    let rotated = done(&db, &["rotate", "1", "--grace", "1h"]).await;
    let second = rotated.output.clone();
    assert!(
        rotated.error.contains("counts until") && !rotated.error.contains(&second.trim_end()[3..]),
        "{rotated:?}"
    );
    for key in [&first, &second] {
        assert!(ak.validate(key.trim_end()).await.unwrap().is_ok());
    }
    let rotated = done(&db, &["rotate", "1", "--grace", "0s", "--json"]).await;
    assert_eq!(rotated.json()["previousExpiresAt"], Value::Null);
    let third = rotated.json()["key"].as_str().unwrap().to_owned();
    for (key, is_valid) in [(first.trim_end(), false), (second.trim_end(), false), (&third, true)] {
        assert_eq!(ak.validate(key).await.unwrap().is_ok(), is_valid);
    }
    // Repeated under its name it replaces the secret that nobody may have seen.
    let named = ["rotate", "1", "--idempotency-key", "may"];
    let lost = done(&db, &named).await.output;
    let again = done(&db, &named).await.output;
    for (key, is_valid) in [(third.as_str(), true), (lost.trim_end(), false), (again.trim_end(), true)] {
        assert_eq!(ak.validate(key).await.unwrap().is_ok(), is_valid);
    }
    // A secret that nobody can read is not lost in silence.
    let mut closed = program(&db.url, &["rotate", "1"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = said(closed.stdout(Stdio::from(writer)).spawn().unwrap().wait_with_output().await.unwrap());
    assert_eq!(closed.code, 1);
    assert!(closed.error.contains("rotate it again"), "{closed:?}");

    let bad = agentkey(&db.url, &["rotate", "1", "--grace", "soon"]).await;
    assert!(bad.code == 2 && bad.error.contains("--grace"), "{bad:?}");
    done(&db, &["revoke", "1"]).await;
    let revoked = agentkey(&db.url, &["rotate", "1"]).await;
    assert!(
        (revoked.code, revoked.output.as_str()) == (2, "") && revoked.error.contains("revoked"),
        "{revoked:?}"
    );
    db.drop().await;
}

#[tokio::test]
async fn why_a_charge_is_refused_is_explained() {
    let db = database().await;
    done(&db, &["create", "--account", "a", "--name", "team", "--budget-cents", "100"]).await;
    let child = done(&db, &["create", "--parent", "1", "--budget-cents", "90"]).await.output;
    charge(&db, child.trim_end(), 80, "r1").await;
    let passes = done(&db, &["explain", "2", "--cost-cents", "10"]).await.output;
    assert!(passes.contains("passes"), "{passes}");
    let refused = done(&db, &["explain", "2", "--cost-cents", "15"]).await.output;
    assert!(refused.contains("budget_exceeded, by key 2"), "{refused}");
    assert!(refused.contains("$0.80") && refused.contains("team"), "{refused}");
    let json = done(&db, &["explain", "2", "--cost-cents", "15", "--json"]).await.json();
    assert_eq!((&json["allowed"], &json["limitKeyId"]), (&json!(false), &json!(2)));
    assert_eq!(json["limits"].as_array().unwrap().len(), 2);
    assert_eq!(agentkey(&db.url, &["explain", "77"]).await.code, 3);
    db.drop().await;
}
