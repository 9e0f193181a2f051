//! What `explain` says, and what a charge then does, on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::collections::HashSet;

use agentkey::engine::Credential;
use agentkey::{AgentKey, ChargeRefusal, Cost, CreateKey, Explanation, IfExpired, KeyId, Period, Reserve};
use support::{Dice, TestDatabase, original_table, random};

/// Trees that are looked at.
const TREES: usize = 60;

/// A chain with a branch: budgets of several periods or none, used, held, due, over.
async fn grow(db: &TestDatabase, ak: &AgentKey, dice: &mut Dice) -> (Vec<KeyId>, String) {
    let mut chain = Vec::new();
    let mut secrets = Vec::new();
    for _ in 0..1 + dice.roll(4) {
        let mut spec = CreateKey::new("acct");
        spec.parent = chain.last().cloned().map(KeyId::into);
        if dice.roll(5) > 0 {
            spec.budget_cents = Some([0, 3, 50, 100][dice.roll(4)]);
            let periods = [None, Some(Period::Hour), Some(Period::Day), Some(Period::Month)];
            spec.budget_period = periods[dice.roll(4)];
        }
        let created = ak.create(spec).await.unwrap();
        chain.push(created.id);
        secrets.push(created.key.expose().to_owned());
    }
    let branch = ak.create(CreateKey::new("acct").parent(chain[0].clone())).await.unwrap();
    secrets.push(branch.key.expose().to_owned());
    for _ in 0..dice.roll(8) {
        let key = &secrets[dice.roll(secrets.len())];
        let amount = Cost::microcents(1 + dice.roll(20_000_000) as i64);
        if dice.roll(2) == 0 {
            let _ = ak.track_usage(key, amount).await.unwrap();
        } else {
            let if_expired = [IfExpired::Release, IfExpired::Settle][dice.roll(2)];
            let _ = ak.reserve(key, Reserve::new(amount).if_expired(if_expired)).await.unwrap();
        }
    }
    if dice.roll(2) == 0 {
        db.run(
            "UPDATE sdk_api_keys_reservations SET expires_at = now() - interval '1 second'
             WHERE state = 'pending' AND ascii(substr(id::text, 36)) % 2 = 0",
        )
        .await;
    }
    for id in &chain {
        let change = match dice.roll(16) {
            0 => "revoked_at = now()",
            1 => "disabled_at = now()",
            2 => "expires_at = now()",
            // What somebody lowered, so that more is used or held than there may be.
            3 => "budget_cents = 1",
            4..8 => "budget_reset_at = budget_reset_at - interval '40 days'",
            _ => continue,
        };
        db.run(&format!("UPDATE sdk_api_keys SET {change} WHERE id = {id}")).await;
    }
    (chain, secrets.swap_remove(secrets.len() - 2))
}

fn refusal(explanation: &Explanation) -> (Option<ChargeRefusal>, Option<KeyId>) {
    (explanation.reason, explanation.limit_key_id.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_does_what_was_explained() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let mut seen = HashSet::new();
    for _ in 0..TREES {
        let seed = random();
        let mut dice = Dice(seed);
        let (chain, secret) = grow(&db, &ak, &mut dice).await;
        let leaf = chain.last().unwrap();
        let before = db.snapshot().await;
        let explained = ak.explain(leaf).await.unwrap();
        assert_eq!(before, db.snapshot().await, "it only reads");
        let by_secret = ak.explain(Credential::of_key(&secret)).await.unwrap();
        assert_eq!(refusal(&explained), refusal(&by_secret));
        let named: HashSet<_> =
            explained.limits.iter().map(|limit| limit.key_id.clone().unwrap().to_string()).collect();
        assert_eq!(named, chain.iter().map(KeyId::to_string).collect(), "seed {seed}");
        let binding = explained.limits.iter().min_by_key(|limit| limit.attainable_microcents()).unwrap();
        let most = binding.attainable_microcents();
        seen.insert((explained.reason.map(|reason| reason.as_str()), explained.is_live()));
        let charge = async |amount: i64| ak.track_usage(&secret, Cost::microcents(amount)).await.unwrap();
        let said = async |amount: i64| ak.explain_charge(leaf, Cost::microcents(amount)).await.unwrap();
        match explained.reason {
            Some(ChargeRefusal::InvalidKey) => {
                assert_eq!(charge(1).await, Err(ChargeRefusal::InvalidKey), "seed {seed}: {explained:?}");
            }
            Some(reason) => {
                assert!(most < 1, "seed {seed}: {explained:?}");
                assert_eq!(explained.limit_key_id, binding.key_id, "seed {seed}");
                assert_eq!(charge(1).await, Err(reason), "seed {seed}: {explained:?}");
            }
            None => {
                assert_eq!(refusal(&said(most).await), (None, None), "seed {seed}");
                let refused = Some(ChargeRefusal::BudgetExceeded);
                let too_much = said(most + 1).await;
                assert_eq!(refusal(&too_much), (refused, binding.key_id.clone()), "seed {seed}");
                if explained.is_live() {
                    assert_eq!(too_much.limits[0].key_id, binding.key_id, "what binds comes first");
                }
                assert_eq!(
                    charge(most + 1).await,
                    Err(ChargeRefusal::BudgetExceeded),
                    "seed {seed}: {explained:?}"
                );
                assert!(charge(most).await.is_ok(), "seed {seed}: {explained:?}");
                let after = ak.explain(leaf).await.unwrap();
                assert_eq!(refusal(&after), (refused, binding.key_id.clone()), "seed {seed}: {after:?}");
            }
        }
    }
    // The dice show each kind now and then.
    assert!(seen.len() >= 4, "{seen:?}");
    db.drop().await;
}

#[tokio::test]
async fn what_leaves_the_least_is_named_though_another_is_switched_off() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let parent = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    let child = ak.create(CreateKey::child_of(parent.id.clone()).budget_cents(10)).await.unwrap();
    let _ = ak.track_usage(child.key.expose(), 10).await.unwrap().unwrap();
    db.run(&format!("UPDATE sdk_api_keys SET budget_cents = 1 WHERE id = {}", parent.id)).await;
    db.run(&format!("UPDATE sdk_api_keys SET disabled_at = now() WHERE id = {}", child.id)).await;
    let explained = ak.explain(&child.id).await.unwrap();
    assert_eq!(refusal(&explained), (Some(ChargeRefusal::BudgetExceeded), Some(parent.id)));
    assert_eq!(explained.limits[0].key_id, Some(child.id), "what is switched off comes first");
    db.drop().await;
}

#[tokio::test]
async fn it_waits_for_nobody() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let team = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    let child = ak.create(CreateKey::child_of(team.id.clone())).await.unwrap();
    let mut holder = db.session().await;
    sqlx::raw_sql("BEGIN; SELECT FROM sdk_api_keys FOR UPDATE").execute(&mut holder).await.unwrap();
    let explained = ak.explain(&child.id).await.unwrap();
    assert_eq!((explained.is_allowed(), explained.limits.len()), (true, 2));
    db.drop().await;
}

#[tokio::test]
async fn an_answer_shows_no_secret() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    let _ = ak.reserve(created.key.expose(), 5).await.unwrap().unwrap();
    let explained = ak.explain(&created.key).await.unwrap();
    let answer = agentkey::engine::Answer::Explained(Box::new(explained.clone())).json(true);
    let hash = db.text("SELECT key_hash FROM sdk_api_keys").await;
    for text in [format!("{explained:?}"), answer] {
        assert!(!text.contains(&created.key.expose()[3..]) && !text.contains(&hash), "{text}");
    }
    db.drop().await;
}

#[tokio::test]
async fn chains_that_cannot_be_are_explained_as_charges_find_them() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let parent = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    let child = ak.create(CreateKey::child_of(parent.id.clone()).budget_cents(10)).await.unwrap();
    for chain in [
        "ARRAY[id]",
        "ARRAY[parent_id, parent_id]",
        "ARRAY[parent_id, NULL]",
        "ARRAY[99999]",
        "ARRAY[[1],[2]]",
    ] {
        db.run(&format!("UPDATE sdk_api_keys SET ancestor_ids = {chain} WHERE id = {}", child.id)).await;
        let explained = ak.explain(&child.id).await.unwrap();
        assert_eq!(explained.reason, Some(ChargeRefusal::InvalidKey), "{chain}: {explained:?}");
        let charged = ak.track_usage(child.key.expose(), 1).await.unwrap();
        assert_eq!(charged, Err(ChargeRefusal::InvalidKey), "{chain}");
    }
    db.drop().await;
}

#[tokio::test]
async fn a_table_of_the_original_has_limits_too() {
    let db = TestDatabase::create().await;
    db.run(&original_table("SERIAL", "TEXT")).await;
    let ak = AgentKey::builder().pool(db.pool.clone()).unwrap();
    let created = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    for (cost, is_allowed) in [(10, true), (11, false)] {
        let explained = ak.explain_charge(&created.key, cost).await.unwrap();
        assert_eq!((explained.is_allowed(), explained.limits.len()), (is_allowed, 1));
        assert_eq!(explained.limits[0].holds.count, 0);
    }
    db.drop().await;
}

/// Rows of a table that statements read, once all sessions of the pool are over.
async fn rows_read(db: &TestDatabase, table: &str) -> i64 {
    db.at_rest(&format!(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = '{table}'"
    ))
    .await
}

#[tokio::test]
async fn what_others_hold_makes_no_difference() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let other = ak.create(CreateKey::new("other")).await.unwrap();
    let team = ak.create(CreateKey::new("acct").budget_cents(1_000)).await.unwrap();
    let mut last = team.id.clone();
    // More children of one key than a page of them has, and a grandchild.
    for _ in 0..45 {
        last = ak.create(CreateKey::child_of(team.id.clone())).await.unwrap().id;
        let _ = ak.reserve_by_id(last.clone(), 1).await.unwrap().unwrap();
    }
    let leaf = ak.create(CreateKey::child_of(last)).await.unwrap();
    let _ = ak.reserve_by_id(leaf.id.clone(), 2).await.unwrap().unwrap();
    db.run(&format!(
        "INSERT INTO sdk_api_keys_reservations (id, key_id, amount_microcents, expires_at)
         SELECT gen_random_uuid(), {}, 1000000, now() + interval '1 day' FROM generate_series(1, 20000);
         UPDATE sdk_api_keys SET budget_reserved_cents = 20000 WHERE id = {0};
         ANALYZE sdk_api_keys_reservations",
        other.id
    ))
    .await;
    db.pool.close().await;
    let before = rows_read(&db, "sdk_api_keys_reservations").await;
    let ak = AgentKey::builder().connect(&db.url).await.unwrap();
    for _ in 0..8 {
        let explained = ak.explain(&team.id).await.unwrap();
        let holds = &explained.limits[0].holds;
        assert_eq!((holds.count, holds.amount_microcents, holds.oldest.len()), (46, 47_000_000, 10));
        let explained = ak.explain(&leaf.id).await.unwrap();
        let counts: Vec<i64> = explained.limits.iter().map(|limit| limit.holds.count).collect();
        assert_eq!(counts, [46, 2, 1]);
    }
    ak.close().await;
    let read = rows_read(&db, "sdk_api_keys_reservations").await - before;
    assert!(read < 8 * 2 * 100, "{read} rows are read");
    db.drop().await;
}

#[tokio::test]
async fn what_very_many_children_hold_is_found() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    for children in [1_999, 2_000, 2_001, 5_000] {
        let team = ak.create(CreateKey::new("acct").budget_cents(1_000)).await.unwrap();
        db.run(&format!(
            "INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, parent_id, ancestor_ids)
             SELECT 'acct', '{children} ' || n, 'ak_', {0}, ARRAY[{0}::bigint] FROM generate_series(1, {children}) n",
            team.id
        ))
        .await;
        let ids = format!(
            "SELECT string_agg(id::text, ' ') FROM (SELECT id FROM sdk_api_keys WHERE parent_id = {} ORDER BY id DESC LIMIT 3) k",
            team.id
        );
        for id in db.text(&ids).await.split(' ') {
            let _ = ak.reserve_by_id(id, 5).await.unwrap().unwrap();
        }
        let explained = ak.explain(&team.id).await.unwrap();
        assert_eq!(explained.limits[0].holds.count, 3, "of {children} children");
        assert_eq!(explained.limits[0].holds.amount_microcents, 15_000_000);
    }
    // Whoever made a key its own grandparent finds an end.
    db.run("UPDATE sdk_api_keys SET parent_id = 2 WHERE id = 1").await;
    assert_eq!(ak.explain(agentkey::KeyId::from(1)).await.unwrap().limits[0].holds.count, 3);
    db.drop().await;
}
