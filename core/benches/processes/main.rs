//! Charges of two processes on the same keys: the rates of both together. Nothing is asserted of time; a cent that is
//! missing or too much ends the bench with an error.
//!
//! It uses little of the crate, so that `core/benches/compare.sh` can build it in earlier commits.
//! `AGENTKEY_BENCH_SECONDS`: seconds a measurement (default 1). `AGENTKEY_BENCH_ONLY`: a part of the names of those to run.
#![allow(clippy::float_arithmetic, reason = "figures for people")]

use std::io::{BufRead, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agentkey::{AgentKey, CreateKey};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PROCESSES: usize = 2;
/// Calls in flight in each process.
const IN_FLIGHT: usize = 128;
const KEYS: usize = 200;
/// More than any bench spends, in cents.
const LARGE_BUDGET: i64 = 1_000_000_000_000;
/// The database's URL, for a process that charges.
const WORKER: &str = "AGENTKEY_BENCH_WORKER";

#[tokio::main]
async fn main() -> Result<()> {
    if let Ok(url) = std::env::var(WORKER) {
        return work(&url).await;
    }
    let server_url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let name = format!("agentkey_bench_{}", std::process::id());
    let mut server = PgConnection::connect(&server_url).await?;
    server.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    let outcome = measure_all(&on_database(&server_url, &name)?).await;
    server.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await?;
    outcome
}

async fn measure_all(url: &str) -> Result<()> {
    let client = AgentKey::connect(url).await?;
    client.migrate().await?;
    let spec = || CreateKey::new("acct_bench").budget_cents(LARGE_BUDGET);
    let mut flat = Vec::new();
    for _ in 0..KEYS {
        flat.push(client.create(spec()).await?.key.expose().to_owned());
    }
    let parent = client.create(spec()).await?;
    let mut children = Vec::new();
    for _ in 0..KEYS {
        children.push(client.create(spec().parent(parent.id.clone())).await?.key.expose().to_owned());
    }
    client.close().await;
    let mut db = PgConnection::connect(url).await?;
    db.execute("VACUUM ANALYZE sdk_api_keys").await?;
    let only = std::env::var("AGENTKEY_BENCH_ONLY").unwrap_or_default();
    println!("{:<36} {:>12}", format!("{PROCESSES} processes, {IN_FLIGHT} in flight each"), "charges/s");
    for (what, keys) in [
        ("charge, 200 keys, two processes", flat.as_slice()),
        ("charge, one hot key, two processes", &flat[..1]),
        ("charge, 200 children of one parent, two processes", &children),
    ] {
        if !what.contains(&only) {
            continue;
        }
        let rate = measure(url, &mut db, keys).await?;
        println!("{what:<50} | {rate:.0} | charges/s |");
    }
    Ok(db.close().await?)
}

/// Charges a second of all processes together.
async fn measure(url: &str, db: &mut PgConnection, keys: &[String]) -> Result<f64> {
    db.execute("UPDATE sdk_api_keys SET budget_used_cents = 0").await?;
    let start = |_| -> Result<Child> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(WORKER, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().ok_or("no stdin")?.write_all(keys.join("\n").as_bytes())?;
        Ok(child)
    };
    let children = (0..PROCESSES).map(start).collect::<Result<Vec<_>>>()?;
    let (mut measured, mut total) = (0, 0);
    for child in children {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
        let text = String::from_utf8(output.stdout)?;
        let (in_time, all) = text.trim().split_once(' ').ok_or("a process failed")?;
        measured += in_time.parse::<u64>()?;
        total += all.parse::<u64>()?;
    }
    let recorded = "SELECT sum(budget_used_cents)::bigint FROM sdk_api_keys
        WHERE key_hash IN (SELECT encode(sha256(raw::bytea), 'hex') FROM unnest($1::text[]) raw)";
    let recorded: i64 = sqlx::query(recorded).bind(keys).fetch_one(&mut *db).await?.try_get(0)?;
    if recorded != i64::try_from(total)? {
        return Err(format!("{total} charges of a cent were acknowledged, {recorded} recorded").into());
    }
    Ok(measured as f64 / seconds()?.as_secs_f64())
}

/// One process: charges until its time is over, and prints how many of them were in the time measured and how many in
/// all.
async fn work(url: &str) -> Result<()> {
    let keys: Vec<String> = std::io::stdin().lock().lines().collect::<std::io::Result<_>>()?;
    let client = AgentKey::connect(url).await?;
    let from = Instant::now() + seconds()? / 2;
    let until = from + seconds()?;
    let mut callers = JoinSet::new();
    for caller in 0..IN_FLIGHT {
        let (client, keys) = (client.clone(), keys.clone());
        callers.spawn(async move {
            let (mut measured, mut total) = (0u64, 0u64);
            let mut place = caller;
            loop {
                // Steps of each caller's own.
                place = (place + 7 + 2 * caller) % keys.len();
                let _ = client.track_usage(&keys[place], 1).await?;
                total += 1;
                let now = Instant::now();
                measured += u64::from(now >= from && now < until);
                if now >= until {
                    return Result::Ok((measured, total));
                }
            }
        });
    }
    let (mut measured, mut total) = (0, 0);
    while let Some(caller) = callers.join_next().await {
        let (in_time, all) = caller??;
        measured += in_time;
        total += all;
    }
    println!("{measured} {total}");
    client.close().await;
    Ok(())
}

fn seconds() -> Result<Duration> {
    let text = std::env::var("AGENTKEY_BENCH_SECONDS").unwrap_or_else(|_| "1".to_owned());
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

fn on_database(server_url: &str, database: &str) -> Result<String> {
    use sqlx::ConnectOptions;
    let options: PgConnectOptions = server_url.parse()?;
    Ok(options.database(database).to_url_lossy().to_string())
}
