//! Lists of many keys, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::{AgentKey, KeyFilter, KeyState};
use serde_json::json;
use support::TestDatabase;

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
