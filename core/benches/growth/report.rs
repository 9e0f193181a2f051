//! What is printed, and the file of figures.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::load::Sample;
use crate::server::Costs;
use crate::{Bench, Result};

pub struct Report {
    path: PathBuf,
    about: Value,
    part: &'static str,
    begun: Instant,
    figures: Vec<Value>,
}

/// Figures of one measurement.
pub struct Figures(Map<String, Value>);

impl Figures {
    /// Of one measurement, by names and values.
    pub fn new<const N: usize>(facts: [(&str, Value); N]) -> Self {
        Figures(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub fn sample(self, sample: &Sample) -> Self {
        self.with("perSecond", rounded(sample.per_second))
            .with("p50Micros", sample.p50.as_micros() as u64)
            .with("p99Micros", sample.p99.as_micros() as u64)
    }

    /// What each call cost the server.
    pub fn costs(self, costs: &Costs) -> Self {
        self.with("walBytesPerCall", rounded(costs.wal_bytes))
            .with("fullPagesPerCall", (costs.full_pages * 1_000.0).round() / 1_000.0)
            .with("blocksReadPerCall", (costs.blocks_read * 1_000.0).round() / 1_000.0)
    }
}

impl Report {
    pub async fn new(bench: &Bench) -> Result<Self> {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/growth.json");
        let path = std::env::var_os("AGENTKEY_BENCH_OUTPUT").map_or(default, PathBuf::from);
        let server = bench.database.description().await?;
        let day = bench.database.text("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')").await?;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!("{cores} cores for clients and server together. {server}.");
        println!("Median of {} rounds of {:?} each.", bench.timing.rounds(), bench.timing.measured);
        let seconds = bench.timing.measured.as_secs_f64();
        let about = json!({ "cores": cores, "server": server, "day": day, "seconds": seconds });
        Ok(Report { path, about, part: "", begun: Instant::now(), figures: Vec::new() })
    }

    pub fn begin(&mut self, part: &'static str) {
        self.part = part;
        self.begun = Instant::now();
        println!(
            "\n{part:<74} {:>10} {:>9} {:>9}  log, full pages and blocks read a call",
            "a second", "p50", "p99"
        );
    }

    pub fn add(&mut self, what: &str, figures: Figures) {
        let figures = figures.0;
        let number = |name: &str| figures.get(name).and_then(Value::as_f64);
        let mut line = format!("{what:<74}");
        if let (Some(rate), Some(p50), Some(p99)) =
            (number("perSecond"), number("p50Micros"), number("p99Micros"))
        {
            line += &format!(" {rate:>10.0} {:>9} {:>9}", micros(p50), micros(p99));
        }
        if let (Some(wal), Some(pages), Some(blocks)) =
            (number("walBytesPerCall"), number("fullPagesPerCall"), number("blocksReadPerCall"))
        {
            line += &format!("  {wal:.0} B, {pages:.2}, {blocks:.2}");
        }
        println!("{line}");
        self.figures.push(Value::Object(figures));
    }

    /// A line that is not measured by calls.
    pub fn note(&mut self, what: &str, figures: Figures) {
        println!("{what}");
        self.figures.push(Value::Object(figures.0));
    }

    /// Writes the figures of a part beside those of others.
    pub fn end(&mut self) -> Result<()> {
        println!("({} took {:.0?})", self.part, self.begun.elapsed());
        let mut all: Map<String, Value> = match std::fs::read(&self.path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", self.path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(error.into()),
        };
        let mut about = self.about.clone();
        about["tookSeconds"] = json!(self.begun.elapsed().as_secs());
        let figures = std::mem::take(&mut self.figures);
        all.insert(self.part.to_owned(), json!({ "about": about, "figures": figures }));
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&self.path, serde_json::to_string_pretty(&all)? + "\n")?;
        Ok(())
    }
}

/// Four digits are more than a bench knows.
fn rounded(number: f64) -> Value {
    let unit = 10f64.powi((number.abs().max(1.0).log10().floor() as i32 - 3).max(0));
    json!(((number / unit).round() * unit) as u64)
}

fn micros(micros: f64) -> String {
    match micros {
        ..10_000.0 => format!("{micros:.0} us"),
        _ => format!("{:.0} ms", Duration::from_micros(micros as u64).as_secs_f64() * 1_000.0),
    }
}

pub fn megabytes(bytes: i64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
