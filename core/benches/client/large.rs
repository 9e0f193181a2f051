//! Whether a look-up stays as fast in a large table.

use std::sync::Arc;
use std::time::Duration;

use agentkey::AgentKey;

use crate::agentkey_client::Ours;
use crate::database::Database;
use crate::load::{Draw, Operation, Sample, Timing, measure};
use crate::{ALONE, Result};

const SMALL: usize = 1_000;
const LARGE: usize = 5_000_000;
/// Keys of the large table that are looked up.
const DRAWN: usize = 100_000;

/// The median latency of one validate at a time in a small and in a large table. Keys are drawn from all of the table;
/// no last use is due, so that it is look-ups that are compared.
pub async fn latencies(database: &Database, timing: Timing) -> Result<(Duration, Duration)> {
    eprintln!("making {LARGE} keys ...");
    let (small, small_keys) = table(database, "small_keys", SMALL).await?;
    let (large, large_keys) = table(database, "large_keys", LARGE).await?;
    database.run("CHECKPOINT").await?;
    let (mut small_samples, mut large_samples) = (Vec::new(), Vec::new());
    for _ in 0..timing.rounds() {
        small_samples.push(measure(&small, Operation::Validate, &small_keys, ALONE, timing).await?);
        large_samples.push(measure(&large, Operation::Validate, &large_keys, ALONE, timing).await?);
    }
    small.0.close().await;
    large.0.close().await;
    Ok((Sample::median(small_samples).p50, Sample::median(large_samples).p50))
}

/// A table like the one that migrations make, with so many keys, and raw keys that are in it.
async fn table(database: &Database, name: &str, count: usize) -> Result<(Ours, Arc<[String]>)> {
    // Indexes last: that is minutes faster.
    let make = format!(
        "CREATE TABLE {name} (LIKE sdk_api_keys INCLUDING DEFAULTS INCLUDING IDENTITY);
        INSERT INTO {name} (key_hash, key_prefix, name, account_id, scopes, budget_cents, budget_used_cents,
            budget_period, budget_reset_at, expires_at, delegated_by, last_used_at)
        SELECT encode(sha256(('ak_' || n)::bytea), 'hex'), 'ak_' || n, 'default', 'acct_' || n % 1000,
            '{{read,write}}', 5000, 0, 'month', now() + interval '20 days', now() + interval '30 days',
            'alice@example.com', now()
        FROM generate_series(0, {count} - 1) n;
        ALTER TABLE {name} ADD PRIMARY KEY (id), ADD UNIQUE (key_hash);"
    );
    database.run(&make).await?;
    database.run(&format!("VACUUM ANALYZE {name}")).await?;
    let client =
        AgentKey::builder().table_name(name).touch_interval_seconds(86_400).connect(&database.url).await?;
    let mut draw = Draw(0);
    let keys = (0..count.min(DRAWN)).map(|_| format!("ak_{}", draw.below(count))).collect();
    Ok((Ours(client), keys))
}
