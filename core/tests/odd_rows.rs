//! Rows with values that nobody meant. They are their own key's affair: the others of the statement never hear of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::engine::ReserveRefusalReason;
use agentkey::{
    AgentKey, Charge, ChargeRefusal, CreateKey, Created, DenialReason, ErrorCode, EventFilter, Reserve,
};
use serde_json::{Map, Value, json};
use support::TestDatabase;
use tokio::task::JoinSet;

/// The ends of what Postgres can hold, and what no calendar has.
const TIMES: [&str; 5] = [
    "infinity",
    "-infinity",
    "294276-12-31 23:59:59.999999+00",
    "280000-01-01 00:00:00+00",
    "4713-01-02 00:00:00+00 BC",
];

/// Two clients, one with all money in the ledger.
async fn clients(db: &TestDatabase) -> [AgentKey; 2] {
    let ak = db.client_with(AgentKey::builder().ledger(true)).await;
    [ak, AgentKey::builder().pool(db.pool.clone()).unwrap()]
}

async fn key(ak: &AgentKey, account: &str) -> Created {
    ak.create(CreateKey::new(account).budget_cents(1_000_000)).await.unwrap()
}

async fn child(ak: &AgentKey, parent: &Created) -> Created {
    ak.create(CreateKey::new("child").budget_cents(1_000_000).parent(parent.id.clone())).await.unwrap()
}

async fn set(db: &TestDatabase, key: &Created, values: &str) {
    db.run(&format!("UPDATE sdk_api_keys SET {values} WHERE id = {}", key.id)).await;
}

/// Every call of a key, each in a statement with those of others. The errors that there were.
async fn call_everything(ak: AgentKey, key: String, what: String) -> Vec<String> {
    let mut errors = Vec::new();
    let mut hear = |call: &str, error: Option<agentkey::Error>| {
        errors.extend(error.map(|error| format!("{what}: {call}: {error}")));
    };
    hear("validate", ak.validate(&key).await.err());
    hear("charge", ak.track_usage(&key, 1).await.err());
    hear("idempotent", ak.track_usage(&key, Charge::new(1).idempotency_key("a")).await.err());
    let both = tokio::join!(ak.track_usage(&key, 1), ak.track_usage(&key, 2));
    hear("charge", both.0.err().or(both.1.err()));
    for _ in 0..2 {
        match ak.reserve(&key, Reserve::new(1).idempotency_key("b")).await {
            Ok(Ok(held)) => {
                hear("extend", ak.extend(&held.id, std::time::Duration::from_secs(60)).await.err())
            }
            Ok(Err(_)) => {}
            Err(error) => hear("reserve", Some(error)),
        }
    }
    if let Ok(Ok(held)) = ak.reserve(&key, Reserve::new(1).idempotency_key("b")).await {
        hear("settle", ak.settle(&held.id, 1).await.err());
    }
    errors
}

/// All calls of all keys at once.
async fn call_all(ak: &AgentKey, keys: &[(String, &Created)]) -> Vec<String> {
    let mut calls = JoinSet::new();
    for (what, key) in keys {
        calls.spawn(call_everything(ak.clone(), key.key.expose().to_owned(), what.clone()));
    }
    calls.join_all().await.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_that_a_column_can_hold_is_an_error() {
    let db = TestDatabase::create().await;
    for ak in clients(&db).await {
        let columns =
            ["expires_at", "revoked_at", "disabled_at", "budget_reset_at", "created_at", "last_used_at"];
        let mut rows: Vec<String> = Vec::new();
        for time in TIMES {
            rows.extend(columns.iter().map(|column| format!("{column} = '{time}'")));
            for (period, reset) in
                [("hour", "now() - interval '1 year'"), ("month", "now()"), ("year", "now()")]
            {
                rows.push(format!(
                    "budget_period = '{period}', budget_reset_at = {reset}, budget_anchor_at = '{time}'"
                ));
                for anchor in TIMES {
                    rows.push(format!(
                        "budget_period = '{period}', budget_reset_at = '{time}', budget_anchor_at = '{anchor}'"
                    ));
                }
            }
        }
        let mut keys = Vec::new();
        for row in rows {
            for is_parent in [false, true] {
                let odd = key(&ak, "odd").await;
                let called = if is_parent { Some(child(&ak, &odd).await) } else { None };
                set(&db, &odd, &row).await;
                keys.push((format!("{row}, is_parent: {is_parent}"), called.unwrap_or(odd)));
                keys.push((format!("beside {row}"), key(&ak, "good").await));
            }
        }
        let keys: Vec<(String, &Created)> = keys.iter().map(|(row, key)| (row.clone(), key)).collect();
        let errors = call_all(&ak, &keys).await;
        assert!(errors.is_empty(), "{} errors: {:#?}", errors.len(), &errors[..errors.len().min(8)]);
    }
    assert_eq!(
        db.number("SELECT count(*) FROM sdk_api_keys WHERE account_id = 'good' AND budget_used_cents <> 6")
            .await,
        0
    );
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_beyond_the_calendar_have_their_meaning() {
    let db = TestDatabase::create().await;
    let [ak, _] = clients(&db).await;
    let expiring = async |time: &str| {
        let key = key(&ak, "acct").await;
        set(&db, &key, &format!("expires_at = '{time}', last_used_at = '{time}'")).await;
        ak.validate(key.key.expose()).await.unwrap()
    };
    let [ever, never, far, farther, bc] = TIMES;
    assert_eq!(expiring(ever).await.unwrap().expires_at, None);
    for time in [far, farther] {
        let at = expiring(time).await.unwrap().expires_at.unwrap();
        assert_eq!(at.to_rfc3339(), "9999-12-31T23:59:59.999999+00:00");
    }
    for time in [never, bc] {
        let denial = expiring(time).await.unwrap_err();
        assert_eq!(denial.reason, DenialReason::Expired, "{time}");
        let at = denial.key.unwrap().expires_at.unwrap();
        assert_eq!(at.to_rfc3339(), "0001-01-01T00:00:00+00:00");
    }
    // A period that began in a far past is over; one that ends in a far future is not.
    for (time, used) in [(bc, 1), (far, 8)] {
        let key = key(&ak, "acct").await;
        set(&db, &key, &format!("budget_period = 'day', budget_used_cents = 7, budget_reset_at = '{time}'"))
            .await;
        let charged = ak.track_usage(key.key.expose(), 1).await.unwrap().unwrap();
        assert_eq!(charged.balance.unwrap().used_cents(), used, "{time}");
    }
    // A child of a key that never expires, and of one that expires very late.
    for (time, is_bound) in [(ever, false), (far, true)] {
        let parent = key(&ak, "acct").await;
        set(&db, &parent, &format!("expires_at = '{time}'")).await;
        let below = child(&ak, &parent).await;
        assert_eq!(below.expires_at.is_some(), is_bound, "{time}");
    }
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_and_entries_may_have_any_time() {
    let db = TestDatabase::create().await;
    for ak in clients(&db).await {
        for time in TIMES {
            let (odd, good) = (key(&ak, "odd").await, key(&ak, "good").await);
            let reserve = |key: &Created, name: &str| {
                let (ak, key) = (ak.clone(), key.key.expose().to_owned());
                let reserve = Reserve::new(5).idempotency_key(name);
                async move { ak.reserve(&key, reserve).await.unwrap().unwrap() }
            };
            let held = [reserve(&odd, "a").await, reserve(&odd, "b").await, reserve(&odd, "c").await];
            let other = reserve(&good, "a").await;
            db.run(&format!(
                "UPDATE sdk_api_keys_reservations SET expires_at = '{time}' WHERE key_id = {};
                 UPDATE sdk_api_keys_events SET at = '{time}' WHERE key_id = {0}",
                odd.id
            ))
            .await;
            let is_over = matches!(time, "-infinity") || time.ends_with("BC");
            let (again, beside) = tokio::join!(reserve(&odd, "a"), reserve(&good, "a"));
            assert_eq!((again.replayed, beside.replayed), (!is_over, true), "{time}");
            let (settled, released, extended, beside) = tokio::join!(
                ak.settle(&again.id, 1),
                ak.release(&held[1].id),
                ak.extend(&held[2].id, std::time::Duration::from_secs(60)),
                ak.settle(&other.id, 1)
            );
            assert!(settled.unwrap().is_ok() && released.unwrap().unwrap(), "{time}");
            assert!(extended.unwrap().is_ok() && beside.unwrap().is_ok(), "{time}");
            let events = ak.events(EventFilter::new().key_id(odd.id.clone())).await.unwrap();
            assert!(events.len() >= 3, "{time}");
            ak.usage(agentkey::UsageFilter::of_key(odd.id.clone())).await.unwrap();
        }
    }
    ak_events_are_readable(&db).await;
    db.drop().await;
}

async fn ak_events_are_readable(db: &TestDatabase) {
    let ak = AgentKey::builder().pool(db.pool.clone()).unwrap();
    assert!(ak.events(EventFilter::new().limit(1_000)).await.unwrap().len() > 10);
    assert_eq!(ak.verify_ledger(None).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_fails_its_own_key_alone() {
    let db = TestDatabase::create().await;
    let _ = clients(&db).await;
    db.run("ALTER TABLE sdk_api_keys ALTER budget_cents TYPE numeric").await;
    for ak in clients(&db).await {
        let (odd, parent) = (key(&ak, "odd").await, key(&ak, "odd").await);
        let below = child(&ak, &parent).await;
        for key in [&odd, &parent] {
            set(&db, key, "budget_cents = 1000.5").await;
        }
        let mut good = Vec::new();
        for _ in 0..10 {
            good.push(key(&ak, "good").await);
        }
        let named: Vec<(String, &Created)> = good.iter().map(|key| ("good".to_owned(), key)).collect();
        for called in [&odd, &below] {
            let secret = called.key.expose();
            let (errors, validated, reserved) =
                tokio::join!(call_all(&ak, &named), ak.validate(secret), ak.reserve(secret, 1));
            assert_eq!(errors, [""; 0]);
            for error in [validated.unwrap_err(), reserved.unwrap_err()] {
                assert_eq!(error.code(), ErrorCode::UnexpectedResponse);
                assert!(error.message().contains("budget_cents"), "{error}");
            }
        }
    }
    db.drop().await;
}

/// What may stand in `ancestor_ids` that no key ever got from us. `{id}`, `{parent}` and `{other}` are keys.
const BROKEN: [(&str, &str); 9] = [
    ("its own ancestor", "ARRAY[{id}]"),
    ("its parent's ancestor, and its own", "ARRAY[{parent}, {id}]"),
    ("its own ancestor in the middle", "ARRAY[{parent}, {id}, {parent}]"),
    ("a parent twice", "ARRAY[{parent}, {parent}]"),
    ("NULL", "ARRAY[{parent}, NULL]"),
    ("NULL alone", "ARRAY[NULL::bigint]"),
    ("an array of arrays", "ARRAY[ARRAY[{parent}, {other}], ARRAY[{other}, {parent}]]"),
    (
        "too many",
        "(SELECT array_agg(id) FROM (SELECT id FROM sdk_api_keys WHERE account_id = 'many' ORDER BY id LIMIT 56) k)",
    ),
    ("one that is gone", "ARRAY[{parent}, 999999]"),
];

async fn break_chain(db: &TestDatabase, key: &Created, parent: &Created, other: &Created, chain: &str) {
    let chain = chain.replace("{id}", &key.id.to_string()).replace("{parent}", &parent.id.to_string());
    set(db, key, &format!("ancestor_ids = {}", chain.replace("{other}", &other.id.to_string()))).await;
}

async fn used(db: &TestDatabase, key: &Created) -> (i64, i64) {
    let id = &key.id;
    let used = db.number(&format!("SELECT budget_used_cents FROM sdk_api_keys WHERE id = {id}")).await;
    (used, db.number(&format!("SELECT budget_reserved_cents FROM sdk_api_keys WHERE id = {id}")).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_cannot_be_lets_nothing_pass() {
    let db = TestDatabase::create().await;
    for ak in clients(&db).await {
        for _ in 0..56 {
            let _ = key(&ak, "many").await;
        }
        for (what, chain) in BROKEN {
            let (parent, other) = (key(&ak, "parent").await, key(&ak, "other").await);
            let odd = child(&ak, &parent).await;
            let mut good = Vec::new();
            for _ in 0..6 {
                good.push(child(&ak, &parent).await);
            }
            // One that was charged before, and whose chain the client knows.
            assert!(ak.track_usage(odd.key.expose(), 3).await.unwrap().is_ok());
            let held = [1, 2, 3].map(|_| ak.reserve(odd.key.expose(), 10));
            let [settled, released, kept] = held;
            let (settled, released, kept) = tokio::join!(settled, released, kept);
            let [settled, released, kept] = [settled, released, kept].map(|held| held.unwrap().unwrap().id);
            assert_eq!((used(&db, &odd).await, used(&db, &parent).await), ((3, 30), (3, 30)));
            break_chain(&db, &odd, &parent, &other, chain).await;

            let secret = odd.key.expose();
            let named: Vec<(String, &Created)> = good.iter().map(|key| (what.to_owned(), key)).collect();
            let (errors, validated, plain, idempotent, reserved, many) = tokio::join!(
                call_all(&ak, &named),
                ak.validate(secret),
                ak.track_usage(secret, 5),
                ak.track_usage(secret, Charge::new(5).idempotency_key("once")),
                ak.reserve(secret, 5),
                async { tokio::join!(ak.track_usage(secret, 5), ak.track_usage(secret, 6)) },
            );
            assert_eq!(errors, [""; 0]);
            assert_eq!(validated.unwrap().unwrap_err().reason, DenialReason::Revoked, "{what}");
            for charged in [plain, idempotent, many.0, many.1] {
                assert_eq!(charged.unwrap().unwrap_err(), ChargeRefusal::InvalidKey, "{what}");
            }
            assert_eq!(reserved.unwrap().unwrap_err().reason, ReserveRefusalReason::Revoked, "{what}");
            let invalid = ak.create(CreateKey::child_of(odd.id.clone())).await.unwrap_err();
            assert_eq!(invalid.code(), ErrorCode::InvalidParent, "{what}");
            // A client that never saw the key.
            let fresh = AgentKey::builder().pool(db.pool.clone()).unwrap();
            assert_eq!(fresh.track_usage(secret, 5).await.unwrap().unwrap_err(), ChargeRefusal::InvalidKey);
            assert_eq!(fresh.validate(secret).await.unwrap().unwrap_err().reason, DenialReason::Revoked);
            // Six children, of which each spent 6 cents.
            let spent_by_others = 6 * 6;
            assert_eq!(used(&db, &odd).await, (3, 30), "{what}");
            assert_eq!(used(&db, &parent).await, (3 + spent_by_others, 30), "{what}");
            assert_eq!(used(&db, &other).await, (0, 0), "{what}");

            // What is held is given back, and what was spent is recorded: once.
            let (one, two) = tokio::join!(ak.settle(&settled, 7), ak.release(&released));
            assert!(one.unwrap().is_ok() && two.unwrap().unwrap(), "{what}");
            assert_eq!(used(&db, &odd).await, (10, 10), "{what}");
            if chain.contains("{parent}") {
                assert_eq!(used(&db, &parent).await, (10 + spent_by_others, 10), "{what}");
            }
            assert!(ak.release(&kept).await.unwrap().unwrap());
            let refunded = ak.refund(odd.id.clone(), 2).await.unwrap();
            assert!(refunded.is_ok());
            assert_eq!(used(&db, &odd).await, (8, 0), "{what}");
            ak.verify_ledger(None).await.unwrap();
        }
    }
    db.drop().await;
}

/// Each of two keys says that the other is above it: a charge of either is recorded once on both.
#[tokio::test(flavor = "multi_thread")]
async fn keys_above_one_another_are_charged_once_each() {
    let db = TestDatabase::create().await;
    for ak in clients(&db).await {
        let parent = key(&ak, "parent").await;
        let (below, good) = (child(&ak, &parent).await, key(&ak, "good").await);
        set(&db, &parent, &format!("parent_id = {0}, ancestor_ids = ARRAY[{0}]", below.id)).await;
        let mut spent = 0;
        for odd in [&parent, &below] {
            for _ in 0..2 {
                let secret = odd.key.expose();
                assert!(ak.validate(secret).await.unwrap().is_ok());
                let (charged, beside) =
                    tokio::join!(ak.track_usage(secret, 5), ak.track_usage(good.key.expose(), 1));
                assert!(charged.unwrap().is_ok() && beside.unwrap().is_ok());
                let held = ak.reserve(secret, 4).await.unwrap().unwrap();
                assert!(ak.settle(&held.id, 3).await.unwrap().is_ok());
                spent += 8;
            }
        }
        assert_eq!((used(&db, &parent).await, used(&db, &below).await), ((spent, 0), (spent, 0)));
    }
    db.drop().await;
}

fn nested(levels: usize) -> Map<String, Value> {
    let mut value = json!(1);
    for _ in 1..levels {
        value = json!([value]);
    }
    Map::from_iter([("deep".to_owned(), value)])
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_metadata_is_refused_and_that_of_others_is_read() {
    let db = TestDatabase::create().await;
    let [ak, _] = clients(&db).await;
    let (odd, good) = (key(&ak, "odd").await, key(&ak, "good").await);
    for levels in [101, 130, 5_000] {
        let charge = Charge::new(1).metadata(nested(levels));
        let reserve = Reserve::new(1).metadata(nested(levels));
        let errors = [
            ak.track_usage(odd.key.expose(), charge.clone()).await.unwrap_err(),
            ak.reserve(odd.key.expose(), reserve).await.unwrap_err(),
            ak.refund(odd.id.clone(), charge).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.code(), ErrorCode::InvalidText);
            assert!(error.message().contains("metadata"), "{error}");
        }
    }
    for key in [&odd, &good] {
        let charge = Charge::new(1).metadata(nested(100));
        assert!(ak.track_usage(key.key.expose(), charge).await.unwrap().is_ok());
    }
    for metadata in
        ["repeat('[', 3000) || repeat(']', 3000)", "'{\"much\": 1' || repeat('0', 400) || '}'", "'\"text\"'"]
    {
        db.run(&format!(
            "UPDATE sdk_api_keys_events SET metadata = ({metadata})::jsonb WHERE key_id = {}",
            odd.id
        ))
        .await;
        let events = ak.events(EventFilter::new()).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == "charge").count(), 2);
        let of = |key: &Created| events.iter().find(|event| event.kind == "charge" && event.key_id == key.id);
        assert_eq!(of(&good).unwrap().metadata, Some(nested(100).into()));
        assert!(of(&odd).unwrap().metadata.as_ref().is_some_and(Value::is_string));
    }
    db.drop().await;
}
