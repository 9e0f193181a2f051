//! The load: tasks that call, each again as soon as it was answered.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Result;
use crate::report::median;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Validate,
    /// Of one cent, which the budget has room for.
    Charge,
    /// Of one cent, which it has no room for.
    RefusedCharge,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Operation::Validate => "validate",
            Operation::Charge | Operation::RefusedCharge => "charge",
        }
    }
}

/// A way to do it, called with raw keys. Clones share connections.
pub trait Contender: Clone + Send + Sync + 'static {
    /// Whether the key is granted.
    fn validate(&self, raw_key: &str) -> impl Future<Output = Result<bool>> + Send;

    /// Whether the charge of one cent is recorded.
    fn charge(&self, raw_key: &str) -> impl Future<Output = Result<bool>> + Send;
}

/// How long is measured, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub measured: Duration,
}

impl Timing {
    pub fn from_environment() -> Result<Self> {
        let seconds = std::env::var("AGENTKEY_BENCH_SECONDS").unwrap_or_else(|_| "1".to_owned());
        let measured = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let measured = measured
            .filter(|time| !time.is_zero())
            .ok_or("AGENTKEY_BENCH_SECONDS is no number of seconds")?;
        Ok(Timing { measured })
    }

    pub fn rounds(self) -> usize {
        if self.measured < Duration::from_secs(1) { 1 } else { 3 }
    }

    pub fn warm_up(self) -> Duration {
        self.measured / 4
    }
}

/// What a load achieved.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

impl Sample {
    pub fn of(mut latencies: Vec<Duration>, timing: Timing) -> Result<Sample> {
        if latencies.is_empty() {
            return Err("no call was answered in the time measured".into());
        }
        latencies.sort_unstable();
        let percentile = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
        let per_second = latencies.len() as f64 / timing.measured.as_secs_f64();
        Ok(Sample { per_second, p50: percentile(50), p99: percentile(99) })
    }

    /// The median of each figure.
    pub fn median(samples: Vec<Sample>) -> Sample {
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Sample {
            per_second: of(|sample| sample.per_second),
            p50: Duration::from_secs_f64(of(|sample| sample.p50.as_secs_f64())),
            p99: Duration::from_secs_f64(of(|sample| sample.p99.as_secs_f64())),
        }
    }
}

/// Calls with `in_flight` at a time on keys drawn at random.
pub async fn measure(
    contender: &impl Contender,
    operation: Operation,
    keys: &Arc<[String]>,
    in_flight: usize,
    timing: Timing,
) -> Result<Sample> {
    Sample::of(latencies(contender, operation, keys, in_flight, timing).await?, timing)
}

/// The latencies of such calls, in no order.
pub async fn latencies(
    contender: &impl Contender,
    operation: Operation,
    keys: &Arc<[String]>,
    in_flight: usize,
    timing: Timing,
) -> Result<Vec<Duration>> {
    let from = Instant::now() + timing.warm_up();
    let until = from + timing.measured;
    let mut callers = JoinSet::new();
    for caller in 0..in_flight {
        callers.spawn(call(contender.clone(), operation, Arc::clone(keys), caller as u64, from, until));
    }
    let mut latencies = Vec::new();
    while let Some(caller) = callers.join_next().await {
        latencies.extend(caller??);
    }
    Ok(latencies)
}

/// One caller; the latencies of the calls that were answered in time.
async fn call(
    contender: impl Contender,
    operation: Operation,
    keys: Arc<[String]>,
    seed: u64,
    from: Instant,
    until: Instant,
) -> Result<Vec<Duration>> {
    let mut draw = Draw(seed);
    let mut latencies = Vec::new();
    let mut before = Instant::now();
    loop {
        let key = &keys[draw.below(keys.len())];
        let (answer, expected) = match operation {
            Operation::Validate => (contender.validate(key).await?, true),
            Operation::Charge => (contender.charge(key).await?, true),
            Operation::RefusedCharge => (contender.charge(key).await?, false),
        };
        if answer != expected {
            return Err(format!("a wrong answer: {operation:?} gave {answer}").into());
        }
        let now = Instant::now();
        if now >= until {
            return Ok(latencies);
        }
        if now >= from {
            latencies.push(now - before);
        }
        before = now;
    }
}

/// Numbers that are random enough: SplitMix64.
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * limit as u128) >> 64) as usize
    }
}
