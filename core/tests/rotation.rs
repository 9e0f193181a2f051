//! Keys that get a new secret while they are in use, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentkey::engine::Credential;
use agentkey::{AgentKey, Charge, CreateKey, DenialReason, KeyId, Reserve, Rotate, RotateRefusal};
use support::{TestDatabase, eventually, original_table};
use tokio::task::JoinSet;

/// What a key is used for, through every lane.
async fn use_it(ak: &AgentKey, key: &str, n: usize) -> Result<(), String> {
    let refused = |why: &dyn std::fmt::Display| Err(why.to_string());
    match n % 4 {
        0 => match ak.validate(key).await.unwrap() {
            Ok(_) => Ok(()),
            Err(denial) => refused(&denial.reason),
        },
        1 => match ak.track_usage(key, 1).await.unwrap() {
            Ok(_) => Ok(()),
            Err(refusal) => refused(&refusal),
        },
        2 => {
            let charge = Charge::new(1).idempotency_key(format!("{n} {}", support::random()));
            ak.track_usage(key, charge).await.unwrap().map(drop).or_else(|refusal| refused(&refusal))
        }
        _ => match ak.reserve(key, Reserve::new(1)).await.unwrap() {
            Ok(held) => ak.settle(&held.id, 1).await.unwrap().map(drop).or_else(|refusal| refused(&refusal)),
            Err(refusal) => refused(&refusal),
        },
    }
}

async fn is_valid(ak: &AgentKey, key: &str) -> bool {
    ak.validate(key).await.unwrap().is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_while_a_key_is_rotated_and_nobody_passes_with_the_old_secret_after_the_grace() {
    let db = TestDatabase::create().await;
    // 256 callers of one key keep a slow machine busy: what is asked here is not how soon they are answered.
    let fleet = db.fleet(2, || AgentKey::builder().timeout(Duration::from_secs(120))).await;
    fleet[0].migrate().await.unwrap();
    let team = fleet[0].create(CreateKey::new("acct").budget_cents(10_000_000)).await.unwrap();
    for is_child in [false, true] {
        let spec = if is_child { CreateKey::child_of(team.id.clone()) } else { CreateKey::new("acct") };
        let created = fleet[0].create(spec.budget_cents(1_000_000)).await.unwrap();
        let old: Arc<str> = Arc::from(created.key.expose());
        // In use by 256 callers of two processes while the key gets its new secret.
        let (stop, used) =
            (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        let mut users = JoinSet::new();
        for n in 0..256 {
            let (ak, key) = (fleet[n % 2].clone(), Arc::clone(&old));
            let (stop, used) = (Arc::clone(&stop), Arc::clone(&used));
            users.spawn(async move {
                let mut at = n / 2;
                while !stop.load(Ordering::Relaxed) {
                    use_it(&ak, &key, at).await.unwrap();
                    used.fetch_add(1, Ordering::Relaxed);
                    at += 1;
                }
            });
        }
        let reached = |count: usize| {
            let used = Arc::clone(&used);
            eventually("it is in use", async move || used.load(Ordering::Relaxed) >= count)
        };
        reached(300).await;
        let rotated = fleet[1].rotate(created.id.clone(), Rotate::new()).await.unwrap().unwrap();
        assert_eq!(rotated.id, created.id);
        assert!(rotated.previous_expires_at.is_some());
        let new: Arc<str> = Arc::from(rotated.key.expose());
        assert_ne!(old, new);
        let before = used.load(Ordering::Relaxed);
        for n in 0..256 {
            use_it(&fleet[n % 2], &new, n / 2).await.unwrap();
        }
        reached(before + 600).await;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = users.join_next().await {
            ended.expect("nobody is refused during the grace");
        }
        // The grace ends: all old ones are refused, all new ones pass.
        db.run(&format!(
            "UPDATE sdk_api_keys SET prev_key_expires_at = statement_timestamp() WHERE id = {}",
            created.id
        ))
        .await;
        let mut calls = JoinSet::new();
        for n in 0..512 {
            let (ak, old, new) = (fleet[n % 2].clone(), Arc::clone(&old), Arc::clone(&new));
            calls.spawn(async move {
                match n / 2 % 2 {
                    0 => (false, use_it(&ak, &old, n / 4).await),
                    _ => (true, use_it(&ak, &new, n / 4).await),
                }
            });
        }
        while let Some(call) = calls.join_next().await {
            match call.unwrap() {
                (false, outcome) => {
                    let why = outcome.expect_err("an old secret after the grace");
                    assert!(
                        ["invalid", "invalid_key"].contains(&why.as_str()) || why.contains("invalid_key"),
                        "{why}"
                    );
                }
                (true, outcome) => outcome.unwrap(),
            }
        }
    }
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'rotate'").await, 2);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grace_the_old_secret_stops_with_the_rotation() {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(2, AgentKey::builder).await;
    fleet[0].migrate().await.unwrap();
    let created = fleet[0].create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let mut secret = created.key.clone();
    for _ in 0..20 {
        let rotated = fleet[0].rotate(&secret, Rotate::new().grace(Duration::ZERO)).await.unwrap().unwrap();
        assert_eq!(rotated.previous_expires_at, None);
        for n in 0..8 {
            assert!(use_it(&fleet[n % 2], secret.expose(), n / 2).await.is_err());
        }
        assert_eq!(
            fleet[1].rotate(&secret, Rotate::new()).await.unwrap(),
            Err(RotateRefusal::InvalidKey),
            "an old secret makes no new one"
        );
        assert!(is_valid(&fleet[1], rotated.key.expose()).await);
        secret = rotated.key;
    }
    // A tiny one ends by itself.
    let tiny = Rotate::new().grace(Duration::from_millis(40));
    let rotated = fleet[0].rotate(created.id.clone(), tiny).await.unwrap().unwrap();
    eventually("the grace is over", async || !is_valid(&fleet[1], secret.expose()).await).await;
    assert!(is_valid(&fleet[1], rotated.key.expose()).await);
    assert!(!is_valid(&fleet[0], secret.expose()).await);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_rotation_makes_no_third_secret() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let first = created.key.expose();
    let rotate = || Rotate::new().idempotency_key("may");
    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let (ak, id) = (ak.clone(), created.id.clone());
        calls.spawn(async move { ak.rotate(id, rotate()).await.unwrap().unwrap() });
    }
    let secrets: Vec<String> =
        calls.join_all().await.into_iter().map(|rotated| rotated.key.expose().to_owned()).collect();
    let mut live = 0;
    for secret in &secrets {
        live += usize::from(is_valid(&ak, secret).await);
    }
    assert_eq!(live, 1, "the last one that was answered counts");
    assert!(is_valid(&ak, first).await);
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'rotate'").await, 1);
    // The first secret names the key as well. Another rotation after it, and the repetition comes too late.
    let again = ak.rotate(&created.key, rotate()).await.unwrap().unwrap();
    let next = ak.rotate(created.id.clone(), Rotate::new().idempotency_key("june")).await.unwrap().unwrap();
    assert_eq!(
        ak.rotate(created.id.clone(), rotate()).await.unwrap(),
        Err(RotateRefusal::IdempotencyConflict)
    );
    assert!(is_valid(&ak, again.key.expose()).await && is_valid(&ak, next.key.expose()).await);
    assert!(!is_valid(&ak, first).await, "the secret before the last one stopped");
    // As does another use of the idempotency key.
    let _ =
        ak.track_usage(next.key.expose(), Charge::new(1).idempotency_key("charge")).await.unwrap().unwrap();
    let used = ak.rotate(created.id.clone(), Rotate::new().idempotency_key("charge")).await.unwrap();
    assert_eq!(used, Err(RotateRefusal::IdempotencyConflict));
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_row_locked_a_rotation_waits_for_it_and_holds_nobody_up() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let held = ak.create(CreateKey::new("acct")).await.unwrap();
    let other = ak.create(CreateKey::new("acct")).await.unwrap();
    let mut session = db.session().await;
    let lock = format!("BEGIN; SELECT FROM sdk_api_keys WHERE id = {} FOR UPDATE", held.id);
    sqlx::Executor::execute(&mut session, sqlx::raw_sql(sqlx::AssertSqlSafe(lock))).await.unwrap();
    let waiting = {
        let (ak, id) = (ak.clone(), held.id.clone());
        tokio::spawn(async move { ak.rotate(id, Rotate::new()).await.unwrap().unwrap() })
    };
    eventually("it waits", async || db.waiting_sessions().await == 1).await;
    assert!(ak.rotate(other.id, Rotate::new()).await.unwrap().is_ok());
    assert!(is_valid(&ak, held.key.expose()).await);
    sqlx::Executor::execute(&mut session, "COMMIT").await.unwrap();
    let rotated = waiting.await.unwrap();
    assert!(is_valid(&ak, rotated.key.expose()).await && is_valid(&ak, held.key.expose()).await);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_whose_caller_is_gone_leaves_one_working_secret_or_the_old_one() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct")).await.unwrap();
    for n in 0..50 {
        let dropped = ak.rotate(created.id.clone(), Rotate::new().idempotency_key("lost"));
        let patience = Duration::from_micros(n * 40);
        let lost = tokio::time::timeout(patience, dropped).await;
        drop(lost);
    }
    let rotated =
        ak.rotate(created.id.clone(), Rotate::new().idempotency_key("lost")).await.unwrap().unwrap();
    eventually("all that was sent is over", async || ak.stats().pending == 0).await;
    assert!(is_valid(&ak, created.key.expose()).await, "the secret before the rotation counts still");
    assert!(db.number("SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'rotate'").await == 1);
    let _ = rotated;
    db.drop().await;
}

#[tokio::test]
async fn what_a_request_cost_is_recorded_though_its_key_got_two_new_secrets_meanwhile() {
    use agentkey::engine::Answer;
    use agentkey::http::{Ending, Exchange, Guard, Next, Price};
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let head = format!("Bearer {}", created.key.expose());
    let (mut exchange, first) = Exchange::with_guard(&Guard::new().prices(true), Some(head.as_str()));
    let request = |next: Next| match next {
        Next::Call(call) => call.request().unwrap(),
        other => panic!("{other:?}"),
    };
    let answer = ak.call(request(first)).await.unwrap();
    let _ = exchange.answered(Ok(answer), std::time::SystemTime::now().into());
    for _ in 0..2 {
        let rotate = Rotate::new().grace(Duration::ZERO);
        let _ = ak.rotate(created.id.clone(), rotate).await.unwrap().unwrap();
    }
    let _ = exchange.ended(Ending::sent(200));
    let call = request(exchange.priced(Price::Amount(agentkey::Cost::cents(7))));
    assert!(matches!(ak.call(call).await.unwrap(), Answer::Charged(Ok(_))));
    assert_eq!(db.number("SELECT budget_used_cents FROM sdk_api_keys").await, 7);
    db.drop().await;
}

#[tokio::test]
async fn by_an_id_a_key_is_looked_up_charged_and_held_without_its_secret() {
    let db = TestDatabase::create().await;
    db.run("CREATE TABLE sdk_api_keys (id UUID PRIMARY KEY DEFAULT gen_random_uuid(), account_id TEXT, key_hash TEXT NOT NULL UNIQUE,
        key_prefix TEXT NOT NULL)").await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let id = created.id.to_string();
    // One row by two names, and by its secret, at the same time: never more than its budget.
    let mut calls = JoinSet::new();
    for n in 0..300 {
        let (ak, id, key) = (ak.clone(), id.clone(), created.key.clone());
        calls.spawn(async move {
            match n % 3 {
                0 => ak.track_usage_by_id(id.to_uppercase(), 1).await.unwrap().is_ok(),
                1 => ak.track_usage_by_id(id, 1).await.unwrap().is_ok(),
                _ => ak.track_usage(key.expose(), 1).await.unwrap().is_ok(),
            }
        });
    }
    let recorded = calls.join_all().await.into_iter().filter(|is_ok| *is_ok).count();
    assert_eq!(recorded, 100);
    assert_eq!(db.number("SELECT budget_used_cents FROM sdk_api_keys").await, 100);
    let denial = ak.validate_by_id(id.as_str()).await.unwrap().unwrap_err();
    assert_eq!(denial.reason, DenialReason::BudgetExceeded);
    for nobody in ["", "7", "nobody", "00000000-0000-0000-0000-000000000000", "a\0b"] {
        let id = || KeyId::from(nobody);
        assert_eq!(ak.validate_by_id(id()).await.unwrap().unwrap_err().reason, DenialReason::Invalid);
        assert!(ak.track_usage_by_id(id(), 1).await.unwrap().is_err());
        assert!(ak.reserve_by_id(id(), 1).await.unwrap().is_err());
    }
    db.drop().await;
}

#[tokio::test]
async fn a_table_that_was_never_migrated_has_no_rotation_and_pays_nothing_for_it() {
    let db = TestDatabase::create().await;
    db.run(&original_table("SERIAL", "TEXT")).await;
    let ak = AgentKey::builder().pool(db.pool.clone()).unwrap();
    let created = ak.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let error = ak.rotate(created.id.clone(), Rotate::new()).await.unwrap_err();
    assert_eq!(error.code().as_str(), "migration_required");
    assert!(error.message().contains("prev_key_hash"), "{error}");
    let before = ak.stats().statements;
    assert!(!is_valid(&ak, "ak_nobody").await);
    assert_eq!(ak.stats().statements, before + 1);
    let _ = ak.track_usage_by_id(created.id.clone(), 5).await.unwrap().unwrap();
    assert_eq!(ak.validate_by_id(created.id).await.unwrap().unwrap().budget_used_cents, 5);
    db.drop().await;
}

#[tokio::test]
async fn no_secret_counts_whose_end_is_not_known() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct")).await.unwrap();
    let rotated = ak.rotate(&created.key, Rotate::new()).await.unwrap().unwrap();
    assert!(is_valid(&ak, created.key.expose()).await);
    db.run("ALTER TABLE sdk_api_keys DROP COLUMN prev_key_expires_at").await;
    let ak = AgentKey::builder().pool(db.pool.clone()).unwrap();
    assert!(!is_valid(&ak, created.key.expose()).await);
    assert!(is_valid(&ak, rotated.key.expose()).await);
    let by_secret =
        ak.call(agentkey::engine::Request::Rotate(Credential::Key(rotated.key.hash()), Rotate::new()));
    assert_eq!(by_secret.await.unwrap_err().code().as_str(), "migration_required");
    db.drop().await;
}
