//! More calls at a time, and fewer connections.

use serde_json::json;

use crate::agentkey_client::Ours;
use crate::load::Operation;
use crate::report::{Figures, Report};
use crate::source::{Source, rounds};
use crate::tables::{self, KeyColumns};
use crate::{Bench, CROWD, MANY, Result};

pub const OPERATIONS: [Operation; 2] = [Operation::Validate, Operation::Charge];
const IN_FLIGHT: [usize; 4] = [1, 10, 100, 1_000];
const CONNECTIONS: [u32; 4] = [1, 2, 5, 10];
const TABLE: &str = "crowd_keys";

pub async fn in_flight(bench: &Bench, report: &mut Report) -> Result<()> {
    tables::keys(bench, TABLE, MANY as i64, KeyColumns::default()).await?;
    let client = bench.client(TABLE).await?;
    for operation in OPERATIONS {
        for in_flight in IN_FLIGHT {
            let sample = rounds(&client, operation, &Source::first(MANY), in_flight, bench.timing).await?;
            let name = operation.name();
            let figures = Figures::new([("operation", json!(name)), ("inFlight", json!(in_flight))]);
            report.add(&format!("{name}, {in_flight} in flight"), figures.sample(&sample));
        }
    }
    client.0.close().await;
    tables::drop(bench, TABLE).await
}

pub async fn connections(bench: &Bench, report: &mut Report) -> Result<()> {
    tables::keys(bench, TABLE, MANY as i64, KeyColumns::default()).await?;
    for operation in OPERATIONS {
        for connections in CONNECTIONS {
            let client = bench.builder(TABLE).pool_size(connections).connect(&bench.database.url).await?;
            let client = Ours(client);
            let sample = rounds(&client, operation, &Source::first(MANY), CROWD, bench.timing).await?;
            client.0.close().await;
            let name = operation.name();
            let figures = Figures::new([("operation", json!(name)), ("connections", json!(connections))]);
            let what = format!("{name}, {CROWD} in flight, a pool of {connections}");
            report.add(&what, figures.with("inFlight", CROWD).sample(&sample));
        }
    }
    tables::drop(bench, TABLE).await
}
