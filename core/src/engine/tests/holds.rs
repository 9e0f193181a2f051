//! Statements that wait for a connection.

use super::*;
use crate::engine::Begun;

const LIMIT: Duration = Duration::from_secs(10);

/// A batch of charges that has no connection yet, and its charges.
fn held(bench: &mut Bench) -> ([Ticket; 3], Statement) {
    bench.charge("x", 1);
    let blocking = bench.sent_one();
    let tickets = [bench.charge("a", 1), bench.charge("a", 2), bench.charge("b", 3)];
    bench.rows(&blocking, [charged(1, 0, 1)]);
    let batch = bench.sent_one();
    bench.engine.hold(batch.id);
    (tickets, batch)
}

fn narrow() -> Bench {
    Bench::ready(Options { max_in_flight: 1, ..Options::default() })
}

#[test]
fn a_statement_that_everybody_waits_for_is_sent_as_it_is() {
    let mut bench = narrow();
    let (tickets, batch) = held(&mut bench);
    assert!(matches!(bench.engine.begin(bench.now, batch.id), Begun::AsItIs));
    bench.rows(&batch, [charged(1, 0, 3), charged(2, 0, 3)]);
    assert!(tickets.into_iter().all(|ticket| !bench.is_open(ticket)));
    bench.assert_idle();
}

#[test]
fn whose_caller_is_gone_is_left_out() {
    let mut bench = narrow();
    let ([gone, first, second], batch) = held(&mut bench);
    bench.engine.cancel(gone);
    let Begun::Instead(begun) = bench.engine.begin(bench.now, batch.id) else { panic!("it is the same") };
    assert_eq!(params(&begun), [r#"{"a","b"}"#, "{2000000,3000000}"]);
    bench.rows(&begun, [charged(1, 0, 2), charged(2, 0, 3)]);
    assert_eq!([first, second].map(|ticket| bench.usage(ticket)), [recorded(2), recorded(3)]);
    bench.assert_idle();
}

#[test]
fn nothing_is_sent_if_everybody_is_gone() {
    let mut bench = narrow();
    let (tickets, batch) = held(&mut bench);
    tickets.into_iter().for_each(|ticket| bench.engine.cancel(ticket));
    assert!(matches!(bench.engine.begin(bench.now, batch.id), Begun::Nothing));
    bench.assert_idle();
}

#[test]
fn whose_time_is_over_learns_that_nothing_was_sent() {
    let mut bench = narrow();
    let (tickets, batch) = held(&mut bench);
    bench.pass(LIMIT);
    for ticket in tickets {
        let error = bench.error(ticket);
        assert_eq!((error.code(), error.may_have_been_recorded()), (ErrorCode::Timeout, false));
    }
    // Who asks meanwhile takes the connection.
    let next = bench.charge("a", 5);
    let sent = bench.sent_one();
    bench.engine.hold(sent.id);
    assert!(matches!(bench.engine.begin(bench.now, batch.id), Begun::Nothing));
    assert!(matches!(bench.engine.begin(bench.now, sent.id), Begun::AsItIs));
    bench.rows(&sent, [charged(1, 0, 5)]);
    assert_eq!(bench.usage(next), recorded(5));
    bench.assert_idle();
}

#[test]
fn a_statement_without_a_connection_is_not_slow() {
    let mut bench = narrow();
    let (_, batch) = held(&mut bench);
    bench.pass(super::super::stall::STALL * 2);
    bench.charge("c", 1);
    assert!(bench.sent().is_empty(), "it would have no connection either");
    assert!(matches!(bench.engine.begin(bench.now, batch.id), Begun::AsItIs));
    bench.pass(super::super::stall::STALL);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn what_the_engine_needs_is_sent_whoever_is_gone() {
    let mut bench = Bench::new(Options::default());
    let gone = bench.validate("a");
    let catalogue = bench.sent_one();
    bench.engine.hold(catalogue.id);
    bench.engine.cancel(gone);
    assert!(matches!(bench.engine.begin(bench.now, catalogue.id), Begun::AsItIs));

    let mut bench = Bench::ready(Options::default());
    let gone = bench.revoke("1");
    let revoke = bench.sent_one();
    bench.engine.hold(revoke.id);
    bench.engine.cancel(gone);
    assert!(matches!(bench.engine.begin(bench.now, revoke.id), Begun::Nothing));
    bench.assert_idle();
}
