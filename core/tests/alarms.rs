//! The ledger as a cursor, and alarms, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::engine::{DeliveryFilter, Webhook};
use agentkey::{AgentKey, Charge, CreateKey, Created as CreatedKey, EventFilter};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use support::TestDatabase;
use tokio::task::JoinSet;

async fn ids(ak: &AgentKey, after: i64) -> Vec<i64> {
    let events = ak.events(EventFilter::new().after(after).limit(1_000)).await.unwrap();
    events.into_iter().map(|event| event.id).collect()
}

async fn write_entry(connection: &mut PgConnection, locks_first: bool) -> i64 {
    if locks_first {
        connection.execute("SELECT id FROM sdk_api_keys FOR KEY SHARE").await.unwrap();
    }
    let sql = "INSERT INTO sdk_api_keys_events (key_id, kind) SELECT id, 'test' FROM sdk_api_keys LIMIT 1 RETURNING id";
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn an_entry_that_is_committed_late_is_not_skipped() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let _ = ak.create(CreateKey::new("acct")).await.unwrap();
    let first = ids(&ak, 0).await;
    assert_eq!(first.len(), 1);
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(PgConnection::connect(&db.url).await.unwrap());
    }
    let [early, late, middle] = &mut connections[..] else { panic!() };
    // It has the lower transaction number, and the higher id.
    for connection in [&mut *early, &mut *late] {
        connection.execute("BEGIN").await.unwrap();
        connection.execute("SELECT id FROM sdk_api_keys FOR KEY SHARE").await.unwrap();
    }
    let low = write_entry(late, true).await;
    let high = write_entry(early, true).await;
    assert!(low < high);
    early.execute("COMMIT").await.unwrap();
    assert!(ids(&ak, first[0]).await.is_empty(), "an earlier one may still come");
    let higher = write_entry(middle, true).await;
    assert!(ids(&ak, first[0]).await.is_empty());
    late.execute("COMMIT").await.unwrap();
    assert_eq!(ids(&ak, first[0]).await, [low, high, higher]);
    // One that is rolled back leaves a gap, and nobody waits for it.
    late.execute("BEGIN").await.unwrap();
    write_entry(late, true).await;
    late.execute("ROLLBACK").await.unwrap();
    let last = write_entry(middle, false).await;
    assert_eq!(ids(&ak, higher).await, [last]);
    assert!(ids(&ak, last).await.is_empty());
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_misses_no_entry_of_many_writers() {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(2, || AgentKey::builder().ledger(true)).await;
    fleet[0].migrate().await.unwrap();
    let mut writers = JoinSet::new();
    for n in 0..16 {
        let ak = fleet[n % 2].clone();
        writers.spawn(async move {
            let key = ak.create(CreateKey::new("acct").budget_cents(1_000)).await.unwrap().key;
            for _ in 0..60 {
                let _ = ak.track_usage(key.expose(), 1).await.unwrap().unwrap();
            }
        });
    }
    let mut told = Vec::new();
    loop {
        let is_over = writers.try_join_next().is_none() && writers.is_empty();
        let page = ids(&fleet[0], told.last().copied().unwrap_or_default()).await;
        let is_empty = page.is_empty();
        told.extend(page);
        if is_over && is_empty {
            break;
        }
    }
    let all: Vec<i64> = sqlx::query_scalar("SELECT id FROM sdk_api_keys_events ORDER BY id")
        .fetch_all(&db.pool)
        .await
        .unwrap();
    assert_eq!(all.len(), 16 * 61);
    assert_eq!(told, all);
    db.drop().await;
}

async fn alarms(db: &TestDatabase) -> Vec<(String, String)> {
    let sql = "SELECT e.key_id::text, metadata->>'threshold' FROM sdk_api_keys_events e WHERE kind = 'threshold' ORDER BY e.key_id, 2";
    sqlx::query_as(sql).fetch_all(&db.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_cross_at_once_raise_one_alarm() {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(2, || AgentKey::builder().thresholds([0.25, 0.5, 1.0])).await;
    fleet[0].migrate().await.unwrap();
    let parent = fleet[0].create(CreateKey::new("acct").budget_cents(4_000)).await.unwrap();
    let mut keys = Vec::new();
    for n in 0..20 {
        let spec = if n % 2 == 0 { CreateKey::new("acct") } else { CreateKey::child_of(parent.id.clone()) };
        keys.push(fleet[0].create(spec.budget_cents(100)).await.unwrap());
    }
    let mut calls = JoinSet::new();
    for n in 0..keys.len() * 120 {
        let ak = fleet[n / keys.len() % 2].clone();
        let key = keys[n % keys.len()].key.expose().to_owned();
        calls.spawn(async move {
            let charge = match n % 3 {
                0 => Charge::new(1).idempotency_key(format!("{n}")),
                _ => Charge::new(1),
            };
            ak.track_usage(&key, charge).await.unwrap().is_ok()
        });
    }
    let accepted = calls.join_all().await.into_iter().filter(|is_ok| *is_ok).count();
    assert_eq!(accepted, 20 * 100, "each key is charged up to its cap");
    let mut expected = Vec::new();
    for created in &keys {
        for threshold in ["0.25", "0.5", "1"] {
            expected.push((created.id.to_string(), threshold.to_owned()));
        }
    }
    expected.push((parent.id.to_string(), "0.25".to_owned()));
    let order = |(id, threshold): &(String, String)| (id.parse::<i64>().unwrap(), threshold.clone());
    expected.sort_by_key(order);
    assert_eq!(alarms(&db).await, expected);
    db.drop().await;
}

#[tokio::test]
async fn a_charge_that_is_not_committed_raises_no_alarm() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(AgentKey::builder().thresholds([1.0])).await;
    let created = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    // The alarm cannot be written: nor is the charge.
    db.pool
        .execute("ALTER TABLE sdk_api_keys_events ADD CONSTRAINT no_alarm CHECK (kind <> 'threshold')")
        .await
        .unwrap();
    let error = ak.track_usage(created.key.expose(), 10).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("23514"));
    db.pool.execute("ALTER TABLE sdk_api_keys_events DROP CONSTRAINT no_alarm").await.unwrap();
    assert!(alarms(&db).await.is_empty());
    let charged = ak.track_usage(created.key.expose(), 10).await.unwrap().unwrap();
    assert_eq!(charged.budget_remaining_cents(), Some(0));
    assert_eq!(alarms(&db).await, [(created.id.to_string(), "1".to_owned())]);
    db.drop().await;
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A webhook that knows of nothing yet, and a key whose next charge of 1 raises an alarm.
async fn webhook_and_key(db: &TestDatabase) -> (AgentKey, Webhook, CreatedKey) {
    let ak = db.client_with(AgentKey::builder().thresholds([0.5, 1.0])).await;
    let webhook = Webhook::new("pager", [SECRET]).unwrap();
    assert_eq!(ak.deliver(&webhook, |_| async { panic!("there is nothing") }).await.unwrap(), 0);
    let created = ak.create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let _ = ak.track_usage(created.key.expose(), 49).await.unwrap().unwrap();
    (ak, webhook, created)
}

/// All deliveries that are due, each answered so.
async fn deliver(ak: &AgentKey, webhook: &Webhook, status: Result<u16, &str>) -> Vec<(i64, u32)> {
    let sent = std::sync::Mutex::new(Vec::new());
    ak.deliver(webhook, |delivery| {
        sent.lock().unwrap().push((delivery.event_id, delivery.attempt));
        let status = status.map_err(str::to_owned);
        async { status }
    })
    .await
    .unwrap();
    sent.into_inner().unwrap()
}

async fn make_due(db: &TestDatabase) {
    db.pool
        .execute("UPDATE sdk_api_keys_deliveries SET next_at = now() WHERE dead_at IS NULL")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_alarm_is_delivered_once_it_is_accepted_and_shown_when_it_is_dead() {
    let db = TestDatabase::create().await;
    let (ak, webhook, created) = webhook_and_key(&db).await;
    let _ = ak.track_usage(created.key.expose(), 1).await.unwrap().unwrap();
    let [(event, 1)] = deliver(&ak, &webhook, Ok(500)).await[..] else { panic!() };
    assert!(deliver(&ak, &webhook, Ok(200)).await.is_empty(), "it waits");
    let open = ak.deliveries(DeliveryFilter::new()).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].attempts, open[0].error.as_deref()), (1, Some("answered 500")));
    assert!(open[0].next_at.is_some() && open[0].dead_at.is_none());
    make_due(&db).await;
    assert_eq!(deliver(&ak, &webhook, Ok(302)).await, [(event, 2)]);
    make_due(&db).await;
    assert_eq!(deliver(&ak, &webhook, Ok(204)).await, [(event, 3)]);
    make_due(&db).await;
    assert!(deliver(&ak, &webhook, Ok(200)).await.is_empty(), "it was accepted");
    assert!(ak.deliveries(DeliveryFilter::new()).await.unwrap().is_empty());

    let _ = ak.track_usage(created.key.expose(), 50).await.unwrap().unwrap();
    for attempt in 1..=10 {
        let sent = deliver(&ak, &webhook, Err("no connection")).await;
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].1, attempt);
        make_due(&db).await;
    }
    assert!(deliver(&ak, &webhook, Ok(200)).await.is_empty(), "it is dead");
    let dead = ak.deliveries(DeliveryFilter::new().dead()).await.unwrap();
    assert_eq!((dead.len(), dead[0].kind.as_str()), (1, "threshold"));
    assert!(dead[0].dead_at.is_some() && dead[0].next_at.is_none());
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_one_processs_at_a_time_and_survives_its_death() {
    let db = TestDatabase::create().await;
    let (ak, webhook, created) = webhook_and_key(&db).await;
    let _ = ak.track_usage(created.key.expose(), 1).await.unwrap().unwrap();
    // This one is killed while it sends: nobody says what became of it.
    let killed = {
        let (ak, webhook) = (ak.clone(), webhook.clone());
        let (sending, sent) = tokio::sync::oneshot::channel();
        let sending = std::sync::Mutex::new(Some(sending));
        let task = tokio::spawn(async move {
            let hang = |_| {
                let sending = sending.lock().unwrap().take();
                async move {
                    sending.unwrap().send(()).unwrap();
                    std::future::pending().await
                }
            };
            ak.deliver(&webhook, hang).await
        });
        sent.await.unwrap();
        task
    };
    let other = db.fleet(1, || AgentKey::builder().thresholds([0.5, 1.0])).await.remove(0);
    assert!(deliver(&other, &webhook, Ok(200)).await.is_empty(), "it is somebody's");
    // Another webhook, and other calls, are not kept waiting.
    let second = Webhook::new("audit", [SECRET]).unwrap();
    assert!(deliver(&other, &second, Ok(200)).await.is_empty(), "it begins with what comes");
    let _ = other.track_usage(created.key.expose(), 50).await.unwrap().unwrap();
    assert_eq!(deliver(&other, &second, Ok(200)).await.len(), 1);
    assert_eq!(deliver(&other, &webhook, Ok(200)).await.len(), 1);
    killed.abort();
    make_due(&db).await;
    let again = deliver(&other, &webhook, Ok(200)).await;
    assert_eq!(again.iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>(), [2]);

    // Many at once, of two processes: each alarm is sent once.
    let mut calls = JoinSet::new();
    for _ in 0..30 {
        let created = ak.create(CreateKey::new("acct").budget_cents(2)).await.unwrap();
        let ak = ak.clone();
        calls.spawn(async move { ak.track_usage(created.key.expose(), 2).await.unwrap().is_ok() });
    }
    calls.join_all().await;
    let mut senders = JoinSet::new();
    for n in 0..4 {
        let (ak, webhook) = (if n % 2 == 0 { ak.clone() } else { other.clone() }, webhook.clone());
        senders.spawn(async move {
            let mut sent = Vec::new();
            for _ in 0..12 {
                sent.extend(deliver(&ak, &webhook, Ok(200)).await);
            }
            sent
        });
    }
    let mut sent: Vec<_> = senders.join_all().await.into_iter().flatten().collect();
    sent.sort_unstable();
    assert_eq!(sent.len(), 60);
    sent.dedup();
    assert_eq!(sent.len(), 60);
    db.drop().await;
}

#[tokio::test]
async fn an_alarm_that_is_committed_late_is_delivered() {
    let db = TestDatabase::create().await;
    let (ak, webhook, created) = webhook_and_key(&db).await;
    let mut late = PgConnection::connect(&db.url).await.unwrap();
    late.execute("BEGIN").await.unwrap();
    let sql = "INSERT INTO sdk_api_keys_events (key_id, kind, alarm_key) SELECT id, 'test', 'late' FROM sdk_api_keys RETURNING id";
    let low: i64 = sqlx::query_scalar(sql).fetch_one(&mut late).await.unwrap();
    let _ = ak.track_usage(created.key.expose(), 1).await.unwrap().unwrap();
    assert!(deliver(&ak, &webhook, Ok(200)).await.is_empty());
    late.execute("COMMIT").await.unwrap();
    let sent = deliver(&ak, &webhook, Ok(200)).await;
    assert_eq!(sent.first(), Some(&(low, 1)));
    assert_eq!(sent.len(), 2);
    db.drop().await;
}

#[tokio::test]
async fn what_is_followed_begins_now_or_where_it_was() {
    let db = TestDatabase::create().await;
    let (ak, _, created) = webhook_and_key(&db).await;
    let mut all = ak.follow(EventFilter::new().after(0));
    assert_eq!(all.next().await.unwrap().unwrap().kind, "create");
    let mut alarms = ak.follow(EventFilter::new().alarms());
    let next = tokio::spawn(async move { (alarms.next().await.unwrap().unwrap(), alarms) });
    // The first call asks where the ledger ends.
    let asked = ak.stats().statements;
    support::eventually("it is followed", async || ak.stats().statements > asked + 1).await;
    let _ = ak.track_usage(created.key.expose(), 1).await.unwrap().unwrap();
    let (alarm, mut alarms) = next.await.unwrap();
    assert_eq!((alarm.kind.as_str(), alarm.key_id), ("threshold", created.id));
    ak.close().await;
    assert!(alarms.next().await.unwrap().is_none());
    db.drop().await;
}

/// `keys` keys that lived for a day and expire in ten minutes.
async fn expiring_keys(db: &TestDatabase, keys: u32) {
    let sql = format!(
        "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, created_at, expires_at)
         SELECT 'a', 'h' || n, 'ak_', now() - interval '1 day', now() + interval '10 minutes' FROM generate_series(1, {keys}) n"
    );
    db.pool.execute(AssertSqlSafe(sql)).await.unwrap();
}

const NOTICES: &str = "SELECT count(*) FROM sdk_api_keys_events WHERE kind IN ('expiring', 'stale_hold') AND alarm_key IS NOT NULL";

#[tokio::test(flavor = "multi_thread")]
async fn alarms_of_time_are_raised_once_by_many_and_wait_for_no_row() {
    let db = TestDatabase::create().await;
    let fleet = db.fleet(8, || AgentKey::builder().expiry_notice_seconds(3_600).stale_hold_seconds(60)).await;
    fleet[0].migrate().await.unwrap();
    let key = fleet[0].create(CreateKey::new("acct").budget_cents(100)).await.unwrap();
    let held = fleet[0].reserve(key.key.expose(), agentkey::Reserve::new(5)).await.unwrap().unwrap();
    expiring_keys(&db, 40).await;
    db.pool
        .execute("UPDATE sdk_api_keys_reservations SET created_at = now() - interval '1 hour'")
        .await
        .unwrap();
    // One key is locked, and somebody has raised the alarm of another, and may yet roll it back.
    let mut session = db.session().await;
    session.execute("BEGIN").await.unwrap();
    session
        .execute("SELECT FROM sdk_api_keys WHERE key_hash IN ('h1', 'h2') FOR NO KEY UPDATE")
        .await
        .unwrap();
    let raised = "INSERT INTO sdk_api_keys_events (key_id, kind, alarm_key)
        SELECT id, 'expiring', format('expiring %s', date_part('epoch', expires_at)) FROM sdk_api_keys WHERE key_hash = 'h2'";
    session.execute(raised).await.unwrap();
    let webhook = Webhook::new("pager", [SECRET]).unwrap();
    let mut readers = JoinSet::new();
    for (n, ak) in fleet.iter().cloned().enumerate() {
        let webhook = webhook.clone();
        readers.spawn(async move {
            match n % 2 {
                0 => drop(ak.events(EventFilter::new().alarms().after(0)).await.unwrap()),
                _ => drop(ak.deliver(&webhook, |_| async { Ok(204) }).await.unwrap()),
            }
        });
    }
    readers.join_all().await;
    assert_eq!(db.number(NOTICES).await, 38 + 1, "all but the locked ones");
    session.execute("ROLLBACK").await.unwrap();
    let late = db.fleet(1, || AgentKey::builder().expiry_notice_seconds(3_600)).await.remove(0);
    let told = late.events(EventFilter::new().alarms().after(0).limit(1_000)).await.unwrap();
    assert_eq!(told.len(), 40 + 1);
    let holds: Vec<_> = told.iter().filter(|event| event.kind == "stale_hold").collect();
    assert_eq!(holds.len(), 1);
    assert_eq!(holds[0].reservation_id.as_ref().map(ToString::to_string), Some(held.id.to_string()));
    db.drop().await;
}

#[tokio::test]
async fn a_look_that_fails_keeps_nobody_from_what_there_is() {
    let db = TestDatabase::create().await;
    let ak = db.client_with(AgentKey::builder().thresholds([1.0]).expiry_notice_seconds(3_600)).await;
    let created = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    let _ = ak.track_usage(created.key.expose(), 10).await.unwrap().unwrap();
    expiring_keys(&db, 1).await;
    db.pool
        .execute("ALTER TABLE sdk_api_keys_events ADD CONSTRAINT none CHECK (kind <> 'expiring')")
        .await
        .unwrap();
    let filter = EventFilter::new().alarms().after(0);
    let error = ak.events(filter.clone()).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("23514"));
    let told = ak.events(filter).await.unwrap();
    assert_eq!(told.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["threshold"]);
    db.drop().await;
}

#[tokio::test]
async fn a_notice_of_no_time_is_refused() {
    let db = TestDatabase::create().await;
    for builder in [AgentKey::builder().expiry_notice_seconds(0), AgentKey::builder().stale_hold_seconds(0)] {
        let error = builder.pool(db.pool.clone()).unwrap_err();
        assert!(error.message().ends_with("_seconds: 0; give a number of seconds, at least 1"), "{error}");
    }
    db.drop().await;
}
