//! Which keys are called, and a measurement of some rounds.

use std::sync::Arc;
use std::time::Duration;

use crate::agentkey_client::Ours;
use crate::load::{Contender, Draw, Operation, Sample, Timing, latencies};
use crate::server::{Costs, Server};
use crate::tables::raw_key;
use crate::{Bench, Result};

/// More than are called in one round.
const DRAWN: usize = 300_000;

/// A measurement that answers nothing takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keys of a measurement.
#[derive(Debug, Clone)]
pub enum Source {
    These(Arc<[String]>),
    /// So many keys of a table that was made: of each round others, or what was called before would be in memory.
    AnyOf(i64),
}

impl Source {
    pub fn first(count: usize) -> Self {
        Source::These((1..=count as i64).map(raw_key).collect())
    }

    fn round(&self, seed: u64) -> Arc<[String]> {
        match self {
            Source::These(keys) => Arc::clone(keys),
            Source::AnyOf(count) => {
                let mut draw = Draw(seed << 32);
                (0..DRAWN).map(|_| raw_key(1 + draw.below(*count as usize) as i64)).collect()
            }
        }
    }
}

/// Numbers rounds, so that none draws what another drew.
static ROUND: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

/// The median of some rounds.
pub async fn rounds(
    contender: &impl Contender,
    operation: Operation,
    source: &Source,
    in_flight: usize,
    timing: Timing,
) -> Result<Sample> {
    let mut samples = Vec::new();
    for _ in 0..timing.rounds() {
        let keys = source.round(ROUND.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        samples.push(one_round(contender, operation, &keys, in_flight, timing).await?);
    }
    Ok(Sample::median(samples))
}

/// On a machine that is busy with something else, no call may be answered in time: then it takes longer.
async fn one_round(
    contender: &impl Contender,
    operation: Operation,
    keys: &Arc<[String]>,
    in_flight: usize,
    mut timing: Timing,
) -> Result<Sample> {
    loop {
        let answered = latencies(contender, operation, keys, in_flight, timing).await?;
        if !answered.is_empty() || timing.measured > PATIENCE {
            return Sample::of(answered, timing);
        }
        timing.measured *= 4;
    }
}

/// The same with a client of its own, and what its calls cost the server.
pub async fn rounds_and_costs<C: Contender>(
    bench: &Bench,
    builder: agentkey::Builder,
    contender: fn(Ours) -> C,
    operation: Operation,
    source: &Source,
    in_flight: usize,
) -> Result<(Sample, Costs)> {
    let client = builder.connect(&bench.database.url).await?;
    let before = Server::counters(bench).await?;
    let sample = rounds(&contender(Ours(client.clone())), operation, source, in_flight, bench.timing).await?;
    let calls: u64 = client.stats().calls.iter().map(|calls| calls.count).sum();
    client.close().await;
    // A backend tells what it counted at its end, at the latest.
    Server::wait_for_backends(bench).await?;
    let after = Server::counters(bench).await?;
    Ok((sample, after.since(&before, calls)))
}
