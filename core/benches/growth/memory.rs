//! The memory of a client after very many calls over very many keys.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentkey::{AgentKey, DenialReason};
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::Draw;
use crate::report::{Figures, Report, megabytes};
use crate::tables::{self, KeyColumns, raw_key};
use crate::{Bench, Result, number};

const TABLE: &str = "memory_keys";
/// The database's URL, for the process whose memory is measured.
pub const WORKER: &str = "AGENTKEY_BENCH_MEMORY";
/// Calls in flight.
const IN_FLIGHT: u64 = 1_000;
/// How often its memory is looked at.
const LOOKS: u64 = 20;

fn calls() -> Result<i64> {
    number("AGENTKEY_BENCH_CALLS", 10_000_000, 10_000)
}

/// Of ten keys one has a parent, one is a parent, and one has no budget left.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    // The keys fit into memory: that is about the client here.
    bench.server.restart_with(&[("shared_buffers", "1GB"), ("max_wal_size", "8GB")]).await?;
    let columns = KeyColumns {
        budget_cents: "CASE n % 10 WHEN 3 THEN 0 ELSE 1000000000000 END",
        parent: "CASE n % 10 WHEN 2 THEN n - 1 END",
        has_children: "n % 10 = 1",
        ..KeyColumns::default()
    };
    tables::keys(bench, TABLE, calls()? / 10, columns).await?;
    let url = bench.database.url.clone();
    let looks = tokio::task::spawn_blocking(move || watch(&url)).await??;
    let mut before = (0, Duration::ZERO);
    for (calls, micros, bytes) in &looks {
        let took = Duration::from_micros(*micros) - before.1;
        let rate = (calls - before.0) as f64 / took.as_secs_f64();
        before = (*calls, Duration::from_micros(*micros));
        let figures = Figures::new([("calls", json!(calls)), ("residentBytes", json!(bytes))]);
        report.note(
            &format!("{calls} calls, {rate:.0} a second: {} resident", megabytes(*bytes as i64)),
            figures.with("perSecond", rate.round() as u64),
        );
    }
    let half = looks.get(looks.len() / 2).map_or(0, |look| look.2);
    let last = looks.last().map_or(0, |look| look.2);
    println!("in the second half: {:+.1} MB", (last as f64 - half as f64) / 1e6);
    tables::drop(bench, TABLE).await?;
    bench.server.reset().await
}

/// Calls, microseconds and bytes, as the process tells them.
fn watch(url: &str) -> Result<Vec<(u64, u64, u64)>> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.env(WORKER, url).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut looks = Vec::new();
    for line in BufReader::new(child.stdout.take().ok_or("no stdout")?).lines() {
        let line = line?;
        let numbers = line.split(' ').map(str::parse).collect::<std::result::Result<Vec<u64>, _>>()?;
        let [calls, micros, bytes] = numbers[..] else {
            return Err(format!("not understood: {line}").into());
        };
        looks.push((calls, micros, bytes));
    }
    if child.wait()?.success() { Ok(looks) } else { Err("the process failed".into()) }
}

/// The process: a mix of calls on keys drawn at random.
pub async fn work(url: &str) -> Result<()> {
    let (calls, keys) = (calls()? as u64, calls()? / 10);
    let builder = AgentKey::builder().table_name(TABLE).touch_interval_seconds(86_400);
    // The machine may be busy with something else.
    let client = builder.timeout(Duration::from_secs(120)).connect(url).await?;
    let (made, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut callers = JoinSet::new();
    for caller in 0..IN_FLIGHT {
        let (client, made) = (client.clone(), Arc::clone(&made));
        callers.spawn(async move {
            let mut draw = Draw(caller << 32);
            loop {
                let place = made.fetch_add(1, Ordering::Relaxed);
                if place >= calls {
                    return Result::Ok(());
                }
                call(&client, 1 + draw.below(keys as usize) as i64, place).await?;
                if (place + 1).is_multiple_of((calls / LOOKS).max(1)) {
                    println!("{} {} {}", place + 1, begun.elapsed().as_micros(), resident()?);
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    client.close().await;
    Ok(())
}

async fn call(client: &AgentKey, n: i64, place: u64) -> Result<()> {
    let has_budget = n % 10 != 3;
    let is_right = match place % 20 {
        0..14 => match client.validate(&raw_key(n)).await? {
            Ok(_) => has_budget,
            Err(denial) => !has_budget && denial.reason == DenialReason::BudgetExceeded,
        },
        // Of no key.
        14 => client.validate(&format!("ak_no_{n}")).await?.is_err(),
        15..18 => client.track_usage(&raw_key(n), 1).await?.is_ok() == has_budget,
        18 => {
            let id = client.track_usage_by_id(n, 1).await?;
            id.is_ok() == has_budget
        }
        _ => match client.reserve(&raw_key(n), 2).await? {
            Ok(held) => has_budget && client.settle(&held.id, 1).await?.is_ok(),
            Err(_) => !has_budget,
        },
    };
    if is_right { Ok(()) } else { Err(format!("a wrong answer: of key {n}, call {place}").into()) }
}

/// What the system says of this process.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}
