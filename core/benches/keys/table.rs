//! The table: accounts of 100 keys, some of them in trees, with what is held of a few, and the backlog of one tenant.
//!
//! Keys of an account, by their place in it: 1 is a team, 2 to 21 are its children, 22 to 41 children of 2. The rest have
//! no parent.

use agentkey::AgentKey;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::Result;

/// Keys of an account, and of a human.
pub const OF_ACCOUNT: i64 = 100;
/// Open reservations of somebody who does not end them.
pub const BACKLOG: i64 = 100_000;
/// Children of one key, the platform: as many as an application may have users.
pub const CHILDREN: i64 = 100_000;
/// So few keys are enough for a first look.
pub const FEWEST: i64 = 400_000;

/// The accounts before the last ones, whose keys are free for calls.
pub fn accounts(keys: i64) -> i64 {
    (keys - CHILDREN) / OF_ACCOUNT - ACCOUNTS_OF_BACKLOG
}

/// Those of the backlog: 50 reservations for each of the keys 50 to 99.
const ACCOUNTS_OF_BACKLOG: i64 = BACKLOG / 50 / 50;
/// One account in so many has a team of which something is held.
pub const HELD: i64 = 100;

/// The key of which very many are children.
pub fn platform(keys: i64) -> i64 {
    keys - CHILDREN
}

pub async fn make(ak: &AgentKey, url: &str, keys: i64) -> Result<()> {
    eprintln!("making {keys} keys ...");
    ak.migrate().await?;
    let mut db = PgConnection::connect(url).await?;
    // Indexes last: that is minutes faster.
    let indexes = "SELECT indexname::text, indexdef FROM pg_indexes WHERE tablename = 'sdk_api_keys' AND indexname <> 'sdk_api_keys_pkey'";
    let indexes: Vec<(String, String)> = db
        .fetch_all(indexes)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_>>()?;
    run(&mut db, "ALTER TABLE sdk_api_keys DROP CONSTRAINT sdk_api_keys_key_hash_key").await?;
    for (name, _) in indexes.iter().filter(|(name, _)| name != "sdk_api_keys_key_hash_key") {
        run(&mut db, &format!("DROP INDEX {name}")).await?;
    }
    let platform = platform(keys);
    run(&mut db, &format!(
        "INSERT INTO sdk_api_keys (key_hash, key_prefix, name, account_id, scopes, budget_cents, budget_used_cents,
            budget_period, budget_reset_at, budget_anchor_at, expires_at, delegated_by, last_used_at, revoked_at, disabled_at, metadata,
            parent_id, ancestor_ids, has_children)
        SELECT encode(sha256(('ak_' || n)::bytea), 'hex'), 'ak_' || n, 'default', 'acct_' || (n - 1) / {OF_ACCOUNT},
            CASE WHEN n % 20 = 0 THEN '{{read,search}}'::text[] WHEN n % 100000 = 99 THEN '{{audit}}' ELSE '{{read,write}}' END,
            5000, n * 7919 % 5000, 'month', now() + interval '20 days', now() - interval '10 days',
            CASE WHEN n % 10 = 9 THEN now() - interval '1 day' WHEN n % 2 = 0 THEN now() + interval '30 days' END,
            'human_' || n % ({keys} / {OF_ACCOUNT}), now(),
            CASE WHEN n % 200 = 57 THEN now() - interval '1 day' END, CASE WHEN n % 10000 = 77 THEN now() END,
            jsonb_build_object('team', n % ({keys} / 50), 'plan', 'pro'),
            parent[1], parent, n % {OF_ACCOUNT} IN (1, 2) OR n = {platform}
        FROM generate_series(1::bigint, {keys}) n,
        LATERAL (SELECT (n - 1) / {OF_ACCOUNT} * {OF_ACCOUNT} AS base, (n - 1) % {OF_ACCOUNT} + 1 AS place) a,
        LATERAL (SELECT CASE
            WHEN n > {platform} THEN ARRAY[{platform}::bigint]
            WHEN place BETWEEN 2 AND 21 THEN ARRAY[base + 1]
            WHEN place BETWEEN 22 AND 41 THEN ARRAY[base + 2, base + 1]
        END AS parent) p"
    )).await?;
    eprintln!("making its indexes ...");
    for (_, definition) in &indexes {
        run(&mut db, definition).await?;
    }
    eprintln!("making what is held ...");
    let accounts = accounts(keys);
    run(&mut db, &format!(
        "INSERT INTO sdk_api_keys_reservations (id, key_id, amount_microcents, expires_at)
        SELECT gen_random_uuid(), {accounts} * {OF_ACCOUNT} + n % {ACCOUNTS_OF_BACKLOG} * {OF_ACCOUNT} + 50 + n / {ACCOUNTS_OF_BACKLOG} % 50, 1000000, now() + interval '1 day'
        FROM generate_series(1, {BACKLOG}) n
        UNION ALL
        SELECT gen_random_uuid(), account * {OF_ACCOUNT} + place, 1000000, now() + interval '1 day'
        FROM generate_series(0, {accounts} - 1, {HELD}) account, unnest(ARRAY[1, 2, 5, 30]) place
        UNION ALL
        SELECT gen_random_uuid(), {platform} + n * 1000, 1000000, now() + interval '1 day' FROM generate_series(1, 100) n"
    )).await?;
    run(
        &mut db,
        "UPDATE sdk_api_keys k SET budget_reserved_cents = h.cents
        FROM (
            SELECT c.id, sum(r.amount_microcents) / 1000000 AS cents
            FROM sdk_api_keys_reservations r
            JOIN sdk_api_keys k ON k.id = r.key_id
            CROSS JOIN LATERAL unnest(k.id || k.ancestor_ids) c(id)
            GROUP BY c.id
        ) h
        WHERE k.id = h.id",
    )
    .await?;
    run(&mut db, &format!("SELECT setval(pg_get_serial_sequence('sdk_api_keys', 'id'), {keys})")).await?;
    for table in ["sdk_api_keys", "sdk_api_keys_reservations"] {
        run(&mut db, &format!("VACUUM ANALYZE {table}")).await?;
    }
    run(&mut db, "CHECKPOINT").await?;
    Ok(db.close().await?)
}

async fn run(db: &mut PgConnection, sql: &str) -> Result<()> {
    db.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
    Ok(())
}
