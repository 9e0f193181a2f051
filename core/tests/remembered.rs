//! Rows that a client remembers: whatever changes a key, and however, the next look-up says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::process::Command;

use agentkey::{AgentKey, CreateKey};
use futures_util::future::join_all;
use sqlx::Executor;
use support::server::TestServer;
use support::{TestDatabase, eventually};

const KEYS: usize = 6;

struct Fleet {
    ak: AgentKey,
    keys: Vec<String>,
}

impl Fleet {
    async fn create(db: &TestDatabase) -> Self {
        let ak = db.client_with(AgentKey::builder().touch_interval_seconds(None)).await;
        let mut keys = Vec::new();
        for n in 0..KEYS {
            let spec = CreateKey::new("7").name(format!("agent {n}")).scopes(["read"]).budget_cents(100);
            keys.push(ak.create(spec).await.unwrap().key.expose().to_owned());
        }
        Fleet { ak, keys }
    }

    /// What look-ups that share a statement say of each key: what of its budget is left, or why it is refused.
    async fn look_up(&self) -> Vec<String> {
        let all = self.keys.iter().map(|key| self.ak.validate(key));
        let mut said = Vec::new();
        for verdict in join_all(all).await {
            said.push(match verdict.unwrap() {
                Ok(grant) => format!(
                    "{} {:?} {}",
                    grant.budget_remaining_cents.unwrap_or(-1),
                    grant.name,
                    grant.has_scope("read")
                ),
                Err(denial) => denial.reason.as_str().to_owned(),
            });
        }
        said
    }

    /// All are remembered, and asked for by what they were.
    async fn remember(&self) -> Vec<String> {
        let mut said = Vec::new();
        eventually("they are remembered", async || {
            let before = self.ak.stats().unchanged_keys;
            said = self.look_up().await;
            // The first of them may be alone in its statement.
            self.ak.stats().unchanged_keys >= before + KEYS as u64 - 1
        })
        .await;
        said
    }
}

/// What changes the fourth key (the first may be looked up alone) and nothing of the others, and what the next look-up says of it.
const CHANGES: &[(&str, &str)] = &[
    ("UPDATE sdk_api_keys SET revoked_at = now() WHERE name = 'agent 3'", "revoked"),
    ("UPDATE sdk_api_keys SET disabled_at = now() WHERE name = 'agent 3'", "disabled"),
    ("UPDATE sdk_api_keys SET expires_at = now() - interval '1 s' WHERE name = 'agent 3'", "expired"),
    ("UPDATE sdk_api_keys SET scopes = '{write}' WHERE name = 'agent 3'", "100 \"agent 3\" false"),
    ("UPDATE sdk_api_keys SET budget_used_cents = 40 WHERE name = 'agent 3'", "60 \"agent 3\" true"),
    ("UPDATE sdk_api_keys SET budget_cents = 0 WHERE name = 'agent 3'", "budget_exceeded"),
    ("DELETE FROM sdk_api_keys WHERE name = 'agent 3'", "invalid"),
    ("UPDATE sdk_api_keys SET key_hash = 'x' WHERE name = 'agent 3'", "invalid"),
    // Made anew with the same id, hash and place in the table.
    (
        "CREATE TEMPORARY TABLE old AS SELECT * FROM sdk_api_keys WHERE name = 'agent 3';
         DELETE FROM sdk_api_keys WHERE name = 'agent 3'; UPDATE old SET revoked_at = now();
         INSERT INTO sdk_api_keys SELECT * FROM old",
        "revoked",
    ),
    // In sub-transactions, one of them given up.
    (
        "BEGIN; SAVEPOINT a; UPDATE sdk_api_keys SET revoked_at = now() WHERE name = 'agent 3'; ROLLBACK TO a;
         SAVEPOINT b; UPDATE sdk_api_keys SET disabled_at = now() WHERE name = 'agent 3'; RELEASE b; COMMIT",
        "disabled",
    ),
    ("BEGIN; UPDATE sdk_api_keys SET revoked_at = now(); ROLLBACK", "100 \"agent 3\" true"),
    // The table is written anew, with and without a change.
    ("VACUUM FULL sdk_api_keys", "100 \"agent 3\" true"),
    ("UPDATE sdk_api_keys SET revoked_at = now() WHERE name = 'agent 3'; CLUSTER sdk_api_keys USING sdk_api_keys_pkey", "revoked"),
    ("VACUUM (FREEZE) sdk_api_keys", "100 \"agent 3\" true"),
    ("VACUUM (FREEZE) sdk_api_keys; UPDATE sdk_api_keys SET revoked_at = now() WHERE name = 'agent 3'; VACUUM (FREEZE) sdk_api_keys", "revoked"),
    // Columns change without their rows.
    (
        "ALTER TABLE sdk_api_keys DROP COLUMN disabled_at;
         ALTER TABLE sdk_api_keys ADD COLUMN disabled_at timestamptz DEFAULT now();
         UPDATE sdk_api_keys SET disabled_at = NULL WHERE name <> 'agent 3'",
        "disabled",
    ),
    // As a dump is restored.
    (
        "CREATE TABLE copy AS SELECT * FROM sdk_api_keys; UPDATE copy SET revoked_at = now() WHERE name = 'agent 3';
         TRUNCATE sdk_api_keys; INSERT INTO sdk_api_keys SELECT * FROM copy",
        "revoked",
    ),
    (
        "CREATE TABLE copy (LIKE sdk_api_keys INCLUDING ALL); INSERT INTO copy SELECT * FROM sdk_api_keys;
         UPDATE copy SET revoked_at = now() WHERE name = 'agent 3';
         ALTER TABLE sdk_api_keys RENAME TO old; ALTER TABLE copy RENAME TO sdk_api_keys",
        "revoked",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_seen_by_the_next_look_up() {
    for (change, expected) in CHANGES {
        let db = TestDatabase::create().await;
        let fleet = Fleet::create(&db).await;
        let before = fleet.remember().await;
        let mut session = db.session().await;
        for statement in change.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            session.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.unwrap();
        }
        let after = fleet.look_up().await;
        assert_eq!(after[3], *expected, "{change}");
        assert_eq!((&after[..3], &after[4..]), (&before[..3], &before[4..]), "{change}");
        assert_eq!(fleet.look_up().await, after, "{change}");
        fleet.ak.close().await;
        db.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_is_seen_by_the_next_look_up() {
    let db = TestDatabase::create().await;
    let fleet = Fleet::create(&db).await;
    let other = db.client().await;
    fleet.remember().await;
    let ids: Vec<_> = join_all(fleet.keys.iter().map(|key| other.validate(key))).await;
    let id = |n: usize| ids[n].as_ref().unwrap().as_ref().unwrap().id.clone();
    let _ = other.track_usage(&fleet.keys[0], 40).await.unwrap().unwrap();
    let _ = other.reserve(&fleet.keys[1], 30).await.unwrap().unwrap();
    other.revoke(id(2)).await.unwrap();
    other.disable(id(3)).await.unwrap();
    let said = fleet.look_up().await;
    assert_eq!(
        said[..5],
        ["60 \"agent 0\" true", "70 \"agent 1\" true", "revoked", "disabled", "100 \"agent 4\" true"]
    );
    other.enable(id(3)).await.unwrap();
    assert_eq!(fleet.look_up().await[3], "100 \"agent 3\" true");
    fleet.ak.close().await;
    other.close().await;
    db.drop().await;
}

/// Its time comes without any change of its row.
#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_key_expires_and_its_period_ends() {
    let db = TestDatabase::create().await;
    let fleet = Fleet::create(&db).await;
    let mut said = Vec::new();
    // A slow machine may need longer to remember them than the first of these seconds.
    for seconds in [2, 6, 18] {
        db.run(&format!(
            "UPDATE sdk_api_keys SET expires_at = clock_timestamp() + interval '{seconds} s' WHERE name = 'agent 3';
             UPDATE sdk_api_keys SET budget_used_cents = 100, budget_period = 'day',
                 budget_reset_at = clock_timestamp() + interval '{seconds} s' WHERE name = 'agent 4'"
        ))
        .await;
        said = fleet.remember().await;
        let to_come =
            "SELECT count(*) FROM sdk_api_keys WHERE least(expires_at, budget_reset_at) > clock_timestamp()";
        if db.number(to_come).await == 2 {
            break;
        }
    }
    assert_eq!(said[3..5], ["100 \"agent 3\" true", "budget_exceeded"]);
    eventually("their time is over", async || {
        let said = fleet.look_up().await;
        said[3..5] == ["expired", "100 \"agent 4\" true"]
    })
    .await;
    fleet.ak.close().await;
    db.drop().await;
}

/// A server that crashes gives transaction ids out again that it lost: the row may look as it did before.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_ends_what_is_remembered() {
    let server = TestServer::start().await;
    let db = TestDatabase::create_on(&server.url).await;
    let fleet = Fleet::create(&db).await;
    db.run("ALTER SYSTEM SET wal_writer_delay = '10s'").await;
    db.run("SELECT pg_reload_conf()").await;
    db.run("CHECKPOINT").await;
    let version = "SELECT xmin || ' ' || ctid FROM sdk_api_keys WHERE name LIKE 'agent 3%'";
    let is_as_before = "SELECT count(*) FROM sdk_api_keys WHERE name = 'agent 3'";
    // Until the server has not written an update, and the next one gets its transaction id: others draw ids, too.
    eventually("a lost id came again", async || {
        db.run("UPDATE sdk_api_keys SET name = 'agent 3', revoked_at = NULL WHERE name LIKE 'agent 3%'")
            .await;
        let (mut session, mut witness) = (db.session().await, db.session().await);
        session.execute("SET synchronous_commit = off").await.unwrap();
        session.execute("UPDATE sdk_api_keys SET name = 'agent 3!' WHERE name = 'agent 3'").await.unwrap();
        fleet.remember().await;
        let lost = db.text(version).await;
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut session).await.unwrap();
        Command::new("kill").arg("-9").arg(pid.to_string()).status().unwrap();
        eventually("it crashed", async || sqlx::query("SELECT 1").execute(&mut witness).await.is_err()).await;
        let is_up = async || sqlx::query("SELECT 1").execute(&db.pool).await.is_ok();
        eventually("it runs again", is_up).await;
        db.run("UPDATE sdk_api_keys SET revoked_at = now() WHERE name = 'agent 3'").await;
        db.number(is_as_before).await == 1 && db.text(version).await == lost
    })
    .await;
    assert_eq!(fleet.look_up().await[3], "revoked");
    fleet.ak.close().await;
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_raised_budget_is_seen_by_the_next_look_up() {
    let db = TestDatabase::create().await;
    let fleet = Fleet::create(&db).await;
    db.run("UPDATE sdk_api_keys SET budget_used_cents = 100 WHERE name = 'agent 3'").await;
    let before = fleet.remember().await;
    assert_eq!(before[3], "budget_exceeded");
    let mut said = Vec::new();
    for milliseconds in [1_500, 6_000, 18_000] {
        db.run(&format!(
            "UPDATE sdk_api_keys SET budget_boost_cents = 50,
                 budget_boost_until = clock_timestamp() + interval '{milliseconds} ms' WHERE name = 'agent 3'"
        ))
        .await;
        said = fleet.look_up().await;
        let to_come = "SELECT count(*) FROM sdk_api_keys WHERE budget_boost_until > clock_timestamp()";
        if db.number(to_come).await == 1 {
            break;
        }
    }
    assert_eq!(said[3], "50 \"agent 3\" true");
    // It is asked for again and again while its row stays as it is.
    let mut is_over = false;
    while !is_over {
        assert_eq!((&said[..3], &said[4..]), (&before[..3], &before[4..]));
        let ended =
            "SELECT (budget_boost_until <= now())::int::bigint FROM sdk_api_keys WHERE name = 'agent 3'";
        is_over = db.number(ended).await == 1;
        said = fleet.look_up().await;
        assert!(said[3] == "50 \"agent 3\" true" || said[3] == before[3], "{said:?}");
    }
    assert_eq!(said, before);
    assert_eq!(fleet.remember().await, before);
    fleet.ak.close().await;
    db.drop().await;
}
