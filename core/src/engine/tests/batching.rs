//! The catalogue, and how requests share statements.

use super::*;
use crate::key::raw::KeyHash;

#[test]
fn the_catalogue_is_asked_first_and_once() {
    let mut bench = Bench::new(Options::default());
    assert_eq!(bench.sent().len(), 0, "nothing is asked before there is a request");
    bench.validate("a");
    bench.charge("a", 1);
    let catalogue = bench.sent_one();
    assert_eq!(
        (catalogue.kind, params(&catalogue)),
        (
            StatementKind::Catalogue,
            vec![
                "\"sdk_api_keys\"",
                "sdk_api_keys_reservations",
                "sdk_api_keys_events",
                "sdk_api_keys_requests",
                "sdk_api_keys_deliveries",
                "sdk_api_keys_signups"
            ]
        )
    );
    bench.validate("b");
    assert_eq!(bench.sent().len(), 0, "all wait for the catalogue");
    bench.rows(&catalogue, columns());
    assert_eq!(kinds(&bench.sent()), [StatementKind::ChargeOne, StatementKind::ValidateMany]);
    bench.validate("c");
    bench.charge("c", 1);
    assert_eq!(
        kinds(&bench.sent()),
        [StatementKind::ChargeOne, StatementKind::ValidateOne],
        "it is known from now on"
    );
}

#[test]
fn a_request_alone_is_sent_at_once() {
    let mut bench = Bench::ready(Options::default());
    let validate = bench.validate("a");
    let sent = bench.sent_one();
    assert_eq!((sent.kind, params(&sent)), (StatementKind::ValidateOne, vec!["a"]));
    bench.rows(&sent, [live(1, 5)]);
    assert_eq!(bench.granted(validate), "5");
    let charge = bench.charge("a", 3);
    let sent = bench.sent_one();
    assert_eq!((sent.kind, params(&sent)), (StatementKind::ChargeOne, vec!["a", "3000000"]));
    bench.rows(&sent, [charged(1, 4, 7)]);
    assert_eq!(bench.usage(charge), recorded(7));
    bench.assert_idle();
}

#[test]
fn requests_that_arrive_while_statements_are_under_way_share_the_next() {
    let mut bench = Bench::ready(Options::default());
    bench.validate("a");
    let first = bench.sent_one();
    bench.validate("b");
    let second = bench.sent_one();
    for subject in ["c", "d", "e"] {
        bench.validate(subject);
        assert_eq!(bench.sent().len(), 0, "at most two are under way");
    }
    bench.rows(&second, [live(1, 2)]);
    let third = bench.sent_one();
    assert_eq!(params(&third)[0], r#"{"c","d","e"}"#);
    bench.rows(&first, [live(1, 1)]);
    bench.rows::<String>(&third, []);
    bench.assert_idle();
}

#[test]
fn a_statement_takes_the_oldest_up_to_max_batch() {
    let mut bench = Bench::ready(Options { max_batch: 2, max_in_flight: 3, ..Options::default() });
    for subject in ["a", "b", "c", "d", "e", "f", "g"] {
        bench.charge(subject, 1);
    }
    let sent = bench.sent();
    let texts: Vec<_> = sent.iter().map(|s| params(s)[0]).collect();
    assert_eq!(texts, [r#"{"a","b"}"#, r#"{"c","d"}"#, r#"{"e","f"}"#]);
    bench.rows(&sent[1], [charged(1, 0, 1), charged(2, 0, 1)]);
    assert_eq!(params(&bench.sent_one())[0], "g");
}

#[test]
fn lanes_do_not_wait_for_one_another() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let key = || Credential::Key(KeyHash::of("ak_1"));
    bench.charge("a", 1);
    bench.validate("a");
    bench.submit(Request::Validate(key()));
    bench.submit(Request::Charge(key(), Charge::new(1)));
    bench.revoke("1");
    let sent = bench.sent();
    use StatementKind::{ChargeOne, Revoke, ValidateOne};
    assert_eq!(kinds(&sent), [Revoke, ChargeOne, ValidateOne, ChargeOne, ValidateOne]);
    let by_hash: Vec<bool> = sent.iter().map(|s| s.sql.contains("key_hash = ")).collect();
    assert_eq!(by_hash, [false, true, true, false, false]);
    let by_subject: Vec<bool> = sent.iter().map(|s| s.sql.contains("external_subject = ")).collect();
    assert_eq!(by_subject, [false, false, false, true, true]);
}

#[test]
fn identical_lookups_of_one_batch_share_a_row_and_no_other() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let early = bench.validate("a");
    let first = bench.sent_one();
    let tickets = ["a", "b", "a", "a", "c"].map(|subject| bench.validate(subject));
    assert_eq!(bench.sent().len(), 0, "a lookup that is under way may have read already");
    bench.rows(&first, [live(1, 1)]);
    assert_eq!(bench.granted(early), "1");
    let second = bench.sent_one();
    assert_eq!(params(&second)[0], r#"{"a","b","c"}"#);
    // In any order; the missing row is a key that does not exist.
    bench.rows(&second, [live(3, 30), live(1, 10)]);
    let [a1, b, a2, a3, c] = tickets;
    assert_eq!([a1, a2, a3, c].map(|ticket| bench.granted(ticket)), ["10", "10", "10", "30"]);
    assert_eq!(bench.reason(b), DenialReason::Invalid);
    bench.assert_idle();
}

#[test]
fn a_batch_of_charges_carries_totals_and_ascending_costs() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let blocking = bench.charge("x", 1);
    let first = bench.sent_one();
    let tickets = [("a", 50), ("b", 2), ("a", 1), ("a", 30), ("c", 9)]
        .map(|(subject, cents)| bench.charge(subject, cents));
    bench.rows(&first, [charged(1, 0, 1)]);
    assert_eq!(bench.usage(blocking), recorded(1));
    let plain = bench.sent_one();
    let totals = "{81000000,2000000,9000000}";
    assert_eq!((plain.kind, params(&plain)), (StatementKind::ChargeMany, vec![r#"{"a","b","c"}"#, totals]));
    bench.rows::<String>(&plain, []);
    let batch = bench.sent_one();
    assert_eq!(batch.kind, StatementKind::ChargeBatch);
    let expected = [
        r#"{"a","b","c"}"#,
        "{81000000,2000000,9000000}",
        r#"{"{1000000,30000000,50000000}","{2000000}","{9000000}"}"#,
        "NULL",
    ];
    assert_eq!(params(&batch), expected);
    // Of a the two cheapest fit; b is used up; c was revoked.
    bench.rows(&batch, [charged(2, 99, 99), charged(1, 60, 91)]);
    let [a50, b2, a1, a30, c9] = tickets;
    assert_eq!(bench.usage(a1), recorded(61));
    assert_eq!(bench.usage(a30), recorded(91));
    assert_eq!(bench.usage(a50), refused(ChargeRefusal::BudgetExceeded));
    assert_eq!(bench.usage(b2), refused(ChargeRefusal::BudgetExceeded));
    assert_eq!(bench.usage(c9), refused(ChargeRefusal::InvalidKey));
    bench.assert_idle();
}

#[test]
fn charges_in_whole_are_told_from_what_is_used_after_them() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.charge("x", 1);
    let first = bench.sent_one();
    let tickets =
        [("a", 2), ("b", 4), ("a", 1), ("b", 3)].map(|(subject, cents)| bench.charge(subject, cents));
    bench.rows(&first, ["(1,f,100,1,0,0,)"]);
    let plain = bench.sent_one();
    bench.rows(&plain, ["(2,f,100,7,0,0,)", "(1,f,100,13,0,0,)"]);
    let [a2, b4, a1, b3] = tickets.map(|ticket| bench.usage(ticket));
    assert_eq!([a1, a2, b3, b4], [recorded(11), recorded(13), recorded(3), recorded(7)]);
    bench.assert_idle();
}

#[test]
fn a_child_that_fits_is_charged_by_the_cheap_statement_and_else_by_the_general_one() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let first = bench.charge("a", 1);
    let one = bench.sent_one();
    bench.rows::<String>(&one, []);
    let batch = bench.sent_one();
    bench.rows(&batch, ["(1,t,,,,,)"]);
    let tree = bench.sent_one();
    assert_eq!((tree.kind, params(&tree)), (StatementKind::ChargeTree, vec![r#"{"a"}"#, r#"{"{1000000}"}"#]));
    let (second, third) = (bench.charge("a", 5), bench.charge("a", 3));
    bench.rows(&tree, ["(1,f,100,1,0,0,)"]);
    assert_eq!(bench.usage(first), recorded(1));
    let tree = bench.sent_one();
    assert_eq!(params(&tree), [r#"{"a"}"#, r#"{"{3000000,5000000}"}"#], "a parent is for life");
    bench.rows::<String>(&tree, []);
    let general = bench.sent_one();
    assert_eq!(general.kind, StatementKind::Spend);
    bench.rows(&general, ["(1,ok,100,4000000,0,,,,f,,,,f)", "(2,refused,,,,,,,f,,,,f)"]);
    assert_eq!([second, third].map(|t| bench.usage(t)), [refused(ChargeRefusal::InvalidKey), recorded(4)]);
    for nonsense in ["", "(2,f,100,4,0,0,)", "(1,t,,,,,)", "(1,f,100,x,0,0,)"] {
        let ticket = bench.charge("a", 5);
        let tree = bench.sent_one();
        bench.rows(&tree, [nonsense]);
        assert_eq!(bench.error(ticket).code(), ErrorCode::UnexpectedResponse, "{nonsense}");
    }
    bench.assert_idle();
}

#[test]
fn charges_too_large_to_add_up_do_not_wrap() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.charge("x", 1);
    let first = bench.sent_one();
    let huge = [bench.charge("a", i64::MAX), bench.charge("a", i64::MAX)];
    bench.rows(&first, [charged(1, 0, 1)]);
    let plain = bench.sent_one();
    bench.rows::<String>(&plain, []);
    let batch = bench.sent_one();
    assert_eq!(params(&batch)[1], format!("{{{}}}", i64::MAX));
    bench.rows(&batch, [charged(1, 5, 5)]);
    assert_eq!(huge.map(|ticket| bench.usage(ticket)), [refused(ChargeRefusal::BudgetExceeded); 2]);
}

#[test]
fn a_single_charge_without_a_row_is_decided_by_the_statement_for_batches() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    for (rows, usage) in [
        (vec![], refused(ChargeRefusal::InvalidKey)),
        (vec![charged(1, 0, 3)], recorded(3)),
        (vec![charged(1, 98, 98)], refused(ChargeRefusal::BudgetExceeded)),
    ] {
        let ticket = bench.charge("a", 3);
        let single = bench.sent_one();
        assert_eq!(single.kind, StatementKind::ChargeOne);
        bench.rows::<String>(&single, []);
        assert!(bench.is_open(ticket));
        let batch = bench.sent_one();
        assert_eq!(batch.kind, StatementKind::ChargeBatch);
        assert_eq!(params(&batch), [r#"{"a"}"#, "{3000000}", r#"{"{3000000}"}"#, "NULL"]);
        bench.rows(&batch, rows);
        assert_eq!(bench.usage(ticket), usage);
        bench.assert_idle();
    }
}

#[test]
fn a_refused_key_is_not_tried_by_the_plain_statement_until_it_is_charged_again() {
    let mut bench = Bench::ready(Options::default());
    bench.charge("a", 3);
    let plain = bench.sent_one();
    bench.rows::<String>(&plain, []);
    let mut sent = bench.sent_one();
    for (row, next) in [
        (charged(1, 99, 99), StatementKind::ChargeBatch),
        (charged(1, 99, 99), StatementKind::ChargeBatch),
        (charged(1, 0, 3), StatementKind::ChargeOne),
    ] {
        assert_eq!(sent.kind, StatementKind::ChargeBatch);
        bench.rows(&sent, [row]);
        bench.charge("a", 3);
        sent = bench.sent_one();
        assert_eq!(sent.kind, next);
    }
}

#[test]
fn an_undecided_charge_goes_before_later_ones_of_its_key() {
    let mut bench = Bench::ready(Options { max_batch: 1, ..Options::default() });
    bench.charge("a", 3);
    let single = bench.sent_one();
    bench.charge("a", 1);
    bench.rows::<String>(&single, []);
    assert_eq!(params(&bench.sent_one())[1], "{3000000}");
}

#[test]
fn charges_of_a_key_are_in_one_statement_at_a_time() {
    let mut bench = Bench::ready(Options::default());
    bench.charge("a", 1);
    let first = bench.sent_one();
    let waiting = [bench.charge("a", 2), bench.charge("a", 3)];
    assert_eq!(bench.sent().len(), 0, "it would wait for the row's lock");
    bench.charge("b", 1);
    assert_eq!(params(&bench.sent_one())[0], "b", "another key does not wait");
    bench.rows(&first, [charged(1, 0, 1)]);
    let second = bench.sent_one();
    assert_eq!(params(&second), ["a", "5000000"]);
    bench.rows(&second, [charged(1, 1, 6)]);
    assert_eq!(waiting.map(|ticket| bench.usage(ticket)), [recorded(3), recorded(6)]);
}

#[test]
fn a_key_alone_is_looked_up_by_the_plain_statement_for_all_who_ask() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.validate("x");
    let blocking = bench.sent_one();
    let tickets = ["a", "a", "a"].map(|subject| bench.validate(subject));
    bench.rows(&blocking, [live(1, 1)]);
    let plain = bench.sent_one();
    assert_eq!((plain.kind, params(&plain)[0]), (StatementKind::ValidateOne, "a"));
    // It has a parent: the general statement decides.
    let [of_its_own, with_ancestors] = child(1, 4);
    bench.rows(&plain, [of_its_own]);
    assert!(tickets.iter().all(|ticket| bench.is_open(*ticket)));
    let general = bench.sent_one();
    assert_eq!((general.kind, params(&general)[0]), (StatementKind::Validate, r#"{"a"}"#));
    bench.rows(&general, [with_ancestors]);
    assert_eq!(tickets.map(|ticket| bench.granted(ticket)), ["4", "4", "4"]);
    bench.validate("a");
    assert_eq!(bench.sent_one().kind, StatementKind::Validate, "a parent is for life");
}

#[test]
fn a_key_without_a_row_is_invalid_at_once() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    let alone = bench.validate("a");
    let one = bench.sent_one();
    let known = bench.validate("b");
    let unknown = bench.validate("c");
    bench.rows::<String>(&one, []);
    assert_eq!(bench.reason(alone), DenialReason::Invalid);
    let many = bench.sent_one();
    assert_eq!((many.kind, params(&many)), (StatementKind::ValidateMany, vec![r#"{"b","c"}"#]));
    bench.rows(&many, [live(1, 2)]);
    assert_eq!((bench.granted(known), bench.reason(unknown)), ("2".to_owned(), DenialReason::Invalid));
    bench.assert_idle();
}

#[test]
fn many_keys_are_shared_out_among_the_statements_that_may_be_under_way() {
    let mut bench = Bench::ready(Options { max_in_flight: 2, ..Options::default() });
    for n in 0..100 {
        bench.validate(&n.to_string());
    }
    let sent = bench.sent();
    let keys: Vec<usize> = sent.iter().map(|s| params(s)[0].split(',').count()).collect();
    assert_eq!(keys, [50, 50]);
    bench.rows::<String>(&sent[0], []);
    bench.rows::<String>(&sent[1], []);
    for n in 0..40 {
        bench.validate(&n.to_string());
    }
    let keys: Vec<usize> = bench.sent().iter().map(|s| params(s)[0].split(',').count()).collect();
    assert_eq!(keys, [32, 8], "few keys are not worth two statements");
}

#[test]
fn what_needs_no_database_is_answered_without_one() {
    let mut bench = Bench::new(Options::default());
    let free = bench.charge("a", 0);
    let invalid = bench.submit(Request::Charge(subject_of("a"), Charge::new(Cost::Invalid)));
    let unstorable = bench.charge("a\0", 1);
    let unknown = bench.validate("a\0");
    assert_eq!(bench.usage(free), Ok(Charged::FREE));
    assert_eq!(bench.usage(invalid), refused(ChargeRefusal::InvalidCost));
    assert_eq!(bench.usage(unstorable), refused(ChargeRefusal::InvalidKey));
    assert_eq!(bench.reason(unknown), DenialReason::Invalid);
    bench.assert_idle();
}
