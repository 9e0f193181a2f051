//! Reserves, their ends, and charges with options: which statement they go through.

use super::*;
use crate::budget::reservation::{ReservationId, ReservationRefusal, Reserve};

const ID: &str = "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f";

fn reservation() -> ReservationId {
    ReservationId::parse(ID).unwrap()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[test]
fn what_the_statement_for_flat_keys_leaves_the_general_one_decides() {
    let mut bench = Bench::ready(Options::default());
    let charge = |key: &str| Request::Charge(subject_of("a"), Charge::new(5).idempotency_key(key));
    let first = bench.submit(charge("one"));
    let flat = bench.sent_one();
    assert_eq!((flat.kind, flat.params.len()), (StatementKind::SpendFlat, 4));
    bench.rows(&flat, ["(1,ok,100,5000000,0,,,,f,,,,f)"]);
    assert_eq!(bench.usage(first), recorded(5));
    let second = bench.submit(charge("one"));
    let flat = bench.sent_one();
    bench.rows::<String>(&flat, []);
    let general = bench.sent_one();
    assert_eq!((general.kind, general.params.len()), (StatementKind::Spend, 5));
    bench.rows(&general, ["(1,replayed,100,5000000,0,,,,f,,,,f)"]);
    assert!(bench.usage(second).unwrap().replayed);
    bench.assert_idle();
}

#[test]
fn an_end_that_is_no_common_case_is_decided_by_the_general_statement() {
    let mut bench = Bench::ready(Options::default());
    let settle = || Request::Settle(reservation(), Cost::cents(5));
    let first = bench.submit(settle());
    let flat = bench.sent_one();
    assert_eq!((flat.kind, flat.params.len()), (StatementKind::SettleFlat, 3));
    bench.rows(&flat, ["(1,pending,settled,5000000,5000000,100,5000000,0,)"]);
    assert!(matches!(bench.outcome(first), Answer::Settled(Ok(done)) if !done.replayed));
    let [second, third] = [settle(), Request::Release(reservation())].map(|request| {
        let ticket = bench.submit(request);
        let flat = bench.sent_one();
        assert_eq!(flat.kind, StatementKind::SettleFlat);
        bench.rows::<String>(&flat, []);
        let general = bench.sent_one();
        assert_eq!((general.kind, general.params.len()), (StatementKind::Settle, 4));
        bench.rows(&general, ["(1,settled,,5000000,5000000,100,5000000,0,)"]);
        ticket
    });
    assert!(matches!(bench.outcome(second), Answer::Settled(Ok(done)) if done.replayed));
    assert!(matches!(bench.outcome(third), Answer::Released(Ok(false))));
    let nothing = bench.submit(settle());
    for _ in 0..2 {
        let statement = bench.sent_one();
        bench.rows::<String>(&statement, []);
    }
    let unknown = Answer::Settled(Err(ReservationRefusal::UnknownReservation));
    assert_eq!(format!("{:?}", bench.outcome(nothing)), format!("{unknown:?}"));
    bench.submit(Request::Extend(reservation(), Duration::from_secs(60)));
    assert_eq!(bench.sent_one().kind, StatementKind::Settle, "it ends nothing");
}

#[test]
fn the_statements_for_flat_keys_are_not_tried_for_what_is_known_to_be_a_childs() {
    let mut bench = Bench::ready(Options::default());
    let reserve = || Request::Reserve(subject_of("a"), Reserve::new(5));
    let first = bench.submit(reserve());
    let flat = bench.sent_one();
    assert_eq!(flat.kind, StatementKind::SpendFlat);
    bench.rows::<String>(&flat, []);
    let general = bench.sent_one();
    let [own, _] = child(1, 7);
    let (own, parent) = (quoted(&own), quoted(r#"{"(1,t,,0,0,0,,,f,f,,,)"}"#));
    bench.rows(&general, [format!("(1,ok,100,0,5000000,{ID},1764000900,,f,{own},{parent},,t)")]);
    assert!(matches!(bench.outcome(first), Answer::Reserved(Ok(_))));
    bench.submit(reserve());
    bench.submit(Request::Settle(reservation(), Cost::cents(5)));
    let mut sent = kinds(&bench.sent());
    sent.sort_by_key(|kind| format!("{kind:?}"));
    assert_eq!(sent, [StatementKind::Settle, StatementKind::SpendFresh]);
}
