//! Rows that change between a statement's snapshot and its locks, as they do where it waited: Postgres then begins parts
//! of it again (EvalPlanQual), and which parts depends on the plan. What was asked is recorded once, on every row or on
//! none, whatever the plan.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use agentkey::{AgentKey, Charge, CreateKey};
use sqlx::Executor;
use support::{TestDatabase, eventually};
use tokio::task::JoinSet;

const CHILDREN: usize = 6;
/// What somebody else charges a row, by hand.
const BY_HAND: i64 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Many,
    Idempotent,
    Hold,
    Refund,
}

/// What a call charged, in cents.
async fn call(ak: AgentKey, kind: Kind, (key, id): (String, String), name: String) -> i64 {
    match kind {
        Kind::Plain => ak.track_usage(&key, 1).await.unwrap().map(|_| 1).unwrap(),
        Kind::Many => {
            let charge = |cents: i64| ak.track_usage(&key, cents);
            let (one, two, three) = tokio::join!(charge(1), charge(2), charge(3));
            assert!(one.unwrap().is_ok() && two.unwrap().is_ok() && three.unwrap().is_ok());
            6
        }
        Kind::Idempotent => {
            let charge = || ak.track_usage(&key, Charge::new(2).idempotency_key(&*name));
            let (one, other) = tokio::join!(charge(), charge());
            assert!(one.unwrap().is_ok() && other.unwrap().is_ok());
            2
        }
        Kind::Hold => {
            let held = ak.reserve(&key, 3).await.unwrap().expect("no budget is near");
            let (one, other) = tokio::join!(ak.settle(&held.id, 2), ak.settle(&held.id, 2));
            assert!(one.unwrap().is_ok() && other.unwrap().is_ok());
            2
        }
        Kind::Refund => {
            let id: i64 = id.parse().unwrap();
            ak.refund(id, Charge::new(1)).await.unwrap().map(|_| -1).unwrap()
        }
    }
}

/// What the planner has to do without. Small tables are joined by hashes, large ones in loops. What it must use all the same
/// looks so dear to it that it would compile each statement.
const PLANS: [&[&str]; 4] = [
    &[],
    &["enable_hashjoin", "enable_mergejoin"],
    &["enable_nestloop", "jit"],
    &["enable_nestloop", "enable_hashjoin", "jit"],
];

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_changed_meanwhile_are_charged_once() {
    for plan in PLANS {
        let db = TestDatabase::create().await;
        for unused in plan {
            db.run(&format!("ALTER DATABASE {} SET {unused} = off", db.name)).await;
        }
        let clients = db.fleet(3, AgentKey::builder).await;
        clients[0].migrate().await.unwrap();
        check(&db, &clients, plan).await;
        for client in clients {
            client.close().await;
        }
        db.drop().await;
    }
}

async fn check(db: &TestDatabase, clients: &[AgentKey], plan: &[&str]) {
    for kind in [Kind::Plain, Kind::Many, Kind::Idempotent, Kind::Hold, Kind::Refund] {
        // The ancestor that all wait for, children that a statement holds others for, and both.
        for changed in [vec![0], vec![1, 3], vec![0, 1, 3]] {
            let spec = || CreateKey::new("acct").budget_cents(1_000_000);
            let parent = clients[0].create(spec()).await.unwrap();
            let mut keys = vec![(parent.key.expose().to_owned(), parent.id.to_string())];
            for _ in 0..CHILDREN {
                let child = clients[0].create(spec().parent(parent.id.clone())).await.unwrap();
                assert!(clients[0].track_usage(child.key.expose(), 100).await.unwrap().is_ok());
                keys.push((child.key.expose().to_owned(), child.id.to_string()));
            }
            let used = async |id: &str| {
                db.number(&format!("SELECT budget_used_cents FROM sdk_api_keys WHERE id = {id}")).await
            };

            let mut session = db.session().await;
            session.execute("BEGIN").await.unwrap();
            for place in &changed {
                let change = format!(
                    "UPDATE sdk_api_keys SET budget_used_cents = budget_used_cents + {BY_HAND} WHERE id = {}",
                    keys[*place].1
                );
                session.execute(sqlx::AssertSqlSafe(change)).await.unwrap();
            }
            let mut callers = JoinSet::new();
            for (n, ak) in clients.iter().enumerate() {
                for (place, key) in keys.iter().enumerate().skip(1) {
                    let (ak, key, name) = (ak.clone(), key.clone(), format!("{kind:?} {n}"));
                    callers.spawn(async move { (place, call(ak, kind, key, name).await) });
                }
            }
            eventually("somebody waits for a row", async || db.waiting_sessions().await > 0).await;
            session.execute("COMMIT").await.unwrap();

            let mut charged = vec![0; keys.len()];
            for (place, cents) in callers.join_all().await {
                charged[place] += cents;
                charged[0] += cents;
            }
            let by_hand = |place: &usize| i64::from(changed.contains(place)) * BY_HAND;
            for (place, (_, id)) in keys.iter().enumerate() {
                let before = if place == 0 { 100 * CHILDREN as i64 } else { 100 };
                let expected = before + charged[place] + by_hand(&place);
                assert_eq!(
                    used(id).await,
                    expected,
                    "{kind:?}, without {plan:?}, rows {changed:?} changed: row {place}"
                );
            }
            let held =
                "SELECT sum(budget_reserved_cents + budget_reserved_microcents)::bigint FROM sdk_api_keys";
            assert_eq!(db.number(held).await, 0);
        }
    }
}
