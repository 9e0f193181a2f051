//! Bounds, time limits, and callers that are gone.

use super::*;

/// One statement of one request at a time, each with ten seconds.
fn narrow() -> Options {
    Options { max_in_flight: 1, max_batch: 1, ..Options::default() }
}

const LIMIT: Duration = Duration::from_secs(10);
const HALF: Duration = Duration::from_secs(5);

#[test]
fn too_many_calls_are_refused_and_nothing_is_sent_for_them() {
    let mut bench = Bench::ready(Options { max_waiting: 2, max_in_flight: 1, ..Options::default() });
    bench.validate("a");
    let sent = bench.sent_one();
    bench.charge("b", 1);
    for request in [Request::Validate(subject_of("c")), Request::Migrate] {
        let error = bench.engine.submit(bench.now, request).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Overloaded);
    }
    bench.rows(&sent, [live(1, 1)]);
    bench.validate("c");
    assert_eq!(bench.engine.stats().pending, 2);
}

#[test]
fn a_closed_engine_takes_nothing_and_finishes_what_it_has() {
    let mut bench = Bench::ready(narrow());
    let under_way = bench.validate("a");
    let sent = bench.sent_one();
    let waiting = bench.validate("b");
    bench.engine.close();
    let error = bench.engine.submit(bench.now, Request::Validate(subject_of("c"))).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Closed);
    assert!(!bench.engine.is_idle());
    bench.rows(&sent, [live(1, 1)]);
    let sent = bench.sent_one();
    bench.rows(&sent, [live(1, 2)]);
    assert_eq!([under_way, waiting].map(|ticket| bench.granted(ticket)), ["1", "2"]);
    bench.assert_idle();
}

#[test]
fn what_waits_too_long_is_given_up_and_never_sent() {
    let mut bench = Bench::ready(narrow());
    bench.stall_as_many_as_may_be();
    bench.charge("a", 1);
    let sent = bench.sent_one();
    bench.pass(HALF);
    let waiting = [bench.charge("b", 1), bench.revoke("1")];
    let revoke = bench.sent_one();
    assert_eq!(bench.engine.next_deadline(), Some(bench.now + super::super::stall::STALL));
    bench.rows(&sent, [charged(1, 0, 1)]);
    let sent = bench.sent_one();
    let last = bench.charge("c", 1);
    bench.pass(HALF - Duration::from_nanos(1));
    assert!(waiting.iter().all(|ticket| bench.is_open(*ticket)));
    bench.pass(HALF + Duration::from_nanos(1));
    for ticket in waiting.into_iter().chain([last]) {
        assert_eq!(bench.error(ticket).code(), ErrorCode::Timeout);
    }
    // Late answers change nothing, and nothing was left to be sent.
    bench.rows(&sent, [charged(1, 0, 1)]);
    bench.rows(&revoke, ["(1,t)"]);
    bench.assert_idle();
}

#[test]
fn a_statement_whose_callers_are_gone_frees_its_place() {
    let mut bench = Bench::ready(narrow());
    let lost = [bench.validate("a"), bench.charge("a", 1)];
    let silent = bench.sent();
    assert_eq!(silent.len(), 2);
    bench.pass(LIMIT);
    assert_eq!(lost.map(|ticket| bench.error(ticket).code()), [ErrorCode::Timeout; 2]);
    let next = [bench.validate("b"), bench.charge("b", 2)];
    let sent = bench.sent();
    // Connections are under way still: the next charge waits for no locked row unasked.
    assert_eq!(kinds(&sent), [StatementKind::ChargeMany, StatementKind::ValidateOne]);
    for statement in &silent {
        bench.rows(statement, [charged(1, 0, 1)]);
        bench.fails(statement, Some("40001"));
    }
    assert_eq!(bench.sent().len(), 0, "the late answers freed no place a second time");
    bench.rows(&sent[0], [charged(1, 1, 3)]);
    bench.rows(&sent[1], [live(1, 2)]);
    assert_eq!((bench.granted(next[0]), bench.usage(next[1])), ("2".to_owned(), recorded(3)));
    bench.assert_idle();
}

#[test]
fn a_batch_answers_those_whose_time_is_not_over() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.stall_as_many_as_may_be();
    let first = bench.charge("x", 1);
    let blocking = bench.sent_one();
    let early = bench.charge("a", 2);
    bench.pass(HALF);
    let late = bench.charge("a", 1);
    bench.rows(&blocking, [charged(1, 0, 1)]);
    assert_eq!(bench.usage(first), recorded(1));
    let batch = bench.sent_one();
    bench.pass(HALF);
    assert_eq!(bench.error(early).code(), ErrorCode::Timeout);
    assert!(bench.is_open(late));
    bench.charge("b", 1);
    assert_eq!(bench.sent().len(), 0, "the batch is under way for the other caller");
    // The cost of the caller that is gone still counts when the answer is read.
    bench.rows(&batch, [charged(1, 10, 13)]);
    assert_eq!(bench.usage(late), recorded(11));
}

#[test]
fn what_was_given_up_is_not_tried_again() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.charge("x", 1);
    let blocking = bench.sent_one();
    bench.charge("a", 2);
    bench.pass(HALF);
    bench.charge("a", 1);
    bench.rows(&blocking, [charged(1, 0, 1)]);
    let batch = bench.sent_one();
    bench.pass(HALF);
    bench.fails(&batch, Some("40001"));
    bench.pass_pause();
    assert_eq!(params(&bench.sent_one()), ["a", "1000000"]);
}

#[test]
fn time_limits_hold_in_whatever_order_aborted_statements_come_back() {
    let mut bench = Bench::ready(Options { max_batch: 1, ..Options::default() });
    let early = bench.charge("a", 1);
    let first = bench.sent_one();
    bench.pass(HALF);
    let late = bench.charge("b", 1);
    let second = bench.sent_one();
    bench.fails(&first, Some("40001"));
    bench.fails(&second, Some("40001"));
    assert_eq!(bench.engine.next_deadline(), Some(LIMIT));
    bench.pass(HALF);
    assert_eq!(bench.error(early).code(), ErrorCode::Timeout);
    assert!(bench.is_open(late));
}

#[test]
fn a_migration_in_its_pause_holds_up_nobodys_time_limit() {
    let mut bench = Bench::ready(Options::default());
    bench.submit(Request::Migrate);
    let step = bench.sent_one();
    bench.now += LIMIT;
    bench.fails(&step, Some("55P03"));
    let revoke = bench.submit(Request::Revoke(Revocation::of_key("1")));
    assert_eq!(bench.engine.next_deadline(), Some(LIMIT * 2));
    bench.pass(LIMIT);
    assert_eq!(bench.error(revoke).code(), ErrorCode::Timeout);
}

#[test]
fn a_cancelled_request_that_waits_is_never_sent() {
    let mut bench = Bench::ready(narrow());
    bench.validate("a");
    bench.charge("a", 1);
    let under_way = bench.sent();
    let gone = [bench.validate("b"), bench.charge("b", 1)];
    let kept = [bench.validate("c"), bench.charge("c", 2)];
    gone.into_iter().for_each(|ticket| bench.engine.cancel(ticket));
    bench.rows(&under_way[0], [charged(1, 0, 1)]);
    bench.rows(&under_way[1], [live(1, 1)]);
    let sent = bench.sent();
    assert_eq!(params(&sent[0]), ["c", "2000000"]);
    assert_eq!(params(&sent[1]), ["c"]);
    bench.rows(&sent[0], [charged(1, 0, 2)]);
    bench.rows(&sent[1], [live(1, 3)]);
    assert_eq!((bench.granted(kept[0]), bench.usage(kept[1])), ("3".to_owned(), recorded(2)));
    assert!(gone.iter().all(|ticket| bench.is_open(*ticket)));
    bench.assert_idle();
}

#[test]
fn a_whole_batch_of_cancelled_requests_holds_up_nobody() {
    let mut bench = Bench::new(Options { max_batch: 2, ..Options::default() });
    let gone = [bench.validate("a"), bench.validate("b"), bench.charge("a", 1), bench.charge("b", 1)];
    bench.validate("c");
    bench.charge("c", 1);
    let catalogue = bench.sent_one();
    gone.into_iter().for_each(|ticket| bench.engine.cancel(ticket));
    bench.rows(&catalogue, columns());
    let sent = bench.sent();
    assert_eq!(kinds(&sent), [StatementKind::ChargeOne, StatementKind::ValidateOne]);
}

#[test]
fn cancelling_what_was_sent_does_not_affect_others() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.charge("x", 1);
    let blocking = bench.sent_one();
    let (gone, kept) = (bench.charge("a", 1), bench.charge("a", 2));
    bench.rows(&blocking, [charged(1, 0, 1)]);
    let batch = bench.sent_one();
    bench.engine.cancel(gone);
    bench.rows(&batch, [charged(1, 10, 13)]);
    assert_eq!(bench.usage(kept), recorded(13));
    assert!(bench.is_open(gone));
    bench.assert_idle();
}

#[test]
fn a_cancelled_request_that_was_aborted_is_not_tried_again() {
    let mut bench = Bench::ready(Options::default());
    let gone = [bench.charge("a", 1), bench.revoke("1"), bench.validate("a")];
    let sent = bench.sent();
    gone.into_iter().for_each(|ticket| bench.engine.cancel(ticket));
    for statement in &sent {
        bench.fails(statement, Some("40P01"));
    }
    bench.now += LIMIT / 2;
    bench.assert_idle();
    assert!(gone.iter().all(|ticket| bench.is_open(*ticket)));
}
