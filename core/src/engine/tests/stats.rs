//! What an engine counts.

use super::*;
use crate::engine::stats::{CallCount, CallOutcome, FamilyStats};

const MS: Duration = Duration::from_millis(1);

fn family(bench: &Bench, name: &str) -> FamilyStats {
    let stats = bench.engine.stats();
    stats.families.into_iter().find(|family| family.family == name).expect("no such statement was sent")
}

/// The calls of one operation, by what became of them.
fn ends(bench: &Bench, operation: &str) -> Vec<(CallOutcome, Option<&'static str>, u64)> {
    let of =
        |call: CallCount| (call.operation == operation).then_some((call.outcome, call.reason, call.count));
    bench.engine.stats().calls.into_iter().filter_map(of).collect()
}

#[test]
fn a_statement_says_how_many_shared_it_how_long_they_waited_and_how_long_it_took() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.charge("a", 1);
    let first = bench.sent_one();
    for _ in 0..3 {
        bench.charge("b", 1);
    }
    bench.now += 20 * MS;
    bench.rows(&first, [charged(1, 0, 1)]);
    let second = bench.sent_one();
    bench.now += 2 * MS;
    bench.rows(&second, [charged(1, 0, 3)]);
    let charges = family(&bench, "charge");
    assert_eq!((charges.batch_sizes.count(), charges.batch_sizes.sum), (2, 4));
    // One of one call, one of three.
    assert_eq!(charges.batch_sizes.counts[..3], [1, 0, 1]);
    assert_eq!((charges.wait_micros.count(), charges.wait_micros.sum), (4, 60_000));
    assert_eq!((charges.statement_micros.count(), charges.statement_micros.sum), (2, 22_000));
    assert_eq!(bench.engine.stats().statements, 4, "the catalogue, a look-up and two charges");
}

#[test]
fn what_waits_for_a_connection_is_not_sent_and_waits() {
    let mut bench = Bench::ready(Options::default());
    let before = bench.engine.stats().statements;
    bench.charge("a", 1);
    let charge = bench.sent_one();
    bench.engine.hold(charge.id);
    assert_eq!(bench.engine.stats().statements, before);
    bench.now += 5 * MS;
    assert!(matches!(bench.engine.begin(bench.now, charge.id), Begun::AsItIs));
    bench.now += MS;
    bench.rows(&charge, [charged(1, 0, 1)]);
    let charges = family(&bench, "charge");
    assert_eq!((charges.wait_micros.sum, charges.statement_micros.sum), (5_000, 1_000));
    assert_eq!(bench.engine.stats().statements, before + 1);
}

#[test]
fn calls_are_counted_by_what_became_of_them() {
    let mut bench = Bench::ready(Options { max_waiting: 1, ..Options::default() });
    assert_eq!(ends(&bench, "validate"), [(CallOutcome::Refused, Some("invalid"), 1)]);
    bench.charge("a", 1);
    let charge = bench.sent_one();
    bench.engine.submit(bench.now, Request::Validate(subject_of("a"))).unwrap_err();
    bench.rows(&charge, [charged(1, 0, 1)]);
    bench.submit(Request::Charge(subject_of("a"), Charge::new(Cost::Invalid)));
    bench.charge("a", 1);
    bench.sent_one();
    bench.pass(Duration::from_secs(10));
    assert_eq!(
        ends(&bench, "track_usage"),
        [
            (CallOutcome::Success, None, 1),
            (CallOutcome::Refused, Some("invalid_cost"), 1),
            (CallOutcome::Error, Some("timeout"), 1),
        ]
    );
    assert_eq!(
        ends(&bench, "validate"),
        [(CallOutcome::Refused, Some("invalid"), 1), (CallOutcome::Error, Some("overloaded"), 1)]
    );
}

#[test]
fn a_statement_that_nobody_waits_for_any_more_is_counted_once_and_takes_its_time() {
    let mut bench = Bench::ready(Options::default());
    bench.charge("a", 1);
    let charge = bench.sent_one();
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.engine.stats().given_up_statements, 1);
    assert_eq!(family(&bench, "charge").batch_sizes.sum, 1);
    bench.pass(Duration::from_secs(5));
    bench.rows(&charge, [charged(1, 0, 1)]);
    let charges = family(&bench, "charge");
    assert_eq!((charges.batch_sizes.count(), charges.statement_micros.sum), (1, 15_000_000));
    assert_eq!(bench.engine.stats().given_up_statements, 1);
}

#[test]
fn a_call_waits_anew_after_a_statement_that_failed() {
    let mut bench = Bench::ready(Options::default());
    bench.charge("a", 1);
    let first = bench.sent_one();
    bench.now += 50 * MS;
    bench.fails(&first, Some("40P01"));
    let failed_at = bench.now;
    bench.pass_pause();
    let pause = bench.now - failed_at;
    let second = bench.sent_one();
    bench.rows(&second, [charged(1, 0, 1)]);
    let waits = family(&bench, "charge").wait_micros;
    assert_eq!((waits.count(), u128::from(waits.sum)), (2, pause.as_micros()));
    assert_eq!(bench.engine.stats().retries, 1);
}

#[test]
fn a_failed_touch_is_reported_once() {
    let mut bench = Bench::ready(Options::default());
    let ticket = bench.validate("a");
    let lookup = bench.sent_one();
    bench.rows(&lookup, [stale(1, 1)]);
    bench.granted(ticket);
    let touch = bench.sent_one();
    assert_eq!(bench.engine.reports(), [""; 0]);
    bench.fails(&touch, Some("42501"));
    assert_eq!(bench.engine.reports(), ["last_used_at was not written: as the test wants it"]);
    assert_eq!(bench.engine.reports(), [""; 0]);
}

#[test]
fn counters_are_plain_json() {
    let mut bench = Bench::ready(Options::default());
    let json: serde_json::Value = serde_json::from_str(&bench.engine.stats().to_json()).unwrap();
    assert_eq!(json["pending"], 0);
    assert_eq!(json["givenUpStatements"], 0);
    let call = serde_json::json!(
        { "operation": "validate", "outcome": "refused", "reason": "invalid", "count": 1 }
    );
    assert_eq!(json["calls"], serde_json::json!([call]));
    let sizes = &json["families"][0]["batchSizes"];
    assert_eq!(json["families"][0]["family"], "validate");
    assert_eq!(sizes["bounds"].as_array().unwrap().len() + 1, sizes["counts"].as_array().unwrap().len());
    bench.assert_idle();
}
