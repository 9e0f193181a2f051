//! The program `agentkey` on a real Postgres: each command, its JSON, its exit codes, where secrets go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "support/cli.rs"]
mod cli;
mod support;

use std::process::Stdio;

use cli::{agentkey, database, done, program, said};
use serde_json::{Value, json};
use support::{TestDatabase, eventually};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

async fn charge(db: &TestDatabase, key: &str, cents: i64, idempotency_key: &str) {
    let ak = db.client().await;
    let charge = agentkey::Charge::new(agentkey::Cost::cents(cents)).idempotency_key(idempotency_key);
    let charged = ak.track_usage(key, charge).await.unwrap();
    assert!(charged.is_ok());
}

#[tokio::test]
async fn a_table_is_made_and_what_is_missing_told_before() {
    let db = TestDatabase::create().await;
    let missing = done(&db, &["migrate", "--dry-run"]).await;
    assert!(missing.output.contains("the table \"sdk_api_keys\""), "{missing:?}");
    assert_eq!(done(&db, &["migrate", "--dry-run", "--json"]).await.json()[0]["check"], "no_table");
    assert_eq!(db.text("SELECT to_regclass('sdk_api_keys')").await, "");
    // The statements that it prints do the same.
    let sql = done(&db, &["migrate", "--sql", "--table", "public.mine"]).await;
    db.run(&sql.output).await;
    let complete = done(&db, &["--table", "public.mine", "migrate", "--dry-run"]).await;
    assert!(complete.output.contains("complete"), "{complete:?}");
    assert_eq!(done(&db, &["migrate", "--json"]).await.output, "null\n");
    assert_eq!(done(&db, &["migrate", "--dry-run", "--json"]).await.output, "[]\n");
    db.run("ALTER TABLE sdk_api_keys DROP COLUMN disabled_at; DROP TABLE sdk_api_keys_events; DROP INDEX sdk_api_keys_parent_id").await;
    let missing = done(&db, &["migrate", "--dry-run"]).await.output;
    for part in ["disabled_at", "sdk_api_keys_events", "parent_id"] {
        assert!(missing.contains(part), "{missing}");
    }
    db.drop().await;
}

/// In a shell, which can close a stream.
async fn in_shell(url: &str, arguments: &str, redirection: &str) -> cli::Said {
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(format!("exec \"$AGENTKEY\" {arguments} {redirection}"));
    command.env("AGENTKEY", env!("CARGO_BIN_EXE_agentkey")).env("DATABASE_URL", url);
    said(command.output().await.unwrap())
}

#[tokio::test]
async fn no_secret_is_lost() {
    let db = database().await;
    let id = &done(&db, &["create", "--account", "a", "--json"]).await.json()["id"];
    let rotate = format!("rotate {id}");
    let state = "SELECT string_agg(k::text, ',') FROM sdk_api_keys k";
    let before = db.text(state).await;
    for arguments in ["create --account a", "create --account a --json", &rotate] {
        let said = in_shell(&db.url, arguments, ">&-").await;
        assert_eq!((said.code, said.output.as_str()), (2, ""), "{said:?}");
        assert!(said.error.contains("standard output is closed"), "{said:?}");
        assert_eq!(db.text(state).await, before, "{arguments}");
    }
    // Errors have nowhere to go, either.
    assert_eq!(in_shell(&db.url, "create --account a", ">&- 2>&- <&-").await.code, 2);
    assert_eq!(db.text(state).await, before);
    // Where it cannot be known before, people are told what to do.
    let said = in_shell(&db.url, "create --account full", ">/dev/full").await;
    assert_eq!((said.code, said.output.as_str()), (1, ""), "{said:?}");
    assert!(said.error.contains("agentkey revoke 2"), "{said:?}");
    assert!(in_shell(&db.url, &rotate, ">/dev/full").await.error.contains("rotate it again"));
    // Who redirects it to nowhere means it, and what has no secret needs no output.
    assert_eq!(in_shell(&db.url, "create --account null", ">/dev/null").await.code, 0);
    assert_eq!(in_shell(&db.url, "revoke 3", ">&-").await.code, 0);
    db.drop().await;
}

#[tokio::test]
async fn a_secret_goes_to_standard_output_and_nowhere_else() {
    let db = database().await;
    let created = done(
        &db,
        &[
            "create",
            "--account",
            "acct_1",
            "--name",
            "team",
            "--scopes",
            "read,write",
            "--budget-usd",
            "12.50",
            "--budget-period",
            "day",
            "--expires-in",
            "7d",
            "--key-prefix",
            "x_",
        ],
    )
    .await;
    let key = created.output.trim_end();
    assert!(key.starts_with("x_") && key.len() == 50 && created.output.lines().count() == 1, "{created:?}");
    assert!(!created.error.contains(&key[2..]), "{created:?}");
    assert!(created.error.contains("$12.50 a day") && created.error.contains("read, write"), "{created:?}");
    let grant = db.client().await.validate(key).await.unwrap().unwrap();
    assert_eq!((grant.budget_cents, grant.name.as_str()), (Some(1_250), "team"));

    let child =
        done(&db, &["create", "--parent", "1", "--budget-cents", "300", "--delegated-by", "alice", "--json"])
            .await;
    let json = child.json();
    assert_eq!(child.error, "");
    assert_eq!((json["id"].as_i64(), json["budgetCents"].as_i64()), (Some(2), Some(300)));
    let secret = json["key"].as_str().unwrap();
    for arguments in [
        &["list"][..],
        &["show", "2"],
        &["list", "--json"],
        &["show", "2", "--json"],
        &["events"],
        &["events", "--json"],
    ] {
        let said = done(&db, arguments).await;
        for key in [key, secret] {
            assert!(
                !said.output.contains(&key[12..]) && !said.error.contains(&key[12..]),
                "{arguments:?}: {said:?}"
            );
        }
    }
    db.drop().await;
}

#[tokio::test]
async fn what_is_not_there_is_no_failure_of_the_program() {
    let db = database().await;
    for arguments in [
        &["show", "77"][..],
        &["show", "52abc"],
        &["show", "-1"],
        &["rotate", "77"],
        &["update", "77", "--name", "x"],
        &["disable", "77"],
        &["enable", "77"],
        &["revoke", "77"],
        &["usage", "77"],
        &["verify", "77"],
        &["revoke-all", "--parent", "77", "--yes"],
    ] {
        let said = agentkey(&db.url, arguments).await;
        assert_eq!((said.code, said.output.as_str()), (3, ""), "{arguments:?}: {said:?}");
        let json = agentkey(&db.url, &[arguments, &["--json"]].concat()).await;
        let error: Value = serde_json::from_str(json.error.trim()).unwrap();
        assert_eq!((json.code, error["code"].as_str()), (3, Some("not_found")), "{arguments:?}");
    }
    db.drop().await;
}

#[tokio::test]
async fn bad_input_is_named_and_nothing_is_written() {
    let db = database().await;
    for (arguments, named) in [
        (&["create", "--account", "a", "--budget-cents", "-1"][..], "budget"),
        (&["create", "--account", "a", "--scopes", "read,"], "--scopes"),
        (&["create", "--parent", "77"], "parent"),
        (&["create", "--account", "a", "--expires-in", "1w"], "--expires-in"),
        (&["list", "--table", "a.b.c"], "table name"),
        (&["create", "--account", "a", "--key-prefix", "a b"], "key prefix"),
        (&["list", "--database-url", "mysql://root:hunter2@localhost/x"], "database"),
    ] {
        let said = agentkey(&db.url, arguments).await;
        assert_eq!((said.code, said.output.as_str()), (2, ""), "{arguments:?}: {said:?}");
        assert!(
            said.error.to_lowercase().contains(named) && !said.error.contains("hunter2"),
            "{arguments:?}: {said:?}"
        );
    }
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys").await, 0);
    db.drop().await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_a_failure_without_its_password() {
    let url = "postgresql://somebody:hunter2@127.0.0.1:1/app";
    let said = agentkey(url, &["list", "--timeout", "5"]).await;
    assert_eq!((said.code, said.output.as_str()), (1, ""), "{said:?}");
    assert!(said.error.contains("127.0.0.1:1") && !said.error.contains("hunter2"), "{said:?}");
    let db = TestDatabase::create().await;
    let said = agentkey(&db.url, &["list"]).await;
    assert_eq!(said.code, 1);
    assert!(said.error.contains("agentkey migrate"), "{said:?}");
    db.drop().await;
}

#[tokio::test]
async fn many_are_revoked_after_somebody_said_so() {
    let db = database().await;
    for arguments in [
        &["create", "--account", "a"][..],
        &["create", "--parent", "1"],
        &["create", "--parent", "2", "--delegated-by", "alice"],
        &["create", "--account", "a"],
        &["create", "--account", "b", "--delegated-by", "alice"],
    ] {
        done(&db, arguments).await;
    }
    let live = async || db.number("SELECT count(*) FROM sdk_api_keys WHERE revoked_at IS NULL").await;
    let unasked = agentkey(&db.url, &["revoke-all", "--parent", "1"]).await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.error.contains("2 keys") && unasked.error.contains("--yes"), "{unasked:?}");
    assert_eq!(live().await, 5);
    let below = done(&db, &["revoke-all", "--parent", "1", "--yes"]).await;
    assert!(below.output.contains("2 keys are revoked"), "{below:?}");
    let humans = done(&db, &["revoke-all", "--delegated-by", "alice", "--yes", "--json"]).await;
    assert_eq!(humans.output, "1\n");
    let accounts = done(&db, &["revoke-all", "--account", "a", "--yes", "--json"]).await;
    assert_eq!(accounts.output, "2\n");
    assert_eq!(done(&db, &["revoke-all", "--account", "a", "--yes", "--json"]).await.output, "0\n");
    assert_eq!(live().await, 0);
    db.drop().await;
}

#[tokio::test]
async fn the_ledger_is_charted_followed_checked_and_pruned() {
    let db = database().await;
    let key = done(&db, &["create", "--account", "a"]).await.output;
    let key = key.trim_end();
    charge(&db, key, 30, "r1").await;
    db.run("UPDATE sdk_api_keys_events SET at = now() - interval '40 days'").await;
    charge(&db, key, 60, "r2").await;

    let chart = done(&db, &["usage", "1"]).await.output;
    assert!(chart.contains(&"█".repeat(40)) && chart.contains(&format!("{} ", "█".repeat(20))), "{chart}");
    assert!(chart.contains("$0.60") && chart.contains("Together: $0.90"), "{chart}");
    let usage = done(&db, &["usage", "1", "--by", "year", "--json", "--from", "2000-01-01"]).await.json();
    assert!(usage[0]["spentMicrocents"].is_i64() && usage[0]["complete"].is_boolean(), "{usage}");

    let events = done(&db, &["events"]).await.output;
    assert!(events.contains("r2") && events.contains("charge"), "{events}");
    let newest = done(&db, &["events", "--json", "--limit", "1"]).await.json();
    assert_eq!((&newest[0]["idempotencyKey"], newest.as_array().unwrap().len()), (&json!("r2"), 1));
    assert_eq!(done(&db, &["events", "--json", "--kind", "revoke"]).await.output, "[]\n");
    assert_eq!(
        done(&db, &["events", "--json", "--key", "1", "--account", "a"])
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        3
    );

    assert_eq!(done(&db, &["verify", "--json"]).await.output, "[]\n");
    assert!(done(&db, &["verify", "1"]).await.output.contains("adds up"));
    db.run("UPDATE sdk_api_keys SET budget_used_cents = 5").await;
    let differs = agentkey(&db.url, &["verify"]).await;
    assert_eq!(differs.code, 4);
    assert!(differs.output.contains("$0.05") && differs.output.contains("$0.90"), "{differs:?}");
    let differs = agentkey(&db.url, &["verify", "--json"]).await;
    assert_eq!((differs.code, &differs.json()[0]["keyId"]), (4, &json!(1)));

    db.run("INSERT INTO sdk_api_keys_reservations (id, key_id, amount_microcents, expires_at) VALUES (gen_random_uuid(), 1, 1000000, now() - interval '1 minute')").await;
    assert_eq!(done(&db, &["sweep"]).await.output, "1 reservation ended.\n");
    assert_eq!(done(&db, &["sweep", "--json"]).await.output, "0\n");
    assert_eq!(agentkey(&db.url, &["prune", "--older-than", "30d"]).await.code, 2);
    assert_eq!(done(&db, &["prune", "--older-than", "30d", "--yes"]).await.output, "2 entries deleted.\n");
    assert_eq!(done(&db, &["prune", "--older-than", "30d", "--yes", "--json"]).await.output, "0\n");
    db.drop().await;
}

#[tokio::test]
async fn entries_are_followed_as_they_come_also_late_ones() {
    let db = database().await;
    done(&db, &["create", "--account", "a"]).await;
    let mut following = program(&db.url, &["events", "--follow", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next =
        async || -> Value { serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap() };
    assert_eq!(next().await["kind"], "create");
    // It has its id before the next, and is committed after it.
    let mut late = db.session().await;
    let entry = |kind: &str| format!("INSERT INTO sdk_api_keys_events (key_id, kind) VALUES (1, '{kind}')");
    sqlx::raw_sql("BEGIN").execute(&mut late).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(entry("late"))).execute(&mut late).await.unwrap();
    db.run(&entry("early")).await;
    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(next().await["kind"], "late");
    assert_eq!(next().await["kind"], "early");
    db.run(&entry("last")).await;
    assert_eq!(next().await["kind"], "last");
    following.kill().await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn a_reader_that_leaves_ends_it_quietly() {
    let db = database().await;
    db.run("INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, name) SELECT 'a', md5(n::text), 'ak_', repeat('x', 50) FROM generate_series(1, 3000) n").await;
    let mut listing = program(&db.url, &["list", "--limit", "3000"]).spawn().unwrap();
    let mut lines = BufReader::new(listing.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("ID"));
    drop(lines);
    let left = said(listing.wait_with_output().await.unwrap());
    assert_eq!((left.code, left.error.as_str()), (1, ""));
    // A key that nobody can read is worth a word.
    let mut creating = program(&db.url, &["create", "--account", "a"]);
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    creating.stdout(Stdio::from(write));
    let said = said(creating.spawn().unwrap().wait_with_output().await.unwrap());
    assert_eq!(said.code, 1);
    assert!(said.error.contains("agentkey revoke 3001"), "{said:?}");
    db.drop().await;
}

#[tokio::test]
async fn the_environment_may_name_another_database_than_the_flag() {
    let db = database().await;
    let mut listing = program("postgresql://nowhere:1/none", &["list", "--json", "--database-url", &db.url]);
    let said = said(listing.output().await.unwrap());
    assert_eq!((said.code, said.output.as_str()), (0, "[]\n"), "{said:?}");
    let mut unnamed = program("", &["list"]);
    unnamed.env_remove("DATABASE_URL");
    let said = cli::said(unnamed.output().await.unwrap());
    assert_eq!(said.code, 2);
    assert!(said.error.contains("--database-url"), "{said:?}");
    db.drop().await;
}

#[tokio::test]
async fn a_run_that_is_killed_leaves_nothing_half_done() {
    let db = database().await;
    let mut holder = db.session().await;
    done(&db, &["create", "--account", "a"]).await;
    sqlx::raw_sql("BEGIN; SELECT FROM sdk_api_keys FOR UPDATE").execute(&mut holder).await.unwrap();
    let mut updating = program(&db.url, &["update", "1", "--name", "x"]).spawn().unwrap();
    eventually("the update waits", async || db.waiting_sessions().await > 0).await;
    updating.kill().await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    // Either way it is whole: the change and its entry, or neither.
    eventually("nobody waits any more", async || db.waiting_sessions().await == 0).await;
    eventually("it is whole", async || {
        let changed = db.number("SELECT count(*) FROM sdk_api_keys WHERE name = 'x'").await;
        changed == db.number("SELECT count(*) FROM sdk_api_keys_events WHERE kind = 'update'").await
    })
    .await;
    db.drop().await;
}

#[tokio::test]
async fn somebody_who_is_asked_through_a_pipe_is_nobody() {
    let db = database().await;
    done(&db, &["create", "--account", "a"]).await;
    let mut asking = program(&db.url, &["revoke-all", "--account", "a"]);
    let mut asking = asking.stdin(Stdio::piped()).spawn().unwrap();
    // It may have ended before it is answered.
    drop(asking.stdin.take().unwrap().write_all(b"y\n").await);
    let said = said(asking.wait_with_output().await.unwrap());
    assert_eq!(said.code, 2, "{said:?}");
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys WHERE revoked_at IS NULL").await, 1);
    db.drop().await;
}
