//! What is repeated through faults, how far, and what callers are told.

use super::*;
use crate::budget::reservation::ReservationId;

/// The faults that a settle must survive: it is repeated until it works.
fn interruptions() -> Vec<Fault> {
    let codes = ["EPIPE", "ECONNRESET", "57P01", "08P01", "08006", "ECONNREFUSED", "40P01"];
    codes.into_iter().map(|code| Fault::of_code(Some(code), "as the test wants it")).collect()
}

#[test]
fn ends_and_idempotent_spends_are_repeated_through_faults_until_they_work() {
    let id = ReservationId::parse("0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f").unwrap();
    for fault in interruptions() {
        let mut bench = Bench::ready(Options { max_attempts: 2, ..Options::default() });
        let settle = bench.submit(Request::Settle(id.clone(), Cost::cents(5)));
        let charge = Charge::new(5).idempotency_key("request-7");
        let charge = bench.submit(Request::Charge(subject_of("a"), charge));
        for _ in 0..3 {
            for statement in bench.sent() {
                bench.fails_by(&statement, fault.clone());
            }
            bench.now += Duration::from_secs(1);
        }
        let sent = bench.sent();
        assert_eq!(kinds(&sent), [StatementKind::Settle, StatementKind::Spend]);
        bench.rows(&sent[0], ["(1,pending,settled,5000000,5000000,100,5000000,0,)"]);
        bench.rows(&sent[1], ["(1,ok,100,5000000,0,,,,f,,)"]);
        assert!(matches!(bench.outcome(settle), Answer::Settled(Ok(_))), "{fault:?}");
        assert_eq!(bench.usage(charge), recorded(5));
        bench.assert_idle();
    }
}

#[test]
fn a_lookup_is_repeated_a_few_times_and_then_answers_the_fault() {
    let mut bench = Bench::ready(Options { max_attempts: 3, ..Options::default() });
    let ticket = bench.validate("a");
    for attempt in 1..=3 {
        let lookup = bench.sent_one();
        bench.fails(&lookup, None);
        if attempt < 3 {
            bench.pass_pause();
        }
    }
    assert!(bench.error(ticket).is_transient());
    bench.assert_idle();
}

#[test]
fn a_charge_that_was_never_sent_is_repeated() {
    let mut bench = Bench::ready(Options::default());
    let ticket = bench.charge("a", 1);
    let charge = bench.sent_one();
    bench.fails_by(&charge, Fault::of_code(Some("ECONNREFUSED"), "no connection"));
    assert!(bench.is_open(ticket));
    bench.pass_pause();
    let charge = bench.sent_one();
    bench.rows(&charge, [charged(1, 0, 1)]);
    assert_eq!(bench.usage(ticket), recorded(1));
}

#[test]
fn a_timeout_says_whether_the_call_was_sent() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let sent = bench.charge("a", 1);
    bench.sent_one();
    let waiting = bench.charge("b", 1);
    let uncertain = bench.submit(Request::Charge(subject_of("c"), Charge::new(1).idempotency_key("x")));
    let spend = bench.sent_one();
    bench.fails(&spend, Some("08006"));
    bench.pass(Duration::from_secs(10));
    let told = |bench: &mut Bench, ticket| {
        let error = bench.error(ticket);
        (error.code(), error.may_have_been_recorded())
    };
    assert_eq!(told(&mut bench, sent), (ErrorCode::Timeout, true));
    assert_eq!(told(&mut bench, waiting), (ErrorCode::Timeout, false));
    assert_eq!(told(&mut bench, uncertain), (ErrorCode::Timeout, true), "its first attempt may have worked");
}

#[test]
fn a_catalogue_that_never_answers_is_asked_again_and_wedges_nobody() {
    let mut bench = Bench::new(Options::default());
    let lost = bench.charge("a", 1);
    let silent = bench.sent_one();
    bench.pass(Duration::from_secs(10));
    let error = bench.error(lost);
    assert_eq!((error.code(), error.may_have_been_recorded()), (ErrorCode::Timeout, false));
    let ticket = bench.charge("b", 1);
    let catalogue = bench.sent_one();
    bench.rows(&silent, columns_but("scopes"));
    bench.rows(&catalogue, columns());
    let charge = bench.sent_one();
    bench.rows(&charge, [charged(1, 0, 1)]);
    assert_eq!(bench.usage(ticket), recorded(1));
    bench.assert_idle();
}

#[test]
fn a_statement_is_wanted_while_somebody_waits_for_it() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let ticket = bench.charge("a", 1);
    let charge = bench.sent_one();
    assert!(bench.engine.is_wanted(charge.id));
    bench.engine.cancel(ticket);
    assert!(!bench.engine.is_wanted(charge.id));
    bench.fails_by(&charge, Fault::not_sent("nobody waits for it"));
    bench.now += Duration::from_secs(1);
    bench.assert_idle();
    bench.charge("b", 1);
    let charge = bench.sent_one();
    bench.pass(Duration::from_secs(10));
    assert!(!bench.engine.is_wanted(charge.id));
}
