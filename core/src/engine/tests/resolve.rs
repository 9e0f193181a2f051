//! Keys that are found by their ids, or by secrets that were replaced.

use super::*;

const FORMER: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const NOW: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn rotating() -> Bench {
    let rotation = ["prev_key_hash", "prev_key_expires_at"].map(|column| format!("({column},text,text,f)"));
    Bench::knowing(Options::default(), columns().into_iter().chain(rotation).collect())
}

fn former() -> Credential {
    Credential::Key(KeyHash::parse(FORMER).unwrap())
}

fn charge(credential: Credential) -> Request {
    Request::Charge(credential, Charge::new(Cost::cents(2)))
}

#[test]
fn a_former_secret_is_looked_for_after_a_miss_and_before_the_next_one() {
    let mut bench = rotating();
    let first = bench.submit(Request::Validate(former()));
    let miss = bench.sent_one();
    bench.rows::<String>(&miss, []);
    let second = bench.submit(Request::Validate(former()));
    let sent = bench.sent();
    assert_eq!(kinds(&sent), [StatementKind::FormerKeys, StatementKind::ValidateOne]);
    bench.rows(&sent[0], [format!("(1,{NOW})")]);
    let found = bench.sent_one();
    assert_eq!(params(&found), [NOW]);
    bench.rows(&found, [live(1, 7)]);
    bench.rows::<String>(&sent[1], []);
    let again = bench.sent_one();
    bench.rows(&again, [format!("(1,{NOW})")]);
    let found = bench.sent_one();
    bench.rows(&found, [live(1, 7)]);
    assert_eq!((bench.granted(first), bench.granted(second)), ("7".to_owned(), "7".to_owned()));
    // Known by now, for every kind of request.
    let third = bench.submit(charge(former()));
    let asked = bench.sent_one();
    assert_eq!(asked.kind, StatementKind::FormerKeys);
    bench.rows(&asked, [format!("(1,{NOW})")]);
    let charging = bench.sent_one();
    assert_eq!(params(&charging)[0], NOW);
    bench.rows(&charging, [charged(1, 0, 2)]);
    assert_eq!(bench.usage(third), recorded(2));
    // Its grace is over: it may be somebody's key by now, and is nobody's.
    let fourth = bench.submit(Request::Validate(former()));
    for kind in [StatementKind::FormerKeys, StatementKind::ValidateOne, StatementKind::FormerKeys] {
        let asked = bench.sent_one();
        assert_eq!(asked.kind, kind);
        bench.rows::<String>(&asked, []);
    }
    assert_eq!(bench.reason(fourth), DenialReason::Invalid);
    bench.assert_idle();
}

#[test]
fn several_misses_share_a_statement_and_a_table_without_the_columns_asks_none() {
    let mut bench = rotating();
    let tickets: Vec<Ticket> =
        (0..5).map(|n| bench.submit(Request::Validate(Credential::of_key(&format!("ak_{n}"))))).collect();
    let miss = bench.sent_one();
    bench.rows::<String>(&miss, []);
    let asked = bench.sent_one();
    assert_eq!((asked.kind, params(&asked)[0].matches(',').count()), (StatementKind::FormerKeys, 4));
    bench.rows::<String>(&asked, []);
    for ticket in tickets {
        assert_eq!(bench.reason(ticket), DenialReason::Invalid);
    }
    let mut bench = Bench::ready(Options::default());
    let ticket = bench.submit(Request::Validate(former()));
    let miss = bench.sent_one();
    bench.rows::<String>(&miss, []);
    assert_eq!(bench.reason(ticket), DenialReason::Invalid);
    bench.assert_idle();
}

#[test]
fn a_key_of_an_id_that_cannot_be_charged_is_not_asked_for_for_ever() {
    let mut bench = rotating();
    let ticket = bench.submit(charge(Credential::Id(7.into())));
    let found = bench.sent_one();
    assert_eq!((found.kind, params(&found)), (StatementKind::KeysById, vec!["{\"7\"}"]));
    bench.rows(&found, [format!("(1,{FORMER})")]);
    for kind in [StatementKind::ChargeOne, StatementKind::ChargeBatch] {
        let charging = bench.sent_one();
        assert_eq!(charging.kind, kind);
        bench.rows::<String>(&charging, []);
    }
    // It is revoked, or has another secret by now.
    let again = bench.sent_one();
    bench.rows(&again, [format!("(1,{FORMER})")]);
    assert_eq!(bench.usage(ticket), refused(ChargeRefusal::InvalidKey));
    bench.assert_idle();
}

#[test]
fn what_is_lost_while_a_key_is_looked_for_was_recorded_nowhere() {
    let mut bench = rotating();
    let ticket = bench.submit(charge(Credential::Id(7.into())));
    for _ in 0..5 {
        let found = bench.sent_one();
        bench.fails(&found, None);
        if bench.is_open(ticket) {
            bench.pass_pause();
        }
    }
    assert!(!bench.error(ticket).may_have_been_recorded());
    let ticket = bench.submit(charge(Credential::Id(7.into())));
    bench.sent_one();
    bench.pass(Duration::from_secs(10));
    assert!(!bench.error(ticket).may_have_been_recorded());
    let ticket = bench.submit(charge(Credential::Id("no number".into())));
    assert_eq!(bench.sent().len(), 0);
    assert_eq!(bench.usage(ticket), refused(ChargeRefusal::InvalidKey));
}
