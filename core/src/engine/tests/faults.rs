//! Faults: what is tried again, what is not, and a table that is not as it was.

use super::*;

const ABORTS: [&str; 3] = ["40001", "40P01", "55P03"];

#[test]
fn what_certainly_aborted_is_tried_again_after_a_pause() {
    for sqlstate in ABORTS {
        let mut bench = Bench::ready(Options::default());
        let tickets = [bench.charge("a", 1), bench.validate("a"), bench.revoke("1")];
        for statement in bench.sent() {
            bench.fails(&statement, Some(sqlstate));
        }
        // Requests that come during the pause share the next statement.
        let joined = bench.charge("a", 2);
        bench.pass_pause();
        bench.now += Duration::from_millis(20); // the lanes' pauses differ
        let sent = bench.sent();
        assert_eq!(
            kinds(&sent),
            [StatementKind::Revoke, StatementKind::ChargeOne, StatementKind::ValidateOne]
        );
        bench.rows(&sent[0], ["(1,t)"]);
        bench.rows(&sent[1], [charged(1, 0, 3)]);
        bench.rows(&sent[2], [live(1, 1)]);
        assert_eq!((bench.usage(tickets[0]), bench.usage(joined)), (recorded(1), recorded(3)));
        assert_eq!(bench.granted(tickets[1]), "1");
        assert_eq!(bench.outcome(tickets[2]), Answer::Revoked(true));
        assert_eq!(bench.engine.stats().retries, 3);
        bench.assert_idle();
    }
}

#[test]
fn tries_are_bounded_and_pauses_grow() {
    let mut bench = Bench::ready(Options { max_attempts: 4, ..Options::default() });
    for make in
        [|b: &mut Bench| b.charge("a", 1), |b: &mut Bench| b.validate("a"), |b: &mut Bench| b.revoke("1")]
    {
        let ticket = make(&mut bench);
        let mut pauses = Vec::new();
        for _ in 1..4 {
            let statement = bench.sent_one();
            bench.fails(&statement, Some("40P01"));
            assert!(bench.is_open(ticket));
            let before = bench.now;
            bench.pass_pause();
            pauses.push(bench.now - before);
        }
        let last = bench.sent_one();
        bench.fails(&last, Some("40P01"));
        let error = bench.error(ticket);
        assert_eq!((error.code(), error.message()), (ErrorCode::Database, "as the test wants it"));
        assert!(pauses[0] < pauses[2], "{pauses:?}");
        bench.assert_idle();
    }
}

#[test]
fn each_request_has_tries_of_its_own() {
    let mut bench = Bench::ready(Options { max_attempts: 2, ..Options::default() });
    let first = bench.charge("a", 1);
    let statement = bench.sent_one();
    bench.fails(&statement, Some("40P01"));
    let joined = bench.charge("a", 2);
    bench.pass_pause();
    let shared = bench.sent_one();
    bench.fails(&shared, Some("40P01"));
    assert_eq!(bench.error(first).code(), ErrorCode::Database);
    assert!(bench.is_open(joined), "it was tried once");
    bench.pass_pause();
    let last = bench.sent_one();
    bench.rows(&last, [charged(1, 0, 2)]);
    assert_eq!(bench.usage(joined), recorded(2));
    bench.assert_idle();
}

#[test]
fn a_pause_that_is_over_does_not_hide_another() {
    let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
    bench.charge("a", 1);
    let charge = bench.sent_one();
    bench.fails(&charge, Some("40001"));
    bench.pass_pause();
    bench.sent_one();
    bench.charge("b", 1);
    bench.validate("a");
    let lookup = bench.sent_one();
    bench.fails(&lookup, Some("40001"));
    // The charge of b waits for a statement, not for a time.
    bench.pass_pause();
    assert_eq!(bench.sent_one().kind, StatementKind::ValidateOne);
}

#[test]
fn what_may_have_happened_is_not_tried_again() {
    // A lost connection (no SQLSTATE), and faults that another try would meet again.
    for (sqlstate, is_uncertain) in [
        (None, true),
        (Some("57P01"), true),
        (Some("08006"), true),
        (Some("08P01"), true),
        (Some("42501"), false),
    ] {
        let mut bench = Bench::ready(Options::default());
        let tickets = [bench.charge("a", 1), bench.revoke("1")];
        for statement in bench.sent() {
            bench.fails(&statement, sqlstate);
        }
        for ticket in tickets {
            let error = bench.error(ticket);
            assert_eq!(error.code(), ErrorCode::Database, "{sqlstate:?}");
            assert_eq!((error.may_have_been_recorded(), error.sqlstate()), (is_uncertain, sqlstate));
            assert_eq!(error.is_transient(), is_uncertain);
        }
        bench.assert_idle();
    }
}

#[test]
fn a_table_that_changed_is_looked_at_again_once() {
    for sqlstate in ["42703", "42P01"] {
        let mut bench = Bench::ready(Options::default());
        let ticket = bench.charge("a", 1);
        let first = bench.sent_one();
        bench.fails(&first, Some(sqlstate));
        let catalogue = bench.sent_one();
        assert_eq!(catalogue.kind, StatementKind::Catalogue);
        bench.rows(&catalogue, columns_but("name"));
        let second = bench.sent_one();
        assert_eq!(second.kind, StatementKind::ChargeOne);
        bench.fails(&second, Some(sqlstate));
        assert_eq!(bench.error(ticket).code(), ErrorCode::Database);
        bench.assert_idle();
        // The next call is again worth one look.
        let ticket = bench.validate("a");
        let lookup = bench.sent_one();
        bench.fails(&lookup, Some(sqlstate));
        let catalogue = bench.sent_one();
        bench.rows(&catalogue, columns());
        let lookup = bench.sent_one();
        bench.rows(&lookup, [live(1, 4)]);
        assert_eq!(bench.granted(ticket), "4");
        bench.assert_idle();
    }
}

#[test]
fn a_missing_column_is_looked_for_again_once_and_then_named() {
    for (make, missing) in [
        ((|b: &mut Bench| b.validate("a")) as fn(&mut Bench) -> Ticket, "external_subject"),
        (|b: &mut Bench| b.charge("a", 1), "external_subject"),
    ] {
        let mut bench = Bench::new(Options::default());
        let ticket = make(&mut bench);
        for _ in 0..2 {
            let catalogue = bench.sent_one();
            assert_eq!(catalogue.kind, StatementKind::Catalogue);
            assert!(bench.is_open(ticket));
            bench.rows(&catalogue, columns_but(missing));
        }
        assert_eq!(bench.sent().len(), 0);
        let error = bench.error(ticket);
        assert_eq!(error.code(), ErrorCode::MigrationRequired);
        assert!(error.message().contains(missing), "{error}");
        bench.assert_idle();
    }
}

#[test]
fn a_missing_column_is_told_to_all_who_wait_however_many() {
    let mut bench = Bench::new(Options { max_batch: 2, ..Options::default() });
    let tickets: Vec<Ticket> =
        ["a", "b", "c", "d", "e"].iter().map(|subject| bench.validate(subject)).collect();
    for _ in 0..10 {
        for statement in bench.sent() {
            assert_eq!(statement.kind, StatementKind::Catalogue);
            bench.rows(&statement, columns_but("external_subject"));
        }
    }
    for ticket in tickets {
        assert_eq!(bench.error(ticket).code(), ErrorCode::MigrationRequired);
    }
    bench.assert_idle();
}

#[test]
fn a_column_that_was_added_meanwhile_is_found() {
    let mut bench = Bench::new(Options::default());
    let ticket = bench.validate("a");
    let catalogue = bench.sent_one();
    bench.rows(&catalogue, columns_but("external_subject"));
    let catalogue = bench.sent_one();
    bench.rows(&catalogue, columns());
    let lookup = bench.sent_one();
    bench.rows(&lookup, [live(1, 1)]);
    assert_eq!(bench.granted(ticket), "1");
    bench.assert_idle();
}

#[test]
fn while_columns_are_missing_the_catalogue_is_asked_from_time_to_time_and_nobody_waits_for_it() {
    let mut bench = Bench::knowing(Options::default(), columns_but("delegated_by"));
    let before = bench.validate("a");
    let lookup = bench.sent_one();
    assert!(!lookup.sql.contains("k.delegated_by"), "the table has no such column");
    bench.rows(&lookup, [live(1, 1)]);
    assert_eq!(bench.granted(before), "1");

    bench.now += Duration::from_secs(10);
    let meanwhile = bench.validate("a");
    let sent = bench.sent();
    assert_eq!(kinds(&sent), [StatementKind::Catalogue, StatementKind::ValidateOne]);
    bench.rows(&sent[1], [live(1, 1)]);
    assert_eq!(bench.granted(meanwhile), "1");
    bench.rows(&sent[0], columns());

    let after = bench.validate("a");
    let lookup = bench.sent_one();
    assert!(lookup.sql.contains("k.delegated_by"), "the new column counts");
    bench.rows(&lookup, [live(1, 1)]);
    assert_eq!(bench.granted(after), "1");
    bench.now += Duration::from_secs(1_000_000);
    bench.assert_idle();
}

#[test]
fn a_failed_look_at_the_catalogue_fails_no_call() {
    let mut bench = Bench::knowing(Options::default(), columns_but("delegated_by"));
    for answer in [Err("08006"), Ok("nonsense")] {
        bench.now += Duration::from_secs(10);
        let refresh = bench.sent_one();
        let ticket = bench.validate("a");
        match answer {
            Err(sqlstate) => bench.fails(&refresh, Some(sqlstate)),
            Ok(row) => bench.rows(&refresh, [row]),
        }
        let lookup = bench.sent_one();
        bench.rows(&lookup, [live(1, 1)]);
        assert_eq!(bench.granted(ticket), "1");
    }
    bench.assert_idle();
}

#[test]
fn a_look_at_the_catalogue_that_comes_late_undoes_nothing() {
    let mut bench = Bench::knowing(Options::default(), columns_but("delegated_by"));
    bench.now += Duration::from_secs(10);
    let late = bench.sent_one();
    // Meanwhile a statement meets a changed table, and the catalogue is asked by itself.
    let ticket = bench.validate("a");
    let lookup = bench.sent_one();
    bench.fails(&lookup, Some("42703"));
    let catalogue = bench.sent_one();
    bench.rows(&catalogue, columns());
    bench.rows(&late, columns_but("delegated_by"));
    let lookup = bench.sent_one();
    assert!(lookup.sql.contains("k.delegated_by"), "the earlier answer is older");
    bench.rows(&lookup, [live(1, 1)]);
    assert_eq!(bench.granted(ticket), "1");
    bench.assert_idle();
}

#[test]
fn where_there_is_no_catalogue_all_who_wait_learn_why_and_the_next_asks_again() {
    for (sqlstate, tries, code) in [(None, 5, ErrorCode::Database), (Some("42501"), 1, ErrorCode::Database)] {
        let mut bench = Bench::new(Options::default());
        let tickets = [bench.validate("a"), bench.charge("a", 1), bench.revoke("1")];
        for attempt in 1..=tries {
            let catalogue = bench.sent_one();
            bench.fails(&catalogue, sqlstate);
            if attempt < tries {
                assert!(bench.is_open(tickets[1]), "nothing was sent for it, so that asking again is safe");
                bench.pass_pause();
            }
        }
        assert_eq!(tickets.map(|ticket| bench.error(ticket).code()), [code; 3]);
        bench.assert_idle();
        bench.validate("a");
        assert_eq!(bench.sent_one().kind, StatementKind::Catalogue);
    }
}

#[test]
fn a_table_that_is_not_there_or_not_a_keys_table_is_told_as_such() {
    for (rows, code, says) in [
        (vec![], ErrorCode::MigrationRequired, "there is no table \"sdk_api_keys\""),
        (columns_but("key_hash"), ErrorCode::MigrationRequired, "lacks key_hash"),
        (vec!["nonsense".to_owned()], ErrorCode::UnexpectedResponse, "column"),
    ] {
        let mut bench = Bench::new(Options::default());
        let ticket = bench.validate("a");
        let catalogue = bench.sent_one();
        bench.rows(&catalogue, rows);
        let error = bench.error(ticket);
        assert_eq!(error.code(), code);
        assert!(error.message().contains(says), "{error}");
        bench.assert_idle();
    }
}

#[test]
fn nonsense_is_an_error_for_those_concerned_and_nobody_else() {
    for nonsense in [
        "",
        "(",
        "(1)",
        "(9,5,7,,,,,,100,0,0,0,0,,,,1764000000,f,f,f,,)",
        "(0,5,7,,,,,,100,0,0,0,0,,,,1764000000,f,f,f,,)",
        &live(1, 5),
    ] {
        let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
        bench.validate("x");
        let blocking = bench.sent_one();
        let (known, concerned) = (bench.validate("a"), bench.validate("b"));
        bench.rows(&blocking, [live(1, 1)]);
        let batch = bench.sent_one();
        bench.rows(&batch, [live(1, 1), nonsense.to_owned()]);
        assert_eq!(bench.granted(known), "1");
        // Without a row b would be invalid: nobody can tell now.
        assert_eq!(bench.error(concerned).code(), ErrorCode::UnexpectedResponse, "{nonsense}");
        bench.assert_idle();
    }
}

#[test]
fn nonsense_about_charges_is_an_error_and_never_an_acknowledgement() {
    let total_of_neither = charged(2, 0, 7);
    for nonsense in
        ["", "(2,1)", "(9,f,100,0,0,0,)", "(2,f,100,x,0,0,)", &charged(1, 0, 1), &total_of_neither]
    {
        let mut bench = Bench::ready(Options { max_in_flight: 1, ..Options::default() });
        bench.charge("x", 1);
        let blocking = bench.sent_one();
        let (known, concerned) = (bench.charge("a", 1), [bench.charge("b", 2), bench.charge("b", 3)]);
        bench.rows(&blocking, [charged(1, 0, 1)]);
        let batch = bench.sent_one();
        bench.rows(&batch, [charged(1, 0, 1), nonsense.to_owned()]);
        assert_eq!(bench.usage(known), recorded(1));
        let codes = concerned.map(|ticket| bench.error(ticket).code());
        assert_eq!(codes, [ErrorCode::UnexpectedResponse; 2], "{nonsense}");
        bench.assert_idle();
    }
}
