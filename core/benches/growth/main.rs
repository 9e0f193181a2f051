//! What calls cost as things grow: callers, processes, connections, keys, the ledger, reservations that have ended, and
//! the memory of a client. `make bench-growth` runs it; docs/performance.md shows the plots that `make plots` draws of it.
//!
//! It prints a table and writes `target/bench/growth.json`; a part that is run alone replaces its own figures there.
//! Nothing is asserted of time. A wrong answer ends the bench with an error.
//!
//! `AGENTKEY_BENCH_SECONDS`: seconds a measurement (default 1; below 1 there is one round only).
//! `AGENTKEY_BENCH_ONLY`: names of parts, by commas: callers, processes, connections, keys, ledger, reservations, memory.
//! `AGENTKEY_BENCH_KEYS` (default 5,000,000), `AGENTKEY_BENCH_ENTRIES` (20,000,000), `AGENTKEY_BENCH_RESERVATIONS`
//! (2,000,000), `AGENTKEY_BENCH_CALLS` (10,000,000, over a tenth as many keys): how far they grow.
//! `AGENTKEY_BENCH_OUTPUT`: another file for the figures.
#![allow(clippy::float_arithmetic, reason = "figures for people")]

#[path = "../client/agentkey_client.rs"]
#[allow(dead_code, reason = "shared with another bench")]
mod agentkey_client;
mod callers;
#[path = "../client/database.rs"]
#[allow(dead_code, reason = "shared with another bench")]
mod database;
mod keys;
mod ledger;
#[path = "../client/load.rs"]
#[allow(dead_code, reason = "shared with another bench")]
mod load;
mod memory;
mod processes;
mod report;
mod reservations;
mod server;
mod source;
mod tables;

use std::time::Duration;

use agentkey::AgentKey;

use crate::agentkey_client::Ours;
use crate::database::Database;
use crate::load::Timing;
use crate::report::Report;
use crate::server::Server;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Keys that calls are spread over where their number does not matter.
const MANY: usize = 200;
const CROWD: usize = 256;

/// What all parts need.
struct Bench {
    database: Database,
    server: Server,
    timing: Timing,
}

impl Bench {
    fn builder(&self, table: &str) -> agentkey::Builder {
        // `last_used_at` is written once a minute and key otherwise: that is another load.
        // The machine may be busy with something else: a call may take long.
        let builder = AgentKey::builder().timeout(Duration::from_secs(120));
        builder.table_name(table).touch_interval_seconds(86_400)
    }

    /// A client with default options.
    async fn client(&self, table: &str) -> Result<Ours> {
        Ok(Ours(self.builder(table).connect(&self.database.url).await?))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(worker) = processes::Worker::from_environment()? {
        return worker.run().await;
    }
    if let Ok(url) = std::env::var(memory::WORKER) {
        return memory::work(&url).await;
    }
    let timing = Timing::from_environment()?;
    let only = std::env::var("AGENTKEY_BENCH_ONLY").unwrap_or_default();
    let parts = Part::named(&only)?;
    let database = Database::create().await?;
    let server = Server::of(&database).await?;
    let bench = Bench { database, server, timing };
    let outcome = run(&bench, &parts).await;
    bench.server.reset().await?;
    bench.database.drop().await?;
    outcome
}

async fn run(bench: &Bench, parts: &[Part]) -> Result<()> {
    let mut report = Report::new(bench).await?;
    for part in parts {
        report.begin(part.name());
        match part {
            Part::Callers => callers::in_flight(bench, &mut report).await?,
            Part::Processes => processes::measure(bench, &mut report).await?,
            Part::Connections => callers::connections(bench, &mut report).await?,
            Part::Keys => keys::measure(bench, &mut report).await?,
            Part::Ledger => ledger::measure(bench, &mut report).await?,
            Part::Reservations => reservations::measure(bench, &mut report).await?,
            Part::Memory => memory::measure(bench, &mut report).await?,
        }
        report.end()?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Callers,
    Processes,
    Connections,
    Keys,
    Ledger,
    Reservations,
    Memory,
}

impl Part {
    const ALL: [Part; 7] = [
        Part::Callers,
        Part::Processes,
        Part::Connections,
        Part::Keys,
        Part::Ledger,
        Part::Reservations,
        Part::Memory,
    ];

    fn name(self) -> &'static str {
        match self {
            Part::Callers => "callers",
            Part::Processes => "processes",
            Part::Connections => "connections",
            Part::Keys => "keys",
            Part::Ledger => "ledger",
            Part::Reservations => "reservations",
            Part::Memory => "memory",
        }
    }

    /// Those of a list, or all if it is empty.
    fn named(list: &str) -> Result<Vec<Part>> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let found = names.map(|name| {
            let part = Part::ALL.into_iter().find(|part| part.name() == name);
            part.ok_or_else(|| format!("AGENTKEY_BENCH_ONLY: there is no part {name}").into())
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        Ok(if found.is_empty() { Part::ALL.to_vec() } else { found })
    }
}

/// A number from the environment.
fn number(name: &str, default: i64, least: i64) -> Result<i64> {
    let Ok(text) = std::env::var(name) else { return Ok(default) };
    let number: i64 = text.parse().map_err(|_| format!("{name} is no number"))?;
    if number < least { Err(format!("{name}: at least {least}").into()) } else { Ok(number) }
}
