//! What it takes to live with very many keys: reading, changing, listing and explaining them, and the panic switch. One call
//! at a time, on keys drawn at random. Nothing is asserted of time; a wrong answer ends the bench with an error.
//!
//! `AGENTKEY_BENCH_KEYS`: how many keys (default 5,000,000; 5 minutes and 6 GB of disk). `AGENTKEY_BENCH_CALLS`: calls of
//! each kind (default 300). `AGENTKEY_BENCH_KEEP=1`: the database stays and is used again, with `tests/postgres.sh run --dir`.
//! `AGENTKEY_BENCH_ONLY`: a part of the names of those to run.
#![allow(clippy::float_arithmetic, reason = "figures for people")]

mod calls;
mod table;

use std::time::{Duration, Instant};

use agentkey::AgentKey;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use crate::calls::Call;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What each call may take, at the 99th percentile.
const TARGET: Duration = Duration::from_millis(50);
/// Calls of a kind before those that are measured.
const WARM_UP: usize = 20;

#[tokio::main]
async fn main() -> Result<()> {
    let server_url =
        std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set: run `make bench-keys`")?;
    let keys = number("AGENTKEY_BENCH_KEYS", 5_000_000)?.max(table::FEWEST);
    let calls = number("AGENTKEY_BENCH_CALLS", 300)?;
    let keep = std::env::var_os("AGENTKEY_BENCH_KEEP").is_some_and(|value| value == "1");
    let name = format!("agentkey_bench_keys_{keys}");
    let mut server = PgConnection::connect(&server_url).await?;
    let is_there = server
        .fetch_optional(AssertSqlSafe(format!("SELECT FROM pg_database WHERE datname = '{name}'")))
        .await?;
    if is_there.is_some() && !keep {
        return Err(format!("there is a database {name} already").into());
    }
    let options: PgConnectOptions = server_url.parse()?;
    let url = options.database(&name).to_url_lossy().to_string();
    if is_there.is_none() {
        server.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    }
    let outcome = run(&url, keys, calls as usize, is_there.is_none()).await;
    if !keep {
        server.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await?;
    }
    outcome
}

async fn run(url: &str, keys: i64, calls: usize, is_new: bool) -> Result<()> {
    // What reads the whole table takes longer than a call usually may.
    let ak = AgentKey::builder().timeout(Duration::from_secs(120)).connect(url).await?;
    if is_new {
        table::make(&ak, url, keys).await?;
    }
    let mut connection = PgConnection::connect(url).await?;
    let about =
        "SELECT format('Postgres %s, shared_buffers %s, %s of keys', current_setting('server_version'),
        current_setting('shared_buffers'), pg_size_pretty(pg_total_relation_size('sdk_api_keys')))";
    let about: String = connection.fetch_one(about).await?.try_get(0)?;
    println!("{about}. {keys} keys; {calls} calls of each kind, one at a time.\n");
    println!("{:<66} {:>9} {:>9}", "", "p50", "p99");
    let only = std::env::var("AGENTKEY_BENCH_ONLY").unwrap_or_default();
    let mut slow = Vec::new();
    for call in Call::ALL.iter().filter(|call| call.name().contains(&only)) {
        let mut times = Vec::with_capacity(calls);
        let wanted = call.most().map_or(calls, |most| most.min(calls));
        for place in 0..WARM_UP.min(wanted) + wanted {
            let begun = Instant::now();
            call.make(&ak, keys, place as i64).await.map_err(|error| format!("{}: {error}", call.name()))?;
            times.push(begun.elapsed());
        }
        times.drain(..WARM_UP.min(wanted));
        times.sort_unstable();
        let percentile = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("{:<66} {:>9} {:>9}", call.name(), millis(percentile(50)), millis(percentile(99)));
        if percentile(99) >= TARGET {
            slow.push(call.name());
        }
    }
    println!(
        "\nbelow {} at the 99th percentile: {}",
        millis(TARGET),
        if slow.is_empty() { "all".to_owned() } else { format!("all but {}", slow.join("; ")) }
    );
    ak.close().await;
    Ok(())
}

fn number(name: &str, default: i64) -> Result<i64> {
    let Ok(text) = std::env::var(name) else { return Ok(default) };
    Ok(text.parse().map_err(|_| format!("{name} is no number"))?)
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
