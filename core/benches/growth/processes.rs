//! More processes, each with a client and a pool of its own, on the same keys.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agentkey::AgentKey;
use serde_json::json;

use crate::agentkey_client::Ours;
use crate::callers::OPERATIONS;
use crate::load::{Operation, Sample, Timing, latencies};
use crate::report::{Figures, Report};
use crate::tables::{self, KeyColumns, raw_key};
use crate::{Bench, MANY, Result};

const PROCESSES: [usize; 4] = [1, 2, 3, 4];
/// Calls in flight in each process.
const IN_FLIGHT: usize = 100;
const TABLE: &str = "process_keys";
/// For a process that calls: the database's URL, and what it calls.
const WORKER: &str = "AGENTKEY_BENCH_WORKER";
const OPERATION: &str = "AGENTKEY_BENCH_OPERATION";

pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    tables::keys(bench, TABLE, MANY as i64, KeyColumns::default()).await?;
    for operation in OPERATIONS {
        for processes in PROCESSES {
            let mut samples = Vec::new();
            for _ in 0..bench.timing.rounds() {
                let url = bench.database.url.clone();
                let timing = bench.timing;
                let all = tokio::task::spawn_blocking(move || together(&url, operation, processes));
                samples.push(Sample::of(all.await??, timing)?);
            }
            let name = operation.name();
            let figures = Figures::new([("operation", json!(name)), ("processes", json!(processes))]);
            let what = format!("{name}, {processes} processes, {IN_FLIGHT} in flight each");
            report.add(&what, figures.with("inFlight", IN_FLIGHT).sample(&Sample::median(samples)));
        }
    }
    tables::drop(bench, TABLE).await
}

/// The latencies of all processes.
fn together(url: &str, operation: Operation, processes: usize) -> Result<Vec<Duration>> {
    let start = |_| -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(WORKER, url).env(OPERATION, operation.name());
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
    };
    let mut children = (0..processes).map(start).collect::<Result<Vec<_>>>()?;
    let mut outputs = Vec::new();
    for child in &mut children {
        let mut output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line != "ready\n" {
            return Err("a process failed".into());
        }
        outputs.push(output);
    }
    // All are connected: they begin at the same time.
    for child in &mut children {
        child.stdin.take().ok_or("no stdin")?.write_all(b"go\n")?;
    }
    let mut all = Vec::new();
    for (mut child, mut output) in children.into_iter().zip(outputs) {
        let mut text = String::new();
        output.read_to_string(&mut text)?;
        if !child.wait()?.success() {
            return Err("a process failed".into());
        }
        for line in text.lines() {
            all.push(Duration::from_micros(line.parse()?));
        }
    }
    Ok(all)
}

/// One process of several.
pub struct Worker {
    url: String,
    operation: Operation,
}

impl Worker {
    pub fn from_environment() -> Result<Option<Self>> {
        let Ok(url) = std::env::var(WORKER) else { return Ok(None) };
        let name = std::env::var(OPERATION)?;
        let operation = OPERATIONS.into_iter().find(|operation| operation.name() == name);
        Ok(Some(Worker { url, operation: operation.ok_or("no such operation")? }))
    }

    /// Calls when it is told to, and prints how long each took.
    pub async fn run(self) -> Result<()> {
        let builder = AgentKey::builder().table_name(TABLE).touch_interval_seconds(86_400);
        let client = Ours(builder.connect(&self.url).await?);
        let keys: Arc<[String]> = (1..=MANY as i64).map(raw_key).collect();
        println!("ready");
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
        let timing = Timing::from_environment()?;
        let all = latencies(&client, self.operation, &keys, IN_FLIGHT, timing).await?;
        client.0.close().await;
        let lines: String = all.iter().map(|latency| format!("{}\n", latency.as_micros())).collect();
        Ok(std::io::stdout().write_all(lines.as_bytes())?)
    }
}
