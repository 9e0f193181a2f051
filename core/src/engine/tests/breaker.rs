//! A refusal by a breaker is answered once its key is off.

use super::*;
use crate::budget::charge::ChargeRefusal;

/// What `spend.sql` answers where the limit of key 4, in row 9, has no room.
const REFUSED: &str = r#"(1,budget_exceeded,,,,,,"(4,100,100000000,0,,5m,disable,9)",f,,,,t)"#;

fn refused_by_a_breaker(bench: &mut Bench, subject: &str) -> Ticket {
    let charge = Charge::new(Cost::cents(1)).idempotency_key(subject);
    let ticket = bench.submit(Request::Charge(subject_of(subject), charge));
    let fresh = bench.sent_one();
    bench.rows::<String>(&fresh, []);
    let last = bench.sent_one();
    assert_eq!(last.kind, StatementKind::Spend);
    bench.rows(&last, [REFUSED]);
    ticket
}

#[test]
fn a_key_is_switched_off_before_the_refusal_is_answered() {
    let mut bench = Bench::ready(Options::default());
    let ticket = refused_by_a_breaker(&mut bench, "a");
    let trip = bench.sent_one();
    assert_eq!(trip.kind, StatementKind::TripBreaker);
    assert_eq!(trip.params, [Some("4"), Some("9"), Some("1000000"), None].map(|p| p.map(str::to_owned)));
    // Somebody else has locked a row.
    bench.rows(&trip, ["(t)"]);
    assert!(bench.is_open(ticket));
    bench.pass_pause();
    let again = bench.sent_one();
    bench.rows(&again, ["(f)"]);
    assert_eq!(bench.usage(ticket), Err(ChargeRefusal::BudgetExceeded));
    bench.assert_idle();
}

#[test]
fn one_statement_serves_all_who_wait_for_a_place() {
    let mut bench = Bench::ready(Options::default());
    let mut tickets = Vec::new();
    let mut trips = Vec::new();
    for n in 0..8 {
        tickets.push(refused_by_a_breaker(&mut bench, &format!("subject {n}")));
        trips.extend(bench.sent());
    }
    assert_eq!(trips.len(), 4, "as many as there are places");
    bench.rows(&trips[0], ["(f)"]);
    for (n, ticket) in tickets.iter().enumerate() {
        assert_eq!(bench.is_open(*ticket), (1..4).contains(&n), "{n}");
    }
    for trip in &trips[1..] {
        bench.fails(trip, Some("57P01"));
    }
    assert!(tickets[1..4].iter().all(|ticket| bench.is_open(*ticket)), "it is repeated");
}

#[test]
fn a_limit_that_is_no_breaker_refuses_at_once() {
    let mut bench = Bench::ready(Options::default());
    let ticket =
        bench.submit(Request::Charge(subject_of("a"), Charge::new(Cost::cents(1)).idempotency_key("a")));
    let fresh = bench.sent_one();
    bench.rows::<String>(&fresh, []);
    let last = bench.sent_one();
    bench.rows(&last, [REFUSED.replace("disable", "refuse")]);
    assert_eq!(bench.usage(ticket), Err(ChargeRefusal::BudgetExceeded));
    bench.assert_idle();
}
