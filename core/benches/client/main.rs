//! Throughput and latency of the client, beside the usual way (a statement or two for each call, on the same kind of
//! pool) and beside `pgbench` on the same statements. `make bench` runs it; docs/performance.md explains it.
//!
//! The machine may be noisy: all contenders take turns for a few rounds, and the median counts. Nothing is asserted of
//! time; a wrong answer ends the bench with an error.
//!
//! `AGENTKEY_BENCH_SECONDS`: seconds a measurement (default 1; below 1 there is one round only).
//! `AGENTKEY_BENCH_LARGE=1`: also compares tables of 1,000 and of 5,000,000 keys; making these takes a minute or two.
#![allow(clippy::float_arithmetic, reason = "figures for people")]

mod agentkey_client;
mod caps;
mod database;
mod large;
mod load;
mod per_request;
mod pgbench;
mod report;

use std::sync::Arc;
use std::time::Duration;

use agentkey::AgentKey;

use crate::agentkey_client::{Ours, row_writes};
use crate::database::{Database, Keys};
use crate::load::{Operation, Sample, Timing, measure};
use crate::per_request::PerRequest;
use crate::pgbench::Pgbench;
use crate::report::{Check, Row};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Keys that calls are spread over, where it is not one hot key.
const MANY: usize = 200;
/// Calls in flight.
const ALONE: usize = 1;
const CROWD: usize = 256;
/// Validates whose row writes are counted, and over how many keys.
const COUNTED_VALIDATES: usize = 1_000;
const COUNTED_KEYS: usize = 10;

#[tokio::main]
async fn main() -> Result<()> {
    let timing = Timing::from_environment()?;
    let database = Database::create().await?;
    let outcome = run(&database, timing).await;
    database.drop().await?;
    outcome
}

async fn run(database: &Database, timing: Timing) -> Result<()> {
    let client = AgentKey::connect(&database.url).await?;
    client.migrate().await?;
    let keys = Keys::create(&client, 1_000).await?;
    let exhausted = Keys::exhausted(&client).await?;
    let ours = Ours(client);
    let usual = PerRequest::connect(&database.url).await?;
    let pgbench = Pgbench::find(database, &keys.raw[..MANY]).await?;
    // As autovacuum would have done, but for all contenders at the same time.
    database.run("VACUUM ANALYZE sdk_api_keys").await?;

    report::heading(&database.description().await?, timing, pgbench.as_ref());
    let mut checks = Vec::new();
    for operation in [Operation::Validate, Operation::Charge] {
        for (named, count) in [("200 keys", MANY), ("one hot key", 1)] {
            let keys: Arc<[String]> = keys.raw[..count].into();
            let group = Group::measure(&ours, &usual, pgbench.as_ref(), operation, &keys, timing).await?;
            let rows = group.rows(operation.name(), named);
            rows.iter().for_each(report::row);
            checks.extend(rows.last().and_then(Check::throughput));
        }
    }
    let row = refused(&ours, &usual, &exhausted.raw.into(), timing).await?;
    report::row(&row);

    let caps = caps::rates(database, &keys, timing).await?;
    report::caps(&caps);
    checks.extend(Check::trees(&caps));

    let writes = row_writes(database, &keys.raw[..COUNTED_KEYS], COUNTED_VALIDATES).await?;
    checks.push(Check::row_writes(writes));
    if std::env::var_os("AGENTKEY_BENCH_LARGE").is_some_and(|value| value == "1") {
        checks.push(Check::large_table(large::latencies(database, timing).await?));
    }
    report::checks(&checks);
    ours.0.close().await;
    usual.close().await;
    Ok(())
}

/// The samples of all contenders for one operation on the same keys.
#[derive(Default)]
struct Group {
    ours: [Vec<Sample>; 2],
    usual: [Vec<Sample>; 2],
    /// Per client count, statements a second.
    pgbench: Vec<(usize, Vec<f64>)>,
}

impl Group {
    async fn measure(
        ours: &Ours,
        usual: &PerRequest,
        pgbench: Option<&Pgbench>,
        operation: Operation,
        keys: &Arc<[String]>,
        timing: Timing,
    ) -> Result<Self> {
        let mut group = Group::default();
        for _ in 0..timing.rounds() {
            for (place, in_flight) in [ALONE, CROWD].into_iter().enumerate() {
                group.ours[place].push(measure(ours, operation, keys, in_flight, timing).await?);
                group.usual[place].push(measure(usual, operation, keys, in_flight, timing).await?);
                usual.settle().await;
            }
            let Some(pgbench) = pgbench else { continue };
            for (place, clients) in pgbench::CLIENTS.into_iter().enumerate() {
                let statements = pgbench.run(operation, keys.len(), clients, timing).await?;
                match group.pgbench.get_mut(place) {
                    Some((_, samples)) => samples.push(statements),
                    None => group.pgbench.push((clients, vec![statements])),
                }
            }
        }
        Ok(group)
    }

    /// One call in flight is compared with one client of pgbench, many with its best number of clients.
    fn rows(self, operation: &'static str, keys: &'static str) -> [Row; 2] {
        let pgbench: Vec<_> =
            self.pgbench.into_iter().map(|(clients, rates)| (clients, report::median(rates))).collect();
        let alone = pgbench.iter().find(|(clients, _)| *clients == ALONE).copied();
        let best = pgbench.iter().max_by(|(_, one), (_, other)| one.total_cmp(other)).copied();
        let ([ours_alone, ours_crowd], [usual_alone, usual_crowd]) = (self.ours, self.usual);
        let row = |in_flight, ours, usual, pgbench| Row {
            operation,
            keys,
            in_flight,
            ours: Sample::median(ours),
            usual: Sample::median(usual),
            pgbench,
        };
        [row(ALONE, ours_alone, usual_alone, alone), row(CROWD, ours_crowd, usual_crowd, best)]
    }
}

/// Charges of a key whose budget is used up: all are refused.
async fn refused(ours: &Ours, usual: &PerRequest, keys: &Arc<[String]>, timing: Timing) -> Result<Row> {
    let (mut our_samples, mut usual_samples) = (Vec::new(), Vec::new());
    for _ in 0..timing.rounds() {
        our_samples.push(measure(ours, Operation::RefusedCharge, keys, CROWD, timing).await?);
        usual_samples.push(measure(usual, Operation::RefusedCharge, keys, CROWD, timing).await?);
    }
    Ok(Row {
        operation: Operation::RefusedCharge.name(),
        keys: "exhausted key",
        in_flight: CROWD,
        ours: Sample::median(our_samples),
        usual: Sample::median(usual_samples),
        pgbench: None,
    })
}

/// What one measurement may take beside its own time, when something hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
