//! Money and secrets while keys get new secrets, and somebody is in the way: lost connections, locked rows, other clients,
//! rows written by hand. Every cent is recorded once; a secret that counts passes, and one that does not never does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentkey::engine::{
    Answer, Credential, Engine, Fault, Options, Parent, Request, ReserveRefusalReason, Statement,
};
use agentkey::http::{Ending, Exchange, Guard, Next, Price};
use agentkey::{
    AgentKey, Charge, ChargeRefusal, CreateKey, DenialReason, KeyUpdate, Reserve, Rotate, RotateRefusal,
};
use sqlx::{AssertSqlSafe, PgConnection};
use support::{Dice, TestDatabase, eventually, random};
use tokio::task::JoinSet;

async fn is_valid(ak: &AgentKey, key: &str) -> bool {
    ak.validate(key).await.unwrap().is_ok()
}

/// Every secret that a key had, the newest last, and how many rotations were begun.
#[derive(Default)]
struct Secrets {
    known: Mutex<Vec<Arc<str>>>,
    begun: AtomicUsize,
}

impl Secrets {
    /// One of the two that count, and its place.
    fn pick(&self, back: usize) -> (usize, Arc<str>) {
        let known = self.known.lock().unwrap();
        let place = (known.len() - 1).saturating_sub(back);
        (place, Arc::clone(&known[place]))
    }
}

/// One operation, repeated under its idempotency key with whatever secret is known then, until it is through: what it cost.
async fn operate(fleet: &[AgentKey], secrets: &Secrets, name: &str, n: usize, grace: bool) -> i64 {
    let cost = 1 + n as i64 % 9;
    for attempt in 0_usize.. {
        let ak = &fleet[(n + attempt) % fleet.len()];
        let (place, key) = secrets.pick(if grace { attempt % 2 } else { 0 });
        let refused = |why: &dyn std::fmt::Debug| {
            // It may be too old by now: two rotations were begun since.
            let is_current = secrets.begun.load(Ordering::SeqCst) <= place + usize::from(grace);
            assert!(!is_current, "a secret that counts was refused: {why:?}");
        };
        if n.is_multiple_of(2) {
            match ak.track_usage(&key, Charge::new(cost).idempotency_key(name)).await {
                Ok(Ok(_)) => return cost,
                Ok(Err(ChargeRefusal::InvalidKey)) => refused(&"a charge"),
                Ok(Err(other)) => panic!("{other:?}"),
                Err(error) => assert!(error.is_transient() || error.may_have_been_recorded(), "{error}"),
            }
        } else {
            match ak.reserve(&key, Reserve::new(10).idempotency_key(name)).await {
                Ok(Ok(held)) => loop {
                    match ak.settle(&held.id, cost).await {
                        Ok(settled) => {
                            assert_eq!(settled.unwrap().cost_microcents, cost * 1_000_000);
                            return cost;
                        }
                        Err(error) => {
                            assert!(error.is_transient() || error.may_have_been_recorded(), "{error}")
                        }
                    }
                },
                Ok(Err(refusal)) => match refusal.reason {
                    ReserveRefusalReason::InvalidKey => refused(&refusal),
                    _ => panic!("{refusal:?}"),
                },
                Err(error) => assert!(error.is_transient() || error.may_have_been_recorded(), "{error}"),
            }
        }
    }
    unreachable!()
}

/// 64 callers of two clients, a rotation after the other, killed connections and locked rows.
async fn storm(grace: bool, is_child: bool, ledger: bool) {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(2, || AgentKey::builder().ledger(ledger)).await;
    fleet[0].migrate().await.unwrap();
    let team = fleet[0].create(CreateKey::new("acct").budget_cents(10_000_000)).await.unwrap();
    let spec = if is_child { CreateKey::child_of(team.id.clone()) } else { CreateKey::new("acct") };
    let created = fleet[0].create(spec.budget_cents(1_000_000)).await.unwrap();
    let secrets = Arc::new(Secrets::default());
    secrets.known.lock().unwrap().push(Arc::from(created.key.expose()));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut users = JoinSet::new();
    for user in 0..64 {
        let (fleet, secrets) = (fleet.clone(), Arc::clone(&secrets));
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        users.spawn(async move {
            let mut total = 0;
            let mut n = user;
            while !stop.load(Ordering::Relaxed) {
                total += operate(&fleet, &secrets, &format!("{user} {n}"), n, grace).await;
                done.fetch_add(1, Ordering::Relaxed);
                n += 1;
            }
            total
        });
    }
    let mut dice = Dice(random());
    let mut locker = db.session().await;
    for round in 1..=40 {
        let enough = round * 20;
        eventually("it is in use", async || done.load(Ordering::Relaxed) >= enough).await;
        match dice.roll(3) {
            0 => {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'active' AND query LIKE '%agentkey%'
                      AND pid <> pg_backend_pid() AND application_name <> 'keep' ORDER BY random() LIMIT 2";
                db.run(kill).await;
            }
            1 => {
                let lock = format!(
                    "BEGIN; SELECT FROM sdk_api_keys WHERE id = {} FOR UPDATE; SELECT pg_sleep(0.02); COMMIT",
                    created.id
                );
                sqlx::Executor::execute(&mut locker, sqlx::raw_sql(AssertSqlSafe(lock))).await.unwrap();
            }
            _ => {}
        }
        secrets.begun.fetch_add(1, Ordering::SeqCst);
        let rotate = Rotate::new().idempotency_key(format!("rotation {round}"));
        let rotate = if grace { rotate } else { rotate.grace(Duration::ZERO) };
        let rotated = loop {
            // By its secret, or by its id.
            let by_id = dice.roll(2) == 0;
            let of = if by_id {
                Credential::from(created.id.clone())
            } else {
                Credential::of_key(&secrets.pick(0).1)
            };
            match fleet[round % 2].rotate(of, rotate.clone()).await {
                Ok(Ok(rotated)) => break rotated,
                // It was done, and its answer lost: without a grace only the id is left.
                Ok(Err(RotateRefusal::InvalidKey)) if !by_id && !grace => {}
                Ok(Err(refusal)) => panic!("{refusal:?}"),
                Err(error) => assert!(error.is_transient() || error.may_have_been_recorded(), "{error}"),
            }
        };
        secrets.known.lock().unwrap().push(Arc::from(rotated.key.expose()));
    }
    stop.store(true, Ordering::Relaxed);
    let total: i64 = users.join_all().await.into_iter().sum();
    let used = format!(
        "SELECT budget_used_cents || '/' || budget_reserved_cents FROM sdk_api_keys WHERE id = {}",
        created.id
    );
    assert_eq!(
        db.text(&used).await,
        format!("{total}/0"),
        "grace {grace}, child {is_child}, ledger {ledger}"
    );
    if is_child {
        let used = format!("SELECT budget_used_cents FROM sdk_api_keys WHERE id = {}", team.id);
        assert_eq!(db.number(&used).await, total);
    }
    if ledger {
        assert_eq!(fleet[0].verify_ledger(None).await.unwrap(), []);
    }
    let rotations = "SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'rotate'";
    assert_eq!(db.number(rotations).await, 40);
    // Of all the secrets two count, or one.
    let known = secrets.known.lock().unwrap().clone();
    let counting = if grace { 2 } else { 1 };
    for ak in &fleet {
        for (place, key) in known.iter().enumerate() {
            assert_eq!(is_valid(ak, key).await, place + counting >= known.len(), "{place}");
        }
    }
    println!("{} operations, {total} cents, grace {grace}, child {is_child}", done.load(Ordering::Relaxed));
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cent_once_while_a_key_is_rotated_with_a_grace() {
    storm(true, false, false).await;
    storm(true, true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cent_once_while_a_key_is_rotated_without_a_grace() {
    storm(false, false, true).await;
    storm(false, true, false).await;
}

#[tokio::test]
async fn under_the_other_secret_an_idempotency_key_is_the_same() {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(2, || AgentKey::builder().ledger(true)).await;
    fleet[0].migrate().await.unwrap();
    let created = fleet[0].create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let charge = || Charge::new(7).idempotency_key("one");
    let first = fleet[0].track_usage(created.key.expose(), charge()).await.unwrap().unwrap();
    let held = fleet[0]
        .reserve(created.key.expose(), Reserve::new(5).idempotency_key("held"))
        .await
        .unwrap()
        .unwrap();
    let rotated = fleet[1].rotate(created.id, Rotate::new()).await.unwrap().unwrap();
    for ak in &fleet {
        for key in [created.key.expose(), rotated.key.expose()] {
            let again = ak.track_usage(key, charge()).await.unwrap().unwrap();
            assert!(again.replayed && !first.replayed);
            let again = ak.reserve(key, Reserve::new(5).idempotency_key("held")).await.unwrap().unwrap();
            assert!(again.replayed && again.id == held.id);
        }
    }
    assert!(fleet[1].settle(&held.id, 3).await.unwrap().is_ok());
    assert_eq!(db.number("SELECT budget_used_cents FROM sdk_api_keys").await, 10);
    assert_eq!(fleet[0].verify_ledger(None).await.unwrap(), []);
    db.drop().await;
}

#[tokio::test]
async fn a_secret_that_a_row_has_now_is_that_rows_whoever_had_it_before() {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(2, AgentKey::builder).await;
    fleet[0].migrate().await.unwrap();
    let first = fleet[0].create(CreateKey::new("first").budget_cents(100)).await.unwrap();
    let _ = fleet[0].rotate(first.id.clone(), Rotate::new()).await.unwrap().unwrap();
    let key = first.key.expose();
    let account = async |ak: &AgentKey| {
        let _ = ak.track_usage(key, 1).await.unwrap().unwrap();
        let _ =
            ak.track_usage(key, Charge::new(1).idempotency_key(random().to_string())).await.unwrap().unwrap();
        let held = ak.reserve(key, 1).await.unwrap().unwrap();
        assert!(ak.settle(&held.id, 1).await.unwrap().is_ok());
        ak.validate(key).await.unwrap().unwrap().account_id.unwrap().to_string()
    };
    // One client knows it as a former secret, the other one has never seen it.
    assert_eq!(account(&fleet[0]).await, "first");
    let second = format!(
        "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix) VALUES ('second', '{}', 'ak_')",
        first.key.hash().as_str()
    );
    db.run(&second).await;
    for ak in &fleet {
        assert_eq!(account(ak).await, "second");
    }
    let used =
        "SELECT string_agg(account_id || ' ' || budget_used_cents, ', ' ORDER BY id) FROM sdk_api_keys";
    assert_eq!(db.text(used).await, "first 3, second 6");
    for ak in &fleet {
        let child = ak.create(CreateKey::child_of(Parent::from(&first.key))).await.unwrap();
        let child = ak.get(child.id).await.unwrap().unwrap();
        assert_eq!(child.grant.account_id.unwrap().to_string(), "second");
    }
    // A rotation by it is the second one's, too: it cannot be the former secret of both.
    let before = db.snapshot().await;
    let error = fleet[0].rotate(&first.key, Rotate::new()).await.unwrap_err();
    assert!(error.message().contains("key 2 ") && error.message().contains("key 1:"), "{error}");
    assert!(!error.may_have_been_recorded() && error.sqlstate().is_none(), "{error}");
    assert_eq!(db.snapshot().await, before);
    let _ = fleet[0].rotate(first.id, Rotate::new()).await.unwrap().unwrap();
    let rotated = fleet[0].rotate(&first.key, Rotate::new()).await.unwrap().unwrap();
    for ak in &fleet {
        for key in [key, rotated.key.expose()] {
            assert_eq!(ak.validate(key).await.unwrap().unwrap().id, rotated.id);
        }
    }
    db.drop().await;
}

#[tokio::test]
async fn a_key_that_stopped_has_stopped_under_both_secrets_by_its_id_and_as_a_parent() {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(2, AgentKey::builder).await;
    fleet[0].migrate().await.unwrap();
    for (case, reason) in [
        ("revoked", DenialReason::Revoked),
        ("disabled", DenialReason::Disabled),
        ("expired", DenialReason::Expired),
    ] {
        let parent = fleet[0].create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
        let child = fleet[0].create(CreateKey::child_of(parent.id.clone()).budget_cents(50)).await.unwrap();
        let rotated = fleet[0].rotate(parent.id.clone(), Rotate::new()).await.unwrap().unwrap();
        let new_child = fleet[1].rotate(&child.key, Rotate::new()).await.unwrap().unwrap();
        for ak in &fleet {
            assert!(is_valid(ak, parent.key.expose()).await && is_valid(ak, child.key.expose()).await);
        }
        match case {
            "revoked" => assert!(fleet[1].revoke(parent.id.clone()).await.unwrap()),
            "disabled" => {
                let _ = fleet[1]
                    .update(parent.id.clone(), KeyUpdate::new().disabled(true))
                    .await
                    .unwrap()
                    .unwrap();
            }
            _ => {
                db.run(&format!("UPDATE sdk_api_keys SET expires_at = now() WHERE id = {}", parent.id)).await
            }
        }
        for ak in &fleet {
            for key in [&parent.key, &rotated.key, &child.key, &new_child.key] {
                let raw = key.expose();
                assert_eq!(ak.validate(raw).await.unwrap().unwrap_err().reason, reason, "{case}");
                assert!(ak.reserve(raw, 1).await.unwrap().is_err(), "{case}");
                let error = ak.create(CreateKey::child_of(Parent::from(key))).await.unwrap_err();
                assert_eq!(error.code().as_str(), "invalid_parent", "{case}: {error}");
            }
            for id in [&parent.id, &child.id] {
                assert_eq!(
                    ak.validate_by_id(id.clone()).await.unwrap().unwrap_err().reason,
                    reason,
                    "{case}"
                );
                assert!(ak.reserve_by_id(id.clone(), 1).await.unwrap().is_err(), "{case}");
            }
            if case == "revoked" {
                for key in [&parent.key, &rotated.key] {
                    assert_eq!(
                        ak.track_usage(key.expose(), 1).await.unwrap(),
                        Err(ChargeRefusal::InvalidKey)
                    );
                    assert_eq!(ak.rotate(key, Rotate::new()).await.unwrap(), Err(RotateRefusal::Revoked));
                }
            }
        }
    }
    db.drop().await;
}

/// The exchange of a request that was admitted, up to its end.
async fn admitted(ak: &AgentKey, key: &str) -> Exchange {
    let head = format!("Bearer {key}");
    let (mut exchange, first) = Exchange::with_guard(&Guard::new().prices(true), Some(head.as_str()));
    let Next::Call(call) = first else { panic!("{first:?}") };
    let answer = ak.call(call.request().unwrap()).await.unwrap();
    let _ = exchange.answered(Ok(answer), std::time::SystemTime::now().into());
    let _ = exchange.ended(Ending::sent(200));
    exchange
}

#[tokio::test]
async fn what_was_admitted_with_a_former_secret_is_recorded_after_its_grace() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let _ = ak.rotate(created.id.clone(), Rotate::new()).await.unwrap().unwrap();
    // The client knows it as a former secret.
    assert!(is_valid(&ak, created.key.expose()).await);
    let mut exchange = admitted(&ak, created.key.expose()).await;
    let _ = ak.rotate(created.id.clone(), Rotate::new().grace(Duration::ZERO)).await.unwrap().unwrap();
    let Next::Call(call) = exchange.priced(Price::Amount(agentkey::Cost::cents(7))) else {
        panic!("no call")
    };
    let answer = ak.call(call.request().unwrap()).await.unwrap();
    assert!(matches!(answer, Answer::Charged(Ok(_))), "{answer:?}");
    assert_eq!(db.number("SELECT budget_used_cents FROM sdk_api_keys").await, 7);
    db.drop().await;
}

async fn run(connection: &mut PgConnection, statement: &Statement) -> Vec<String> {
    let query = sqlx::query_scalar(AssertSqlSafe(statement.sql.to_string()));
    let query = statement.params.iter().fold(query, |query, param| query.bind(param.as_deref()));
    query.fetch_all(connection).await.unwrap()
}

/// The answer to a request. The first answer of a statement that `is_lost` names is lost after it was done.
async fn answer_after_loss(
    connection: &mut PgConnection,
    request: Request,
    is_lost: impl Fn(&str) -> bool,
) -> Answer {
    let mut engine = Engine::new(Options::default());
    let mut now = Duration::ZERO;
    let mut has_lost = false;
    engine.submit(now, request).unwrap();
    loop {
        while let Some(statement) = engine.poll(now) {
            let rows = run(connection, &statement).await;
            let result = match is_lost(&statement.sql) && !std::mem::replace(&mut has_lost, true) {
                true => Err(Fault::lost("the connection is gone")),
                false => Ok(rows),
            };
            match result {
                Ok(rows) => engine.receive(now, statement.id, Ok(&rows)),
                Err(fault) => engine.receive(now, statement.id, Err(fault)),
            }
        }
        if let Some((_, answer)) = engine.answers().pop() {
            assert!(has_lost);
            return answer.unwrap();
        }
        now = engine.next_retry().unwrap();
    }
}

#[tokio::test]
async fn a_rotation_by_the_secret_without_a_grace_answers_though_its_first_answer_was_lost() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let rotate = Rotate::new().grace(Duration::ZERO).idempotency_key("leaked");
    let request = Request::Rotate(Credential::from(&created.key), rotate);
    let answer =
        answer_after_loss(&mut db.session().await, request, |sql| sql.contains("prev_key_hash = CASE")).await;
    let Answer::Rotated(Ok(rotated)) = answer else { panic!("{answer:?}") };
    assert_eq!(rotated.id, created.id);
    assert!(is_valid(&ak, rotated.key.expose()).await && !is_valid(&ak, created.key.expose()).await);
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'rotate'").await, 1);
    db.drop().await;
}

#[tokio::test]
async fn a_grace_that_cannot_be_is_refused() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct")).await.unwrap();
    let before = db.snapshot().await;
    for grace in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(32_000_000_000)] {
        let error = ak.rotate(created.id.clone(), Rotate::new().grace(grace)).await.unwrap_err();
        assert_eq!(error.code().as_str(), "invalid_duration", "{error}");
    }
    // No secret is an id, and no id a secret.
    for nobody in ["52", "", created.key.expose(), "a\0b", "ak_", created.key.hash().as_str()] {
        let by_id = ak.rotate(agentkey::KeyId::from(nobody), Rotate::new()).await.unwrap();
        assert_eq!(by_id, Err(RotateRefusal::InvalidKey), "{nobody:?}");
    }
    let id = created.id.to_string();
    let by_secret = ak.rotate(Credential::of_key(&id), Rotate::new()).await.unwrap();
    assert_eq!(by_secret, Err(RotateRefusal::InvalidKey));
    assert_eq!(db.snapshot().await, before);
    db.drop().await;
}
