//! Lists of many keys, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::{Arc, Mutex};

use agentkey::{AgentKey, KeyFilter, KeyState};
use serde_json::json;
use support::{TestDatabase, original_table};

/// More than one statement looks at.
const KEYS: i64 = 25_000;

async fn ids(ak: &AgentKey, filter: KeyFilter) -> Vec<i64> {
    let keys = ak.list(filter).await.unwrap();
    keys.iter().map(|key| key.grant.id.to_string().parse().unwrap()).collect()
}

/// Every page of a list.
async fn all(ak: &AgentKey, filter: KeyFilter, at_once: u32) -> Vec<i64> {
    let mut found: Vec<i64> = Vec::new();
    loop {
        let page = match found.last() {
            Some(last) => filter.clone().after(*last),
            None => filter.clone(),
        };
        let page = ids(ak, page.limit(at_once)).await;
        found.extend(&page);
        if page.len() < at_once as usize {
            return found;
        }
    }
}

#[tokio::test]
async fn a_scope_that_no_index_can_hold_does_not_stop_a_migration() {
    let db = TestDatabase::create().await;
    db.run(&original_table("BIGSERIAL", "TEXT")).await;
    // Of random digits: a text that repeats itself is stored short.
    db.run(
        "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, scopes)
         SELECT 'a', 'h', 'ak_', ARRAY[string_agg(md5(n::text), '')] FROM generate_series(1, 300) n",
    )
    .await;
    let ak = db.client().await;
    let keys = ak.list(KeyFilter::new()).await.unwrap();
    assert_eq!(keys.len(), 1);
    let scope = keys[0].grant.scopes.clone().unwrap()[0].clone();
    assert_eq!(ids(&ak, KeyFilter::new().scope(scope)).await, [1]);
    db.drop().await;
}

/// A scope that few of many keys have is found by an index. So is one that is longer than an index takes, and keys whose
/// scopes are no list are in nobody's way.
#[tokio::test]
async fn a_rare_scope_is_found_by_an_index() {
    let db = TestDatabase::create().await;
    db.run(&original_table("BIGSERIAL", "TEXT")).await;
    // Of random digits: a text that repeats itself is stored short.
    db.run(
        "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, scopes)
         SELECT 'a', n::text, 'ak_', CASE
            WHEN n = 3 THEN ARRAY[NULL, 'rare']
            WHEN n = 4 THEN ARRAY[ARRAY['rare'], ARRAY['x']]
            WHEN n = 5 THEN '{}'
            WHEN n = 20000 THEN ARRAY[(SELECT string_agg(md5(m::text), '') FROM generate_series(1, 3000) m), 'rare', '']
            WHEN n % 20000 = 0 THEN ARRAY['rare', 'x', 'x']
         END
         FROM generate_series(1, 60000) n",
    )
    .await;
    db.client().await.close().await;
    db.run("ANALYZE sdk_api_keys").await;
    let long = db.text("SELECT scopes[1] FROM sdk_api_keys WHERE id = 20000").await;
    let rows_read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'sdk_api_keys'";
    let before = db.at_rest(rows_read).await;
    let ak = AgentKey::builder().connect(&db.url).await.unwrap();
    assert_eq!(ids(&ak, KeyFilter::new().scope("rare")).await, [20_000, 40_000, 60_000]);
    assert_eq!(ids(&ak, KeyFilter::new().scope("rar")).await, [0; 0]);
    assert_eq!(ids(&ak, KeyFilter::new().scope(long)).await, [20_000]);
    ak.close().await;
    let read = db.at_rest(rows_read).await - before;
    assert!(read < 60_000, "{read} rows are read");
    db.drop().await;
}

/// Where no migration made the index, no statement looks at more keys for it.
#[tokio::test]
async fn a_rare_scope_of_a_table_without_the_index_is_looked_for_some_keys_at_a_time() {
    let db = TestDatabase::create().await;
    db.run(&original_table("BIGSERIAL", "TEXT")).await;
    db.run(&format!(
        "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, scopes)
         SELECT 'a', n::text, 'ak_', ARRAY['read'] FROM generate_series(1, {}) n",
        2 * KEYS
    ))
    .await;
    let statements = async |ak: &AgentKey| {
        let before = ak.stats().statements;
        assert_eq!(ids(ak, KeyFilter::new().scope("rare")).await, [0; 0]);
        ak.stats().statements - before
    };
    let ak = AgentKey::builder().pool(db.pool.clone()).unwrap();
    assert_eq!(ids(&ak, KeyFilter::new().limit(1)).await, [1]);
    assert!(statements(&ak).await >= 5, "10,000 keys at a time");
    let migrated = db.client().await;
    assert_eq!(ids(&migrated, KeyFilter::new().limit(1)).await, [1]);
    assert_eq!(statements(&migrated).await, 3, "1,000, 10,000, and what the index knows");
    db.drop().await;
}

#[tokio::test]
async fn what_is_rare_is_found_and_every_page_goes_on_where_the_last_one_ended() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    db.run(&format!(
        "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, scopes, budget_cents, budget_used_cents, metadata, revoked_at, disabled_at, expires_at, delegated_by)
         SELECT 'a' || n % 2, n::text, 'ak_', CASE WHEN n % 6000 = 0 THEN ARRAY['rare'] ELSE ARRAY['read'] END, 100,
            CASE WHEN n % 7000 = 0 THEN 90 ELSE 10 END, jsonb_build_object('n', n, 'even', n % 2 = 0),
            CASE WHEN n % 5000 = 1 THEN now() END, CASE WHEN n % 5000 = 2 THEN now() END,
            CASE WHEN n % 5000 = 3 THEN now() END, CASE WHEN n % 3 = 0 THEN 'alice' END
         FROM generate_series(1, {KEYS}) n"
    ))
    .await;
    let every = |step: i64, first: i64| -> Vec<i64> {
        (first..=KEYS).step_by(step as usize).filter(|n| *n > 0).collect()
    };
    let metadata = |value: serde_json::Value| value.as_object().unwrap().clone();
    for at_once in [1, 3, 1_000] {
        let all = async |filter| all(&ak, filter, at_once).await;
        assert_eq!(all(KeyFilter::new().scope("rare")).await, every(6_000, 6_000));
        assert_eq!(all(KeyFilter::new().over_share(0.9)).await, every(7_000, 7_000));
        assert!(all(KeyFilter::new().over_share(0.900001)).await.is_empty());
        assert_eq!(all(KeyFilter::new().state(KeyState::Revoked)).await, every(5_000, 1));
        assert_eq!(all(KeyFilter::new().state(KeyState::Disabled)).await, every(5_000, 2));
        assert_eq!(all(KeyFilter::new().state(KeyState::Expired)).await, every(5_000, 3));
        assert_eq!(all(KeyFilter::new().metadata(metadata(json!({"n": 24_999})))).await, [24_999]);
        assert!(all(KeyFilter::new().metadata(metadata(json!({"n": -1})))).await.is_empty());
        let filter = KeyFilter::new().account_id("a0").metadata(metadata(json!({"n": 24_998})));
        assert_eq!(all(filter).await, [24_998]);
        let filter = KeyFilter::new().account_id("a1").metadata(metadata(json!({"n": 24_998})));
        assert!(all(filter).await.is_empty());
        let filter = KeyFilter::new().delegated_by("alice").scope("rare").over_share(0.1);
        assert_eq!(all(filter).await, every(6_000, 6_000));
    }
    assert_eq!(all(&ak, KeyFilter::new(), 1_000).await, every(1, 1));
    assert_eq!(all(&ak, KeyFilter::new().account_id("a1"), 999).await, every(2, 1));
    assert_eq!(all(&ak, KeyFilter::new().metadata(metadata(json!({"even": true}))), 777).await, every(2, 2));
    // What is not rare needs one statement of the usual kind.
    let before = ak.stats().statements;
    assert_eq!(ids(&ak, KeyFilter::new().scope("read").limit(2)).await, [1, 2]);
    assert_eq!(ids(&ak, KeyFilter::new().limit(2)).await, [1, 2]);
    assert_eq!(ak.stats().statements, before + 2);
    db.drop().await;
}

#[tokio::test]
async fn of_rows_that_others_wrote_those_that_cannot_be_read_are_left_out_and_reported() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let deep = format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000));
    let odd = [
        r#"{"n": 1e400}"#,
        r#"{"n": -1e-400}"#,
        r#"{"n": 1, "n": 2}"#,
        "[1]",
        "null",
        "7",
        r#""text""#,
        deep.as_str(),
    ];
    db.run(
        "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, budget_cents)
         SELECT 'a', n::text, 'ak_', 100 FROM generate_series(1, 10) n",
    )
    .await;
    for (place, metadata) in odd.iter().enumerate() {
        db.run(&format!("UPDATE sdk_api_keys SET metadata = '{metadata}' WHERE id = {}", place + 1)).await;
    }
    assert_eq!(ids(&ak, KeyFilter::new()).await.len(), 10);
    let with = async |metadata: serde_json::Value| {
        ids(&ak, KeyFilter::new().metadata(metadata.as_object().unwrap().clone())).await
    };
    assert_eq!(with(json!({"n": 2})).await, [3]);
    assert_eq!(with(json!({})).await, [1, 2, 3]);
    for (key, name) in [("a\0", "b"), ("a", "b\0")] {
        let error =
            ak.list(KeyFilter::new().metadata([(key.to_owned(), json!(name))].into_iter().collect())).await;
        assert_eq!(error.unwrap_err().code().as_str(), "invalid_text");
    }
    // Amounts beyond any budget.
    db.run("ALTER TABLE sdk_api_keys ALTER budget_used_cents DROP NOT NULL; UPDATE sdk_api_keys SET budget_used_cents = 2147483647 WHERE id = 1; UPDATE sdk_api_keys SET budget_used_cents = -2147483648 WHERE id = 2;
        UPDATE sdk_api_keys SET budget_cents = 0 WHERE id = 3; UPDATE sdk_api_keys SET budget_cents = NULL WHERE id = 4;
        UPDATE sdk_api_keys SET budget_used_cents = NULL WHERE id = 5; UPDATE sdk_api_keys SET budget_used_cents = 100 WHERE id = 6")
    .await;
    for share in [1.0, 0.5, f64::MIN_POSITIVE] {
        assert_eq!(ids(&ak, KeyFilter::new().over_share(share)).await, [1, 3, 6], "{share}");
    }
    for share in [0.0, -0.0, -1.0, 1.000_000_1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = ak.list(KeyFilter::new().over_share(share)).await.unwrap_err();
        assert!(error.message().contains("overShare"), "{error}");
    }
    db.run("ALTER TABLE sdk_api_keys ALTER budget_cents TYPE numeric; UPDATE sdk_api_keys SET budget_cents = 0.5 WHERE id = 8").await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let hear = move |message: &str| hears.lock().unwrap().push(message.to_owned());
    let ak = AgentKey::builder().on_error(hear).pool(db.pool.clone()).unwrap();
    // Each page is full, whatever is left out of it.
    for limit in 1..=10 {
        assert_eq!(
            all(&ak, KeyFilter::new(), limit).await,
            [1, 2, 3, 4, 5, 6, 7, 9, 10],
            "{limit} at a time"
        );
    }
    let heard = std::mem::take(&mut *told.lock().unwrap());
    assert!(heard.len() >= 10, "{heard:?}");
    for message in &heard {
        assert!(message.contains("budget_cents") && message.contains("(key 8)"), "{message}");
    }
    // By an index that knows what is rare, too.
    db.run("INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix) SELECT 'b', 'b' || n, 'ak_' FROM generate_series(1, 25000) n;
        UPDATE sdk_api_keys SET metadata = '{\"rare\": 1}' WHERE id IN (7, 8, 9, 20000, 24000)").await;
    let rare = || json!({"rare": 1}).as_object().unwrap().clone();
    for limit in 1..=5 {
        assert_eq!(
            all(&ak, KeyFilter::new().metadata(rare()), limit).await,
            [7, 9, 20_000, 24_000],
            "{limit}"
        );
    }
    let scarce = KeyFilter::new().metadata(rare()).account_id("a");
    assert_eq!(ids(&ak, scarce.limit(2)).await, [7, 9]);
    // Nobody shall take a table that is odd for an empty one.
    let error = ak.list(KeyFilter::new().metadata(rare()).after(7).limit(1)).await;
    assert_eq!(error.unwrap()[0].grant.id, 9.into());
    db.run("UPDATE sdk_api_keys SET budget_cents = 0.5 WHERE id > 9").await;
    for filter in [KeyFilter::new().after(9), KeyFilter::new().limit(100)] {
        let error = ak.list(filter).await.unwrap_err();
        assert!(error.message().contains("budget_cents"), "{error}");
    }
    db.run("DELETE FROM sdk_api_keys WHERE id > 15").await;
    assert!(ids(&ak, KeyFilter::new().after(9)).await.is_empty(), "the last page");
    assert!(ak.list(KeyFilter::new().account_id("b")).await.is_err());
    assert_eq!(ids(&ak, KeyFilter::new().limit(8)).await, [1, 2, 3, 4, 5, 6, 7, 9]);
    assert!(ak.get(8).await.is_err());
    db.drop().await;
}
