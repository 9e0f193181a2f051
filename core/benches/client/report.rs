//! What is printed.

use std::time::Duration;

use crate::CROWD;
use crate::load::{Sample, Timing};
use crate::pgbench::Pgbench;

/// One workload: what each contender achieved.
pub struct Row {
    pub operation: &'static str,
    pub keys: &'static str,
    pub in_flight: usize,
    pub ours: Sample,
    pub usual: Sample,
    /// Clients, and statements a second.
    pub pgbench: Option<(usize, f64)>,
}

/// A figure beside its target.
pub struct Check {
    what: String,
    figure: String,
    must: String,
    passed: bool,
}

impl Check {
    /// What a throughput must be, as a multiple of pgbench's best.
    pub fn throughput(row: &Row) -> Option<Check> {
        let must = match (row.operation, row.keys) {
            ("validate", _) => 5.0,
            ("charge", "one hot key") => 30.0,
            ("charge", _) => 6.0,
            _ => return None,
        };
        let (_, pgbench) = row.pgbench?;
        let ratio = row.ours.per_second / pgbench;
        Some(Check {
            what: format!("{}, {}, {CROWD} in flight, against pgbench's best", row.operation, row.keys),
            figure: format!("{ratio:.1}x"),
            must: format!("at least {must}x"),
            passed: ratio >= must,
        })
    }

    /// What charges of the third level of a tree must be, as a part of those of flat keys.
    pub fn trees(caps: &[(&'static str, f64)]) -> Option<Check> {
        let [(_, flat), (what, trees), ..] = caps else { return None };
        let part = trees / flat;
        Some(Check {
            what: format!("{what}, {CROWD} in flight, against flat keys"),
            figure: format!("{part:.2}x"),
            must: "at least 0.30x".to_owned(),
            passed: part >= 0.3,
        })
    }

    pub fn row_writes(writes: u64) -> Check {
        Check {
            what: format!(
                "row writes by {} validates of {} keys",
                crate::COUNTED_VALIDATES,
                crate::COUNTED_KEYS
            ),
            figure: writes.to_string(),
            must: "at most 10".to_owned(),
            passed: writes <= 10,
        }
    }

    pub fn large_table((small, large): (Duration, Duration)) -> Check {
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        Check {
            what: format!("validate at 5,000,000 keys ({}) against 1,000 ({})", micros(large), micros(small)),
            figure: format!("{ratio:.2}x"),
            must: "at most 1.3x".to_owned(),
            passed: ratio <= 1.3,
        }
    }
}

/// What the general statements achieve.
pub fn caps(caps: &[(&'static str, f64)]) {
    let Some((_, flat)) = caps.first() else { return };
    println!("\n{:<36} {:>12} {:>8}", format!("{CROWD} in flight, 200 keys"), "agentkey/s", "");
    for (what, rate) in caps {
        println!("{what:<36} {rate:>12.0} {:>7.2}x", rate / flat);
    }
}

pub fn heading(server: &str, timing: Timing, pgbench: Option<&Pgbench>) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores for clients and server together. {server}.");
    match timing.rounds() {
        1 => println!("One round of {:?} each: too short for more than a first look.", timing.measured),
        rounds => {
            println!("Median of {rounds} rounds of {:?} each, all contenders in turn.", timing.measured)
        }
    }
    match pgbench {
        Some(pgbench) => {
            println!("pgbench: {} -M prepared, best number of clients.", pgbench.binary().display())
        }
        None => println!("pgbench was not found: nothing is compared with it."),
    }
    println!();
    println!(
        "{:<9}{:<14}{:>9} |{:>11}{:>10}{:>10} |{:>12}{:>8}{:>10}{:>10} |{:>16}{:>8}",
        "",
        "keys",
        "in flight",
        "agentkey/s",
        "p50",
        "p99",
        "per call/s",
        "ratio",
        "p50",
        "p99",
        "pgbench/s",
        "ratio"
    );
}

pub fn row(row: &Row) {
    let pgbench = match row.pgbench {
        Some((clients, rate)) => {
            format!("{:>16}{:>8}", format!("{rate:.0} ({clients})"), ratio(row.ours.per_second, rate))
        }
        None => format!("{:>16}{:>8}", "", ""),
    };
    println!(
        "{:<9}{:<14}{:>9} |{:>11.0}{:>10}{:>10} |{:>12.0}{:>8}{:>10}{:>10} |{pgbench}",
        row.operation,
        row.keys,
        row.in_flight,
        row.ours.per_second,
        micros(row.ours.p50),
        micros(row.ours.p99),
        row.usual.per_second,
        ratio(row.ours.per_second, row.usual.per_second),
        micros(row.usual.p50),
        micros(row.usual.p99),
    );
}

pub fn checks(checks: &[Check]) {
    println!("\nTargets");
    for check in checks {
        let verdict = if check.passed { "PASS" } else { "short of target" };
        println!("  {}: {} ({}): {verdict}", check.what, check.figure, check.must);
    }
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ratio(ours: f64, theirs: f64) -> String {
    format!("{:.1}x", ours / theirs)
}

fn micros(time: Duration) -> String {
    format!("{} us", time.as_micros())
}
