//! The Rust code of docs/alarms.md: compiled as written there, and run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::engine::{Delivery, Webhook};
use agentkey::{AgentKey, CreateKey, Error, EventFilter};
use support::{TestDatabase, eventually};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn thresholds(url: String) -> Result<AgentKey, Error> {
    let ak = AgentKey::builder().thresholds([0.5, 0.8, 1.0]).connect(&url).await?;
    Ok(ak)
}

async fn notices(url: String) -> Result<AgentKey, Error> {
    let ak =
        AgentKey::builder().expiry_notice_seconds(3 * 86_400).stale_hold_seconds(3_600).connect(&url).await?;
    Ok(ak)
}

async fn follow(ak: AgentKey) -> Result<(), Error> {
    let mut alarms = ak.follow(EventFilter::new().alarms());
    while let Some(event) = alarms.next().await? {
        println!("{} {} {:?}", event.key_id, event.kind, event.metadata);
    }
    Ok(())
}

async fn post(delivery: Delivery) -> Result<u16, String> {
    assert!(delivery.body.contains("agentkey.threshold"), "{}", delivery.body);
    Ok(204)
}

#[allow(clippy::redundant_closure, reason = "it says what it is given")]
async fn webhook(ak: &AgentKey, secret: &str) -> Result<u32, Error> {
    let pager = Webhook::new("pager", [secret])?;
    let attempts = ak.deliver(&pager, |delivery| post(delivery)).await?; // post: with the HTTP client of your choice
    Ok(attempts)
}

async fn half(ak: &AgentKey) {
    let created = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    let _ = ak.track_usage(created.key.expose(), 5).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run() {
    let db = TestDatabase::create().await;
    db.client().await;
    let ak = thresholds(db.url.clone()).await.unwrap();
    assert_eq!(webhook(&ak, SECRET).await.unwrap(), 0);
    let following = tokio::spawn(follow(ak.clone()));
    half(&ak).await;
    assert_eq!(webhook(&ak, SECRET).await.unwrap(), 1);
    let shares =
        "SELECT string_agg(metadata ->> 'threshold', ' ') FROM sdk_api_keys_events WHERE kind = 'threshold'";
    assert_eq!(db.text(shares).await, "0.5");

    let watching = notices(db.url.clone()).await.unwrap();
    db.run("UPDATE sdk_api_keys SET created_at = now() - interval '9 days', expires_at = now() + interval '2 days'").await;
    eventually("the key's end is near", async || {
        let alarms = watching.events(EventFilter::new().after(0).alarms()).await.unwrap();
        alarms.iter().any(|event| event.kind.as_str() == "expiring")
    })
    .await;
    ak.close().await;
    following.await.unwrap().unwrap();
    db.drop().await;
}

#[test]
fn the_examples_are_those_of_the_page() {
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/alarms.md")).unwrap();
    let here = bare(include_str!("alarms_doc.rs"));
    let blocks: Vec<&str> =
        page.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        assert!(here.contains(&bare(block)), "not as in the page:\n{block}");
    }
}
