//! Calls share statements. What is locked, odd or refused for one key is that key's own affair.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use agentkey::{AgentKey, Charge, CreateKey, ErrorCode, KeyUpdate, RevokeFilter};
use sqlx::Executor;
use support::{TestDatabase, eventually};
use tokio::task::JoinSet;

const KEYS: usize = 40;
/// Of each key, in a load.
const CALLS: usize = 25;
const LIMIT: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Idempotent,
    Child,
    Hold,
    Validate,
}

const KINDS: [Kind; 5] = [Kind::Plain, Kind::Idempotent, Kind::Child, Kind::Hold, Kind::Validate];

/// Charges of one cent, as this kind makes them. Whether it is recorded.
async fn call(ak: &AgentKey, kind: Kind, key: &str, number: usize) -> Result<(), agentkey::Error> {
    match kind {
        Kind::Plain | Kind::Child => assert!(ak.track_usage(key, 1).await?.is_ok()),
        Kind::Idempotent => {
            let charge = Charge::new(1).idempotency_key(format!("call {number}"));
            assert!(ak.track_usage(key, charge).await?.is_ok());
        }
        Kind::Hold => {
            let held = ak.reserve(key, 2).await?.expect("no budget is near");
            assert!(ak.settle(&held.id, 1).await?.is_ok());
        }
        Kind::Validate => assert!(ak.validate(key).await?.is_ok()),
    }
    Ok(())
}

/// Every key makes its calls, one after the other, through each client. The longest call, and how long it all took.
async fn load(clients: &[AgentKey], kind: Kind, keys: &[String]) -> (Duration, Duration) {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for (ak, key) in clients.iter().flat_map(|ak| keys.iter().map(move |key| (ak.clone(), key.clone()))) {
        callers.spawn(async move {
            let mut longest = Duration::ZERO;
            for number in 0..CALLS {
                let began = Instant::now();
                call(&ak, kind, &key, number).await.unwrap_or_else(|e| panic!("{kind:?}: {e}"));
                longest = longest.max(began.elapsed());
            }
            longest
        });
    }
    let longest = callers.join_all().await.into_iter().max().unwrap();
    (longest, began.elapsed())
}

/// A locked key, and the others.
async fn keys(ak: &AgentKey, kind: Kind) -> (String, String, Vec<String>) {
    let parent = ak.create(CreateKey::new("parent")).await.unwrap();
    let mut keys = Vec::new();
    let mut id = String::new();
    for _ in 0..=KEYS {
        let spec = CreateKey::new("acct").budget_cents(1_000_000);
        let spec = if kind == Kind::Child { spec.parent(parent.id.clone()) } else { spec };
        let created = ak.create(spec).await.unwrap();
        id = created.id.to_string();
        keys.push(created.key.expose().to_owned());
    }
    (keys.pop().unwrap(), id, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_keeps_no_other_key_waiting() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, || AgentKey::builder().timeout(LIMIT)).await;
    clients[0].migrate().await.unwrap();
    for kind in KINDS {
        let (locked, id, others) = keys(&clients[0], kind).await;
        let free = load(&clients, kind, &others).await;
        let mut session = db.session().await;
        session.execute("BEGIN").await.unwrap();
        let lock = format!("SELECT 1 FROM sdk_api_keys WHERE id = {id} FOR UPDATE");
        session.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
        // Callers of the locked key are always there.
        let stop = Arc::new(AtomicBool::new(false));
        let mut stuck = JoinSet::new();
        for number in 0..8 {
            let (ak, key, stop) = (clients[0].clone(), locked.clone(), Arc::clone(&stop));
            stuck.spawn(async move {
                let mut timeouts = 0;
                while !stop.load(Relaxed) {
                    match call(&ak, kind, &key, number).await {
                        Err(error) => {
                            assert_eq!(error.code(), ErrorCode::Timeout);
                            timeouts += 1;
                        }
                        Ok(()) => assert_eq!(kind, Kind::Validate),
                    }
                }
                timeouts
            });
        }
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        if kind != Kind::Validate {
            eventually("somebody waits for the row", async || db.number(waiting).await > 0).await;
        }
        let began = Instant::now();
        let mut rounds = Vec::new();
        while began.elapsed() < LIMIT + Duration::from_secs(1) {
            rounds.push(load(&clients, kind, &others).await);
        }
        stop.store(true, Relaxed);
        let timeouts: u32 = stuck.join_all().await.into_iter().sum();
        let longest = rounds.iter().map(|(longest, _)| *longest).max().unwrap();
        let mean = rounds.iter().map(|(_, took)| *took).sum::<Duration>() / rounds.len() as u32;
        println!(
            "{kind:?}: {} calls of others took {:?} without the lock and {mean:?} with it, the longest {longest:?}; {timeouts} timeouts of the locked key",
            others.len() * CALLS * clients.len(),
            free.1,
        );
        assert!(kind == Kind::Validate || timeouts > 0, "nobody met the lock");
        session.execute("COMMIT").await.unwrap();
        eventually("the locked key works again", async || call(&clients[1], kind, &locked, 99).await.is_ok())
            .await;
    }
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_answered_while_locked_keys_wait() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, || AgentKey::builder().timeout(10 * LIMIT)).await;
    clients[0].migrate().await.unwrap();
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Validate) {
        let (first, first_id, mut others) = keys(&clients[0], kind).await;
        let (second, second_id, more) = keys(&clients[0], kind).await;
        others.extend(more);
        let mut session = db.session().await;
        let lock =
            format!("BEGIN; SELECT FROM sdk_api_keys WHERE id IN ({first_id}, {second_id}) FOR UPDATE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut session).await.unwrap();
        let mut stuck = Vec::new();
        // The second when the client has waited for the first one already.
        for key in [first, second] {
            let ak = clients[0].clone();
            stuck.push(tokio::spawn(async move { call(&ak, kind, &key, 0).await }));
            load(&clients, kind, &others).await;
            assert!(stuck.iter().all(|stuck| !stuck.is_finished()), "{kind:?}: others waited as long");
        }
        session.execute("COMMIT").await.unwrap();
        for stuck in stuck {
            stuck.await.unwrap().unwrap();
        }
    }
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_for_one_key_fails_that_key_alone() {
    let db = TestDatabase::create().await;
    let clients = db.fleet(2, || AgentKey::builder().timeout(LIMIT)).await;
    clients[0].migrate().await.unwrap();
    db.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF NEW.account_id = 'odd' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON sdk_api_keys FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    for kind in [Kind::Plain, Kind::Idempotent, Kind::Hold] {
        let (_, _, good) = keys(&clients[0], kind).await;
        let odd = clients[0].create(CreateKey::new("odd")).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut refused = JoinSet::new();
        for number in 0..4 {
            let (ak, key, stop) = (clients[0].clone(), odd.key.expose().to_owned(), Arc::clone(&stop));
            refused.spawn(async move {
                let mut errors = 0;
                while !stop.load(Relaxed) {
                    let error = call(&ak, kind, &key, number).await.unwrap_err();
                    assert_eq!((error.code(), error.sqlstate()), (ErrorCode::Database, Some("P0001")));
                    assert!(!error.may_have_been_recorded());
                    errors += 1;
                }
                errors
            });
        }
        load(&clients, kind, &good).await;
        stop.store(true, Relaxed);
        assert!(refused.join_all().await.into_iter().sum::<u32>() > 0);
    }
    db.drop().await;
}

/// Whatever the columns can hold: no arithmetic fails, and no budget is passed.
#[tokio::test(flavor = "multi_thread")]
async fn extreme_values_are_no_error() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(AgentKey::builder().ledger(true)).await;
    let plain = AgentKey::builder().pool(db.pool.clone()).unwrap();
    let (least, most) = (i64::MIN, i64::MAX);
    let rows = [
        "budget_cents = 9007199254740991".to_owned(),
        format!("budget_cents = {most}, budget_used_cents = 5"),
        format!("budget_cents = {least}"),
        format!("budget_cents = {most}, budget_used_cents = {most}"),
        format!("budget_used_cents = {least}"),
        format!("budget_cents = 100, budget_reserved_cents = {most}"),
        format!("budget_cents = 100, budget_reserved_cents = {least}"),
        format!("budget_cents = {least}, budget_used_cents = {least}, budget_reserved_cents = {most}"),
        "expires_at = 'infinity', budget_period = 'day', budget_reset_at = 'infinity'".to_owned(),
    ];
    for row in rows {
        for client in [&ak, &plain] {
            for is_child in [false, true] {
                let parent = ak.create(CreateKey::new("acct")).await.unwrap();
                let spec = CreateKey::new("acct");
                let spec = if is_child { spec.parent(parent.id) } else { spec };
                let created = ak.create(spec).await.unwrap();
                let id = created.id.to_string();
                db.run(&format!("UPDATE sdk_api_keys SET {row} WHERE id = {id}")).await;
                let key = created.key.expose();
                let _ = client.validate(key).await.unwrap();
                let _ = client.track_usage(key, 1).await.unwrap_or_else(|e| panic!("{row}: {e}"));
                let charge = Charge::new(1).idempotency_key("a");
                let _ = client.track_usage(key, charge).await.unwrap_or_else(|e| panic!("{row}: {e}"));
                let many = tokio::join!(client.track_usage(key, 1), client.track_usage(key, 2));
                let _ = (many.0.unwrap(), many.1.unwrap());
                match client.reserve(key, 1).await {
                    Ok(Ok(held)) => {
                        let _ = client.settle(&held.id, 1).await.unwrap_or_else(|e| panic!("{row}: {e}"));
                    }
                    Ok(Err(refusal)) => println!("{row}: {refusal}"),
                    Err(e) => panic!("{row}: {e}"),
                }
                let _ = client.refund(created.id, 1).await.unwrap_or_else(|e| panic!("{row}: {e}"));
            }
        }
    }
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_rows_keep_no_key_from_being_created_changed_or_revoked() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(AgentKey::builder().timeout(10 * LIMIT)).await;
    let mut stuck = JoinSet::new();
    let mut session = db.session().await;
    let (mut locked, mut free) = (Vec::new(), Vec::new());
    for n in 0..20 {
        let created = ak.create(CreateKey::new("acct")).await.unwrap();
        if n < 16 { locked.push(created.id) } else { free.push(created.id) }
    }
    let ids = locked.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let lock = format!("BEGIN; SELECT FROM sdk_api_keys WHERE id IN ({ids}) FOR UPDATE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut session).await.unwrap();
    for (n, id) in locked.into_iter().enumerate() {
        let ak = ak.clone();
        stuck.spawn(async move {
            match n % 4 {
                0 | 2 => ak.revoke(id).await.unwrap(),
                1 => ak.update(id, KeyUpdate::new().name("another")).await.unwrap().is_some(),
                _ => ak.refund(id, Charge::new(1)).await.unwrap().is_ok(),
            }
        });
    }
    // Some of them wait in the database by now, which is when they would keep others from their place.
    eventually("three wait for their rows", async || db.waiting_sessions().await == 3).await;
    let _ = ak.create(CreateKey::new("acct")).await.unwrap();
    for (n, id) in free.into_iter().enumerate() {
        match n % 2 {
            0 => assert!(ak.revoke(id).await.unwrap()),
            _ => assert!(ak.disable(id).await.unwrap().is_some()),
        }
    }
    assert!(stuck.try_join_next().is_none(), "others waited as long");
    session.execute("COMMIT").await.unwrap();
    assert!(stuck.join_all().await.into_iter().all(|done| done));
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys WHERE revoked_at IS NOT NULL").await, 10);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_keeps_no_other_key_from_being_revoked() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let root = ak.create(CreateKey::new("other")).await.unwrap();
    for filter in 0..3 {
        for _ in 0..20 {
            let spec = CreateKey::new(format!("acct {filter}"));
            let spec = if filter == 1 { spec.parent(root.id.clone()) } else { spec };
            let _ = ak.create(spec.delegated_by(format!("alice {filter}"))).await.unwrap();
        }
    }
    let of_one =
        |filter: &str| format!("SELECT min(id) FROM sdk_api_keys WHERE account_id = 'acct {filter}'");
    let mut session = db.session().await;
    for (number, filter) in [
        RevokeFilter::Account("acct 0".into()),
        RevokeFilter::Parent(root.id.clone()),
        RevokeFilter::DelegatedBy("alice 2".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let locked = db.number(&of_one(&number.to_string())).await;
        let lock = format!("BEGIN; SELECT FROM sdk_api_keys WHERE id = {locked} FOR UPDATE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut session).await.unwrap();
        let revoking = {
            let ak = ak.clone();
            tokio::spawn(async move { ak.revoke_all(filter).await })
        };
        let live = format!(
            "SELECT count(*) FROM sdk_api_keys WHERE account_id = 'acct {number}' AND revoked_at IS NULL"
        );
        eventually("all others are revoked", async || db.number(&live).await == 1).await;
        assert!(!revoking.is_finished(), "one is left");
        session.execute("COMMIT").await.unwrap();
        assert_eq!(revoking.await.unwrap().unwrap(), 20);
        assert_eq!(db.number(&live).await, 0);
    }
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'revoke'").await, 60);
    db.drop().await;
}

#[tokio::test]
async fn a_refund_waits_for_an_ancestor_and_holds_nothing_meanwhile() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let parent = ak.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let child = ak.create(CreateKey::child_of(parent.id.clone()).budget_cents(50)).await.unwrap();
    let _ = ak.track_usage(child.key.expose(), 30).await.unwrap().unwrap();
    let mut session = db.session().await;
    let lock = format!("BEGIN; SELECT FROM sdk_api_keys WHERE id = {} FOR UPDATE", parent.id);
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut session).await.unwrap();
    let refund = {
        let (ak, id) = (ak.clone(), child.id.clone());
        tokio::spawn(async move { ak.refund(id, Charge::new(10).idempotency_key("once")).await })
    };
    eventually("it waits for the parent", async || db.waiting_sessions().await == 1).await;
    let free = format!(
        "SELECT count(*) FROM (SELECT FROM sdk_api_keys WHERE id = {} FOR UPDATE NOWAIT) k",
        child.id
    );
    assert_eq!(db.number(&free).await, 1, "the child's row is free");
    session.execute("COMMIT").await.unwrap();
    let refunded = refund.await.unwrap().unwrap().unwrap();
    assert_eq!(refunded.budget_remaining_cents(), Some(30));
    let used = "SELECT sum(budget_used_cents)::bigint FROM sdk_api_keys";
    assert_eq!(db.number(used).await, 40);
    // A refund that was recorded is told, even if its rows are locked.
    sqlx::raw_sql("BEGIN; SELECT FROM sdk_api_keys FOR UPDATE").execute(&mut session).await.unwrap();
    let again = ak.refund(child.id, Charge::new(10).idempotency_key("once")).await.unwrap().unwrap();
    assert!(again.replayed);
    session.execute("COMMIT").await.unwrap();
    assert_eq!(db.number(used).await, 40);
    db.drop().await;
}
