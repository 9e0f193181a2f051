//! Who shares a statement with a row that is locked, odd or slow, and what becomes of the others.

use super::*;
use crate::engine::busy::{HOT, LOOKS, MANY};
use crate::engine::stall::STALL;

/// A batch of two keys in the general statement, and their charges.
fn batch_of(bench: &mut Bench) -> ([Ticket; 2], Statement) {
    let first = bench.charge("x", 1);
    let one = bench.sent_one();
    let tickets = [bench.charge("a", 1), bench.charge("b", 2)];
    bench.rows(&one, [charged(1, 0, 1)]);
    assert_eq!(bench.usage(first), recorded(1));
    let plain = bench.sent_one();
    assert_eq!(plain.kind, StatementKind::ChargeMany);
    bench.rows::<String>(&plain, []);
    (tickets, bench.sent_one())
}

/// No look is later than this after the one before.
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// The row of a key that somebody else has locked.
fn busy(place: usize, id: &str) -> String {
    format!("({place},,{id},,,,)")
}

#[test]
fn a_locked_row_keeps_nobody_else_waiting_and_is_waited_for_alone() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let ([a, b], batch) = batch_of(&mut bench);
    bench.rows(&batch, [busy(1, "7"), charged(2, 0, 2)]);
    assert_eq!(bench.usage(b), recorded(2));
    // It is looked at a few times more: most rows are locked for a moment only.
    for _ in 1..LOOKS {
        assert!(bench.sent().is_empty(), "a pause comes first");
        bench.pass(LONGEST_LOOK);
        let look = bench.sent_one();
        assert_eq!((look.kind, params(&look)[3]), (StatementKind::ChargeBatch, "NULL"));
        bench.rows(&look, [busy(1, "7")]);
    }
    // Then a statement waits for its row, which takes nobody's place.
    let waiting = bench.sent_one();
    assert_eq!((params(&waiting)[0], params(&waiting)[3]), (r#"{"a"}"#, "7"));
    for n in 0..3 {
        let other = bench.charge("c", 3);
        let sent = bench.sent_one();
        bench.rows(&sent, [charged(1, 0, 3)]);
        assert_eq!(bench.usage(other), recorded(3), "{n}");
    }
    bench.rows(&waiting, [charged(1, 0, 1)]);
    assert_eq!(bench.usage(a), recorded(1));
    bench.assert_idle();
}

#[test]
fn a_row_that_many_need_is_waited_for_at_once_and_for_a_while_unasked() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let ([a, _], batch) = batch_of(&mut bench);
    let more: Vec<Ticket> = (1..MANY).map(|_| bench.charge("a", 1)).collect();
    bench.rows(&batch, [busy(1, "7"), charged(2, 0, 2)]);
    // Its statement is the one for a single key: it waits for the row of itself.
    let waiting = bench.sent_one();
    assert_eq!((params(&waiting)[0], params(&waiting)[3]), (r#"{"a"}"#, "7"));
    bench.rows(&waiting, [charged(1, 0, MANY as i64)]);
    for (ticket, used) in std::iter::once(a).chain(more).zip(1..) {
        assert_eq!(bench.usage(ticket), recorded(used));
    }
    for (pause, is_hot) in [(Duration::ZERO, true), (HOT, false)] {
        bench.pass(pause);
        bench.sent();
        let again = [bench.charge("a", 1), bench.charge("c", 1)];
        let mut sent = bench.sent();
        if is_hot {
            let one = sent.remove(0);
            assert_eq!((one.kind, params(&one)[0]), (StatementKind::ChargeOne, "a"));
            bench.rows(&one, [charged(1, 1, 2)]);
            let other = sent.remove(0);
            bench.rows(&other, [charged(1, 1, 2)]);
        } else {
            let both = sent.remove(0);
            assert_eq!(both.kind, StatementKind::ChargeMany);
            bench.rows(&both, [charged(1, 1, 2), charged(2, 1, 2)]);
        }
        assert_eq!(again.map(|ticket| bench.usage(ticket)), [recorded(2), recorded(2)]);
    }
    bench.assert_idle();
}

/// Siblings of one parent, say: one statement takes them all, and no other asks for the row in vain.
#[test]
fn all_keys_that_needed_a_hot_row_wait_in_one_statement() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let ([a, b], batch) = batch_of(&mut bench);
    let more: Vec<Ticket> = (1..MANY).map(|_| bench.charge("b", 1)).collect();
    bench.rows(&batch, [busy(1, "7"), busy(2, "7")]);
    let waiting = bench.sent_one();
    assert_eq!((params(&waiting)[0], params(&waiting)[3]), (r#"{"a","b"}"#, "7"));
    // What comes meanwhile waits for the next one, longer than looks would.
    let next = [bench.charge("a", 1), bench.charge("b", 1)];
    bench.pass(LONGEST_LOOK / 2);
    assert!(bench.sent().is_empty());
    // The cheapest come first: of b the one of 2 cents is the last.
    bench.rows(&waiting, [charged(1, 0, 1), charged(2, 0, MANY as i64 + 1)]);
    assert_eq!(bench.usage(a), recorded(1));
    for (ticket, used) in more.into_iter().zip(1..) {
        assert_eq!(bench.usage(ticket), recorded(used));
    }
    assert_eq!(bench.usage(b), recorded(MANY as i64 + 1));
    let waiting = bench.sent_one();
    assert_eq!((params(&waiting)[0], params(&waiting)[3]), (r#"{"a","b"}"#, "7"));
    bench.rows(&waiting, [charged(1, 0, 1), charged(2, 0, 1)]);
    assert_eq!(next.map(|ticket| bench.usage(ticket)), [recorded(1), recorded(1)]);
    bench.assert_idle();
}

#[test]
fn a_row_that_cannot_be_read_fails_its_own_requests_and_names_the_column() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let first = bench.validate("x");
    let blocking = bench.sent_one();
    let [odd, nobody, good] = ["odd", "nobody", "good"].map(|name| bench.validate(name));
    bench.rows(&blocking, [live(1, 9)]);
    assert_eq!(bench.granted(first), "9");
    let batch = bench.sent_one();
    bench.rows(&batch, [live(1, 1).replace(",100,", ",1e3,"), live(3, 3)]);
    assert_eq!(bench.granted(good), "3");
    assert_eq!(bench.reason(nobody), DenialReason::Invalid);
    let error = bench.error(odd);
    assert_eq!(error.code(), ErrorCode::UnexpectedResponse);
    assert!(error.message().contains("budget_cents is no whole number of 64 bits: 1e3"), "{error}");

    let ([odd, good], batch) = batch_of(&mut bench);
    bench.rows(&batch, [charged(1, 0, 1).replace(",100,", ",1.5,"), charged(2, 0, 2)]);
    assert_eq!(bench.usage(good), recorded(2));
    let error = bench.error(odd);
    assert!(error.may_have_been_recorded() && error.message().contains("budget_cents"), "{error}");
    bench.assert_idle();
}

#[test]
fn requests_of_a_locked_row_have_their_time_limit() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let ([a, _], batch) = batch_of(&mut bench);
    bench.rows(&batch, [busy(1, "7"), charged(2, 0, 2)]);
    bench.pass(Options::default().timeout);
    let error = bench.error(a);
    assert_eq!((error.code(), error.may_have_been_recorded()), (ErrorCode::Timeout, false));
    assert!(bench.sent().is_empty());
    bench.assert_idle();
}

#[test]
fn who_makes_a_statement_fail_fails_alone() {
    for sqlstate in ["22003", "22021", "23514", "42501", "P0001"] {
        let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
        let names = ["a", "b", "c", "d", "odd", "f", "g", "h"];
        let first = bench.charge("x", 1);
        let blocking = bench.sent_one();
        let tickets = names.map(|name| bench.charge(name, 1));
        bench.rows(&blocking, [charged(1, 0, 1)]);
        assert_eq!(bench.usage(first), recorded(1));
        let mut statements = 0;
        while let Some(statement) = bench.sent().pop() {
            statements += 1;
            let keys = params(&statement)[0].trim_matches(['{', '}']).replace('"', "");
            if keys.split(',').any(|key| key == "odd") {
                bench.fails(&statement, Some(sqlstate));
            } else {
                let rows: Vec<String> = (1..=keys.split(',').count()).map(|n| charged(n, 0, 1)).collect();
                bench.rows(&statement, rows);
            }
        }
        assert!(statements <= 7, "{statements} statements");
        for (name, ticket) in names.iter().zip(tickets) {
            if *name == "odd" {
                let error = bench.error(ticket);
                assert_eq!((error.sqlstate(), error.may_have_been_recorded()), (Some(sqlstate), false));
            } else {
                assert_eq!(bench.usage(ticket), recorded(1), "{name}");
            }
        }
        bench.assert_idle();
    }
}

/// Where transactions are stricter than READ COMMITTED.
#[test]
fn a_row_that_changes_under_a_statement_is_its_own_keys_affair() {
    for conflicts in [1, 7, 30] {
        let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
        let names = ["a", "b", "c", "d", "odd", "f", "g", "h"];
        let first = bench.charge("x", 1);
        let blocking = bench.sent_one();
        let tickets = names.map(|name| bench.charge(name, 1));
        bench.rows(&blocking, [charged(1, 0, 1)]);
        assert_eq!(bench.usage(first), recorded(1));
        let (mut left, mut statements) = (conflicts, 0);
        loop {
            let Some(statement) = bench.sent().pop() else {
                // Nobody else waits for its pauses.
                for (_, ticket) in names.iter().zip(tickets).filter(|(name, _)| **name != "odd") {
                    assert!(!bench.is_open(ticket));
                }
                if bench.engine.next_retry().is_none() {
                    break;
                }
                bench.pass_pause();
                continue;
            };
            statements += 1;
            let keys = params(&statement)[0].trim_matches(['{', '}']).replace('"', "");
            if left > 0 && keys.split(',').any(|key| key == "odd") {
                left -= 1;
                bench.fails(&statement, Some("40001"));
            } else {
                let rows: Vec<String> = (1..=keys.split(',').count()).map(|n| charged(n, 0, 1)).collect();
                bench.rows(&statement, rows);
            }
        }
        assert!(statements <= 3 + 3 + 20, "{statements} statements");
        for (name, ticket) in names.iter().zip(tickets) {
            if *name == "odd" && conflicts == 30 {
                let error = bench.error(ticket);
                assert_eq!((error.sqlstate(), error.is_transient()), (Some("40001"), true));
            } else {
                assert_eq!(bench.usage(ticket), recorded(1), "{name}");
            }
        }
        bench.assert_idle();
    }
}

#[test]
fn a_statement_that_takes_long_leaves_its_place() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let slow = bench.charge("slow", 1);
    let hangs = bench.sent_one();
    let other = bench.charge("a", 1);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.engine.next_deadline(), Some(bench.now + STALL));
    bench.pass(STALL);
    let sent = bench.sent_one();
    // While it hangs, nobody else waits for a locked row unasked.
    assert_eq!(sent.kind, StatementKind::ChargeMany);
    bench.rows(&sent, [charged(1, 0, 1)]);
    assert_eq!(bench.usage(other), recorded(1));
    // Its late answer frees no place a second time.
    bench.rows(&hangs, [charged(1, 0, 1)]);
    assert_eq!(bench.usage(slow), recorded(1));
    let (_, next) = (bench.charge("b", 1), bench.sent_one());
    bench.charge("c", 1);
    assert!(bench.sent().is_empty());
    bench.rows(&next, [charged(1, 0, 1)]);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn only_so_many_statements_leave_their_place() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.stall_as_many_as_may_be();
    bench.charge("a", 1);
    bench.sent_one();
    bench.charge("b", 1);
    bench.pass(STALL * 10);
    assert!(bench.sent().is_empty(), "others have connections still");
}
