//! What is sent again after a fault, and what its callers are told.

use super::*;
use crate::budget::ledger::{EventFilter, UsageFilter};
use crate::budget::reservation::{ReservationId, Reserve};
use crate::key::new_key::CreateKey;

fn fault(code: &str) -> Fault {
    Fault::of_code(Some(code), "as the test wants it")
}

/// Faults after which nobody knows whether the statement took effect.
const UNKNOWN: [&str; 6] = ["EPIPE", "ECONNRESET", "57P01", "08P01", "08006", "40003"];
/// Faults after which it certainly took none, and may work a little later.
const HARMLESS: [&str; 5] = ["40001", "40P01", "55P03", "53300", "ECONNREFUSED"];

fn reservation() -> ReservationId {
    ReservationId::parse("0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f").unwrap()
}

fn keyed_charge(bench: &mut Bench) -> Ticket {
    bench.submit(Request::Charge(subject_of("a"), Charge::new(5).idempotency_key("request-7")))
}

/// How often a request that may be sent three times is sent through a fault. Conflicts have a number of their own.
fn most(code: &str) -> usize {
    if code == "40001" { 20 } else { 3 }
}

/// Lets a request meet a fault until it is answered or its time is nearly over. How often it was sent.
fn tries(bench: &mut Bench, ticket: Ticket, fault: &Fault) -> usize {
    let end = bench.now + Duration::from_secs(9);
    let mut tries = 0;
    while bench.is_open(ticket) && bench.now < end {
        let statement = bench.sent_one();
        bench.fails_by(&statement, fault.clone());
        tries += 1;
        if bench.is_open(ticket) {
            bench.pass_pause();
        }
    }
    tries
}

#[test]
fn a_settle_that_fails_twice_in_any_way_works_the_third_time() {
    for code in UNKNOWN.into_iter().chain(HARMLESS) {
        let mut bench = Bench::ready(Options { max_attempts: 1, ..Options::default() });
        let ticket = bench.submit(Request::Settle(reservation(), Cost::cents(5)));
        for _ in 0..2 {
            let settle = bench.sent_one();
            bench.fails_by(&settle, fault(code));
            assert!(bench.is_open(ticket), "{code}");
            bench.pass_pause();
        }
        let settle = bench.sent_one();
        bench.rows(&settle, ["(1,pending,settled,5000000,5000000,100,5000000,0,)"]);
        assert!(matches!(bench.outcome(ticket), Answer::Settled(Ok(_))), "{code}");
        bench.assert_idle();
    }
}

#[test]
fn a_spend_with_an_idempotency_key_that_fails_twice_in_any_way_works_the_third_time() {
    for code in UNKNOWN.into_iter().chain(HARMLESS) {
        let mut bench = Bench::ready(Options { max_attempts: 1, ..Options::default() });
        let ticket = keyed_charge(&mut bench);
        for _ in 0..2 {
            let spend = bench.sent_one();
            bench.fails_by(&spend, fault(code));
            assert!(bench.is_open(ticket), "{code}");
            bench.pass_pause();
        }
        let spend = bench.sent_one();
        bench.rows(&spend, ["(1,replayed,100,5000000,0,,,,f,,,,f)"]);
        let Ok(charged) = bench.usage(ticket) else { panic!("{code}") };
        assert!(charged.replayed, "the first attempt had worked");
        bench.assert_idle();
    }
}

#[test]
fn ends_and_keyed_spends_are_repeated_until_their_time_is_over() {
    let requests: [fn(&mut Bench) -> Ticket; 7] = [
        |bench| bench.submit(Request::Settle(reservation(), Cost::cents(5))),
        |bench| bench.submit(Request::Release(reservation())),
        |bench| bench.submit(Request::Extend(reservation(), Duration::from_secs(60))),
        keyed_charge,
        |bench| {
            let record = Charge::new(5).overrun(crate::Overrun::Record).idempotency_key("request-8");
            bench.submit(Request::Charge(subject_of("a"), record))
        },
        |bench| bench.submit(Request::Charge(subject_of("a"), Charge::of_admitted(Cost::cents(5), None))),
        |bench| bench.submit(Request::Reserve(subject_of("a"), Reserve::new(5).idempotency_key("request-9"))),
    ];
    for make in requests {
        for fault in [fault("EPIPE"), fault("08P01"), fault("40001"), Fault::timed_out("no answer")] {
            let mut bench = Bench::ready(Options { max_attempts: 2, ..Options::default() });
            let ticket = make(&mut bench);
            let tries = tries(&mut bench, ticket, &fault);
            assert!(tries > 10 && bench.is_open(ticket), "{fault:?}: {tries}");
            bench.pass(Duration::from_secs(60));
            assert_eq!(bench.error(ticket).code(), ErrorCode::Timeout);
            bench.assert_idle();
        }
    }
}

#[test]
fn what_was_spent_outlives_the_time_of_other_calls() {
    let ends: [fn(ReservationId) -> Request; 3] = [
        |id| Request::Settle(id, Cost::cents(5)),
        Request::Release,
        |_| Request::Charge(subject_of("b"), Charge::of_admitted(Cost::cents(5), None)),
    ];
    for (settle_timeout, seconds) in [(60, 60), (30, 30), (1, 10)] {
        for end in ends {
            let mut bench = Bench::ready(Options {
                settle_timeout: Duration::from_secs(settle_timeout),
                ..Options::default()
            });
            let ticket = bench.submit(end(reservation()));
            let statement = bench.sent_one();
            bench.fails_by(&statement, fault("57P03"));
            let charge = bench.charge("a", 1);
            let due = bench.now + Duration::from_secs(10);
            assert_eq!(
                bench.engine.next_deadline(),
                Some(due),
                "of the charge, which waits for a shorter time"
            );
            bench.pass(Duration::from_secs(seconds) - Duration::from_millis(1));
            assert!(bench.is_open(ticket));
            bench.pass(Duration::from_millis(1));
            assert_eq!(bench.error(charge).code(), ErrorCode::Timeout);
            let error = bench.error(ticket);
            assert!(error.message().contains(&format!("{seconds}s")), "{error}");
        }
    }
}

#[test]
fn nothing_else_that_writes_is_repeated_where_it_may_have_worked() {
    let requests: [fn(&mut Bench) -> Ticket; 5] = [
        |bench| bench.charge("a", 1),
        |bench| {
            bench.submit(Request::Charge(subject_of("a"), Charge::new(5).overrun(crate::Overrun::Record)))
        },
        |bench| bench.submit(Request::Reserve(subject_of("a"), Reserve::new(5))),
        |bench| bench.submit(Request::Create(CreateKey::new("7"))),
        |bench| bench.submit(Request::RevokeAll(RevokeFilter::DelegatedBy("alice".to_owned()))),
    ];
    for make in requests {
        for code in UNKNOWN {
            let mut bench = Bench::ready(Options::default());
            let ticket = make(&mut bench);
            assert_eq!(tries(&mut bench, ticket, &fault(code)), 1, "{code}");
            let error = bench.error(ticket);
            assert!(error.may_have_been_recorded() && error.is_transient(), "{code}");
            bench.assert_idle();
        }
        for code in HARMLESS {
            let mut bench = Bench::ready(Options { max_attempts: 3, ..Options::default() });
            let ticket = make(&mut bench);
            assert_eq!(tries(&mut bench, ticket, &fault(code)), most(code), "{code}");
            let error = bench.error(ticket);
            assert!(!error.may_have_been_recorded() && error.is_transient(), "{code}");
            bench.assert_idle();
        }
    }
}

#[test]
fn reads_and_subjects_are_repeated_a_few_times_and_then_answer_the_fault() {
    let requests: [fn(&mut Bench) -> Ticket; 7] = [
        |bench| bench.validate("a"),
        |bench| bench.submit(Request::Events(EventFilter::new())),
        |bench| bench.submit(Request::Usage(UsageFilter::of_key(7))),
        |bench| bench.submit(Request::VerifyLedger(None)),
        |bench| bench.submit(Request::PruneEvents(Duration::from_secs(60))),
        |bench| bench.submit(Request::SweepReservations),
        |bench| bench.submit(Request::EnsureSubject("robot".to_owned(), CreateKey::new("7"))),
    ];
    for make in requests {
        for code in ["EPIPE", "08P01", "40001"] {
            let mut bench = Bench::ready(Options { max_attempts: 3, ..Options::default() });
            let ticket = make(&mut bench);
            assert_eq!(tries(&mut bench, ticket, &fault(code)), most(code), "{code}");
            let error = bench.error(ticket);
            assert_eq!((error.code(), error.message()), (ErrorCode::Database, "as the test wants it"));
            bench.assert_idle();
        }
        let mut bench = Bench::ready(Options::default());
        let ticket = make(&mut bench);
        assert_eq!(tries(&mut bench, ticket, &fault("42501")), 1, "another try would meet it again");
        bench.assert_idle();
    }
}

#[test]
fn the_last_fault_does_not_hide_that_an_earlier_attempt_may_have_worked() {
    let mut bench = Bench::ready(Options::default());
    let ticket = keyed_charge(&mut bench);
    let spend = bench.sent_one();
    bench.fails_by(&spend, fault("EPIPE"));
    bench.pass_pause();
    let spend = bench.sent_one();
    bench.fails_by(&spend, fault("42501"));
    let error = bench.error(ticket);
    assert_eq!((error.sqlstate(), error.may_have_been_recorded()), (Some("42501"), true));

    let ticket = bench.charge("a", 1);
    let charge = bench.sent_one();
    bench.fails_by(&charge, fault("40001"));
    bench.pass_pause();
    let charge = bench.sent_one();
    bench.fails_by(&charge, fault("42501"));
    assert!(!bench.error(ticket).may_have_been_recorded(), "neither attempt had an effect");
}

#[test]
fn a_timeout_during_a_pause_says_what_the_attempts_may_have_done() {
    for (code, may_have_been_recorded) in [("08006", true), ("40001", false)] {
        let mut bench = Bench::ready(Options::default());
        let ticket = keyed_charge(&mut bench);
        let spend = bench.sent_one();
        bench.now += Duration::from_secs(10) - Duration::from_micros(1);
        bench.fails_by(&spend, fault(code));
        assert!(bench.is_open(ticket));
        bench.pass(Duration::from_micros(1));
        let error = bench.error(ticket);
        assert_eq!(error.code(), ErrorCode::Timeout);
        assert_eq!(error.may_have_been_recorded(), may_have_been_recorded, "{code}");
        assert_eq!(error.message().contains("not sent"), !may_have_been_recorded, "{error}");
        bench.assert_idle();
    }
}
