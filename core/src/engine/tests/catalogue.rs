//! The catalogue: when it is asked again.

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_catalogue_that_fails_is_asked_again_and_the_calls_go_on() {
    for code in ["EPIPE", "ECONNRESET", "ECONNREFUSED", "57P01", "08P01", "08006", "40001", "53300"] {
        let mut bench = Bench::new(Options::default());
        let ticket = bench.charge("a", 1);
        for _ in 0..2 {
            let catalogue = bench.sent_one();
            bench.engine.receive(bench.now, catalogue.id, Err(Fault::of_code(Some(code), "")));
            assert!(bench.is_open(ticket), "{code}");
            bench.pass_pause();
        }
        let catalogue = bench.sent_one();
        bench.rows(&catalogue, columns());
        let charge = bench.sent_one();
        bench.rows(&charge, [charged(1, 0, 1)]);
        assert_eq!(bench.usage(ticket), recorded(1), "{code}");
        assert_eq!(bench.engine.stats().retries, 2);
        bench.assert_idle();
    }
}

#[test]
fn a_pause_that_is_over_wakes_nobody_while_the_catalogue_is_asked() {
    let mut bench = Bench::new(Options::default());
    bench.validate("a");
    let catalogue = bench.sent_one();
    bench.fails(&catalogue, None);
    bench.pass_pause();
    bench.sent_one();
    assert_eq!(bench.engine.next_retry(), None, "a driver would poll without end");
}

#[test]
fn a_pause_whose_callers_are_gone_ends_by_itself() {
    let mut bench = Bench::new(Options { timeout: Duration::from_millis(1), ..Options::default() });
    let ticket = bench.validate("a");
    let catalogue = bench.sent_one();
    bench.fails(&catalogue, None);
    bench.pass(Duration::from_millis(1));
    let error = bench.error(ticket);
    assert_eq!((error.code(), error.may_have_been_recorded()), (ErrorCode::Timeout, false));
    bench.now = bench.engine.next_retry().unwrap();
    bench.assert_idle();
}

#[test]
fn each_series_of_failures_is_told_to_those_who_waited_and_the_next_has_tries_of_its_own() {
    let mut bench = Bench::new(Options { max_attempts: 3, ..Options::default() });
    for _ in 0..2 {
        let tickets = [bench.validate("a"), bench.charge("a", 1)];
        for attempt in 1..=3 {
            let catalogue = bench.sent_one();
            assert_eq!(catalogue.kind, StatementKind::Catalogue);
            bench.fails(&catalogue, Some("08006"));
            if attempt < 3 {
                bench.pass_pause();
            }
        }
        for ticket in tickets {
            let error = bench.error(ticket);
            assert_eq!((error.code(), error.sqlstate()), (ErrorCode::Database, Some("08006")));
        }
        bench.assert_idle();
    }
}

#[test]
fn a_catalogue_that_is_never_answered_is_asked_again_for_those_who_still_wait() {
    let mut bench = Bench::new(Options::default());
    let early = bench.charge("a", 1);
    let silent = bench.sent_one();
    bench.pass(LIMIT / 2);
    let late = [bench.charge("b", 1), bench.validate("b"), bench.revoke("1")];
    assert_eq!(bench.sent().len(), 0);
    assert_eq!(bench.engine.next_deadline(), Some(LIMIT));
    bench.pass(LIMIT / 2);
    assert_eq!(bench.error(early).code(), ErrorCode::Timeout);
    let catalogue = bench.sent_one();
    assert_eq!(catalogue.kind, StatementKind::Catalogue, "at once, and once");
    // The first one's answer is of no use any more, whatever it is.
    bench.fails(&silent, Some("42501"));
    assert!(late.iter().all(|ticket| bench.is_open(*ticket)));
    bench.rows(&catalogue, columns());
    let sent = bench.sent();
    assert_eq!(kinds(&sent), [StatementKind::Revoke, StatementKind::ChargeOne, StatementKind::ValidateOne]);
    bench.rows(&sent[0], ["(1,t)"]);
    bench.rows(&sent[1], [charged(1, 0, 1)]);
    bench.rows(&sent[2], [live(1, 2)]);
    assert_eq!(bench.usage(late[0]), recorded(1));
    assert_eq!((bench.granted(late[1]), bench.outcome(late[2])), ("2".to_owned(), Answer::Revoked(true)));
    bench.assert_idle();
}

#[test]
fn an_engine_is_shown_in_one_line_however_much_it_holds() {
    let mut bench = Bench::new(Options::default());
    for n in 0..1_000 {
        bench.validate(&format!("secret-{n}"));
    }
    let shown = format!("{:?}", bench.engine);
    assert!(shown.starts_with(r#"Engine { table: "\"sdk_api_keys\"", pending: "#), "{shown}");
    assert!(shown.contains("pending: 1000") && shown.len() < 200 && !shown.contains('\n'), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn what_is_wrong_with_the_database_is_asked_without_a_catalogue_and_without_a_limit() {
    let mut bench = Bench::new(Options { timeout: Duration::from_millis(1), ..Options::default() });
    let ticket = bench.submit(Request::Diagnose(Diagnosis::Database));
    let question = bench.sent_one();
    assert_eq!(question.kind, StatementKind::DiagnoseDatabase);
    assert!(question.is_unlimited() && !question.is_repeated());
    assert_eq!(question.params.len(), 10);
    bench.pass(LIMIT);
    bench.rows(
        &question,
        [r#"("{""check"":""no_table"",""subject"":null,""found"":""none"",""fix"":null}")"#],
    );
    let (answered, answer) = bench.engine.answers().remove(0);
    let answer = answer.unwrap();
    assert_eq!(answered, ticket);
    assert!(matches!(&answer, Answer::Diagnosed(found) if found[0].check == "no_table"));
    assert_eq!(answer.json(true), r#"[{"check":"no_table","subject":null,"found":"none","fix":null}]"#);
    bench.assert_idle();
}

#[test]
fn what_is_wrong_with_the_rows_needs_the_columns() {
    let mut bench = Bench::new(Options::default());
    let ticket = bench.submit(Request::Diagnose(Diagnosis::Keys));
    let catalogue = bench.sent_one();
    assert_eq!(catalogue.kind, StatementKind::Catalogue);
    bench.rows::<String>(&catalogue, []);
    assert_eq!(bench.error(ticket).code(), ErrorCode::MigrationRequired);
    bench.assert_idle();
}
