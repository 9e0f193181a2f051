//! Random schedules of engines on a model database: lost replies, aborts, restarts, clocks that go on; and in each of
//! them the promises hold. No Postgres, no I/O, no time of its own.
//!
//! `AGENTKEY_SIM_SEED=n` runs one schedule and prints its trace; `AGENTKEY_SIM_SCHEDULES=n` sets how many there are.

#![allow(clippy::expect_used, clippy::panic, reason = "the model stops at what it cannot have been sent")]

mod books;
mod coverage;
mod database;
mod network;
mod promises;
mod random;
mod schedule;
mod setup;
mod world;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use coverage::Coverage;

const SCHEDULES: u64 = 30_000;

#[test]
fn promises_hold_in_every_schedule() {
    if let Some(seed) = number("AGENTKEY_SIM_SEED") {
        if let Err(why) = schedule::run(seed, true) {
            panic!("schedule {seed} breaks a promise: {why}");
        }
        return;
    }
    let schedules = number("AGENTKEY_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let total = Mutex::new(Coverage::default());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut coverage = Coverage::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= schedules || !failures.lock().unwrap().is_empty() {
                        break;
                    }
                    // A panic is a failure of its seed like any other.
                    let outcome = std::panic::catch_unwind(|| schedule::run(seed, false));
                    match outcome.unwrap_or_else(|_| Err("a panic, see above".to_owned())) {
                        Ok(met) => coverage.merge(&met),
                        Err(why) => failures.lock().unwrap().push((seed, why)),
                    }
                }
                total.lock().unwrap().merge(&coverage);
            });
        }
    });
    if let Some((seed, why)) = failures.lock().unwrap().iter().min() {
        panic!(
            "schedule {seed} breaks a promise: {why}\nreplay it with: \
             AGENTKEY_SIM_SEED={seed} cargo test -p agentkey --test simulation"
        );
    }
    let total = total.into_inner().unwrap();
    let line = format!(
        "{schedules} schedules in {:.1} s: {} charges recorded, {} refused for the budget, {} calls ended in a fault\n",
        started.elapsed().as_secs_f64(),
        total.of("charge", "recorded"),
        total.of("charge", "budget_exceeded"),
        total.of("error", "database") + total.of("error", "timeout"),
    );
    // Not by a macro: the test harness would keep it to itself.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if schedules >= SCHEDULES {
        assert_eq!(total.missing(), [], "what should happen now and then never did");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}
