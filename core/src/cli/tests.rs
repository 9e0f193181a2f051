//! The command line without a database: a driver of the tests' own steps through it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use std::collections::HashMap;

use chrono::DateTime;
use clap::CommandFactory;

use super::advice::{CHECKS, Severity, advice};
use super::args::Arguments;
use super::session::{Input, Reply, Session, Step, Stream, Terminal};
use super::text::{bar, cell, money, read_time, shown, without_secrets};
use crate::engine::{Answer, Finding, Request};
use crate::error::{Error, ErrorCode};

const KEY: &str = "ak_0123456789abcdef0123456789abcdef0123456789abcdef";

fn input(arguments: &[&str], environment: &[(&str, &str)]) -> Input {
    Input {
        arguments: arguments.iter().map(|text| text.to_string()).collect(),
        environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        terminal: Terminal { input: true, output: true, error: true },
        output_is_closed: false,
    }
}

/// What was written to each stream, the requests that were made, the exit code.
#[derive(Default)]
struct Told {
    output: String,
    error: String,
    requests: Vec<Request>,
    code: u8,
}

/// Answers calls one after the other, and questions with `line`.
fn run(input: Input, answers: Vec<Result<Answer, Error>>, line: Option<&str>) -> Told {
    let mut session = Session::new(input);
    let mut answers = answers.into_iter();
    let mut told = Told::default();
    let mut reply = Reply::Done;
    for _ in 0..1_000 {
        reply = match session.next(reply) {
            Step::Write(Stream::Output, text) => {
                told.output.push_str(&text);
                Reply::Done
            }
            Step::Write(Stream::Error, text) => {
                told.error.push_str(&text);
                Reply::Done
            }
            Step::Call(request) => {
                told.requests.push(*request);
                Reply::Answer(Box::new(answers.next().unwrap()), DateTime::UNIX_EPOCH)
            }
            Step::Ask => Reply::Line(line.map(str::to_owned)),
            Step::Pause(_) => Reply::Done,
            Step::Exit(code) => {
                told.code = code;
                return told;
            }
        };
    }
    panic!("it never ends: {}", told.error);
}

const URL: &[(&str, &str)] = &[("DATABASE_URL", "postgresql://localhost/app")];

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn what_is_wrong_with_arguments_is_named_and_nothing_is_called() {
    for (arguments, named) in [
        (&["create"][..], "--account"),
        (&["create", "--account", "a", "--budget-cents", "x"], "--budget-cents"),
        (&["create", "--account", "a", "--budget-usd", "1.005"], "--budget-usd"),
        (&["create", "--account", "a", "--budget-usd", "-1"], "--budget-usd"),
        (&["create", "--account", "a", "--budget-usd", "free"], "--budget-usd"),
        (&["create", "--account", "a", "--budget-period", "decade"], "--budget-period"),
        (&["create", "--account", "a", "--expires-in", "soon"], "--expires-in"),
        (&["create", "--account", "a", "--expires-in", ""], "--expires-in"),
        (&["update", "1"], "--name"),
        (&["update", "1", "--no-budget", "--budget-cents", "1"], "--budget-cents"),
        (&["revoke-all", "--yes"], "--account"),
        (&["revoke-all", "--account", "a", "--parent", "1"], "--parent"),
        (&["usage", "1", "--by", "fortnight"], "--by"),
        (&["usage", "1", "--from", "yesterday"], "--from"),
        (&["prune", "--older-than", "x", "--yes"], "--older-than"),
        (&["list", "--state", "well"], "state"),
        (&["list", "--limit", "0"], "--limit"),
        (&["list", "--timeout", "0"], "--timeout"),
        (&["lst"], "list"),
        (&["show"], "<ID>"),
    ] {
        let told = run(input(arguments, URL), Vec::new(), None);
        assert_eq!(told.code, 2, "{arguments:?}: {}", told.error);
        assert!(told.error.contains(named), "{arguments:?}: {}", told.error);
        assert_eq!(told.output, "", "{arguments:?}");
    }
    let told = run(input(&["list"], &[]), Vec::new(), None);
    assert_eq!(told.code, 2);
    assert!(told.error.contains("--database-url") && told.error.contains("DATABASE_URL"), "{}", told.error);
}

#[test]
fn help_and_completions_need_no_database() {
    for arguments in [
        &["--help"][..],
        &["create", "--help"],
        &["--version"],
        &["completions", "bash"],
        &["migrate", "--sql"],
    ] {
        let told = run(input(arguments, &[]), Vec::new(), None);
        assert_eq!((told.code, told.error.as_str()), (0, ""), "{arguments:?}");
        assert!(told.output.len() > 10, "{arguments:?}");
    }
}

#[test]
fn no_secret_is_repeated() {
    let url = "postgresql://user:hunter2@localhost/app";
    for arguments in [
        &["list", url][..],
        &["list", "--bogus", url],
        &["list", "--timeout", url],
        &["list", "host=x password=hunter2 user=y"],
        &["list", "postgresql://localhost/app?user=x&password=hunter2&sslmode=require"],
        &["list", KEY],
        &["update", KEY],
    ] {
        let told = run(input(arguments, URL), Vec::new(), None);
        assert_eq!(told.code, 2, "{arguments:?}");
        assert!(!told.error.contains("hunter2"), "{}", told.error);
        assert!(!told.error.contains(&KEY[3..]), "{}", told.error);
    }
    assert_eq!(without_secrets("a 'postgres://u:p@h/d' b"), "a 'postgres://u:[redacted]@h/d' b");
    assert_eq!(without_secrets("password='a b' host=x"), "password=[redacted] host=x");
    assert_eq!(without_secrets("Password = 'a\\'hunter2' host=x"), "Password=[redacted] host=x");
    assert_eq!(
        without_secrets("a wrong password, says https://h/d\nmy password"),
        "a wrong password, says https://h/d\nmy password"
    );
    for password in ["hunter2 hunter2", "it's hunter2", "hunter2@hunter2 hunter2", "'hunter2", "a\thunter2/?"]
    {
        for text in
            [format!("x 'postgres://u:{password}@h/d' is wrong"), format!("postgres://u:{password}@h\nx")]
        {
            let said = without_secrets(&text);
            assert!(!said.contains("hunter2") && said.contains("://u:[redacted]@h"), "{said}");
        }
    }
    let session = Session::new(input(&["list", "--database-url", url], &[]));
    assert!(!format!("{session:?}").contains("hunter2"));
    // A key or an address where an id belongs, or something else.
    for secret in [KEY, url] {
        for look in [&[][..], &["--json"]] {
            let told =
                run(input(&[look, &["show", secret]].concat(), URL), vec![Ok(Answer::Key(None))], None);
            assert_eq!(told.code, 3);
            let state = run(input(&[look, &["list", "--state", secret]].concat(), URL), Vec::new(), None);
            let life = [look, &["create", "--account", "a", "--expires-in", secret]].concat();
            for told in [told, state, run(input(&life, URL), Vec::new(), None)] {
                assert!(!told.error.contains(&KEY[3..]) && !told.error.contains("hunter2"), "{}", told.error);
            }
        }
    }
}

#[test]
fn nobody_is_asked_who_cannot_answer() {
    for arguments in [&["prune", "--older-than", "1d"][..]] {
        let mut closed = input(arguments, URL);
        closed.terminal.input = false;
        let told = run(closed, Vec::new(), None);
        assert_eq!(told.code, 2);
        assert!(told.error.contains("--yes"), "{}", told.error);
        for line in [None, Some(""), Some("\n"), Some("no\n"), Some("yess\n")] {
            let told = run(input(arguments, URL), Vec::new(), line);
            assert_eq!((told.code, told.requests.len()), (5, 0), "{line:?}");
        }
        let told = run(input(arguments, URL), vec![Ok(Answer::Pruned(1))], Some("Y\n"));
        assert_eq!((told.code, told.requests.len()), (0, 1));
        assert!(told.output.contains("1 entry deleted"), "{}", told.output);
    }
}

#[test]
fn errors_have_their_codes() {
    for (code, exit) in [
        (ErrorCode::Database, 1),
        (ErrorCode::MigrationRequired, 1),
        (ErrorCode::InvalidScopes, 2),
        (ErrorCode::Timeout, 1),
    ] {
        let told = run(input(&["sweep"], URL), vec![Err(Error::new(code, "it is so"))], None);
        assert_eq!(told.code, exit);
        assert!(told.error.contains("it is so"));
        let told = run(input(&["--json", "sweep"], URL), vec![Err(Error::new(code, "it is so"))], None);
        let json: serde_json::Value = serde_json::from_str(told.error.trim()).unwrap();
        assert_eq!((json["code"].as_str(), told.code), (Some(code.as_str()), exit));
    }
}

#[test]
fn colours_go_where_they_are_wanted() {
    let colours = |arguments: &[&str], environment: &[(&str, &str)], terminal: bool| {
        let mut input = input(arguments, environment);
        input.environment.extend(HashMap::from([(URL[0].0.to_owned(), URL[0].1.to_owned())]));
        input.terminal.output = terminal;
        run(input, vec![Ok(Answer::Migrated)], None).output.contains('\u{1b}')
    };
    assert!(colours(&["migrate"], &[], true));
    assert!(!colours(&["migrate"], &[], false));
    assert!(!colours(&["migrate"], &[("NO_COLOR", "1")], true));
    assert!(colours(&["migrate"], &[("NO_COLOR", "")], true));
    assert!(!colours(&["migrate"], &[("TERM", "dumb")], true));
    assert!(colours(&["migrate"], &[("CLICOLOR_FORCE", "1")], false));
    assert!(colours(&["--color", "always", "migrate"], &[("NO_COLOR", "1")], false));
    assert!(!colours(&["--color", "never", "migrate"], &[], true));
}

#[test]
fn no_secret_is_made_that_nobody_gets() {
    for (arguments, answer) in [
        (&["create", "--account", "a"][..], Answer::Migrated),
        (&["rotate", "7"], Answer::Migrated),
        (&["--json", "rotate", "7"], Answer::Migrated),
    ] {
        let input = Input { output_is_closed: true, ..input(arguments, URL) };
        let told = run(input, vec![Ok(answer)], None);
        assert!(told.requests.is_empty(), "{arguments:?}");
        assert_eq!((told.code, told.output.as_str()), (2, ""));
        assert!(told.error.contains("standard output is closed"), "{}", told.error);
    }
    // What makes no secret goes on.
    let input = Input { output_is_closed: true, ..input(&["revoke", "7"], URL) };
    assert_eq!(run(input, vec![Ok(Answer::Revoked(true))], None).code, 0);
}

#[test]
fn a_reply_that_is_none_ends_a_run() {
    let mut session = Session::new(input(&["--json", "sweep"], URL));
    assert!(matches!(session.next(Reply::Done), Step::Call(_)));
    assert!(matches!(session.next(Reply::Done), Step::Write(Stream::Error, _)));
    assert!(matches!(session.next(Reply::Unwritable), Step::Exit(1)));
    assert!(matches!(session.next(Reply::Done), Step::Exit(1)));
}

#[test]
fn the_doctor_looks_at_the_clock() {
    let found = |check: &str, found: &str| Finding {
        check: check.to_owned(),
        subject: None,
        found: found.to_owned(),
        fix: None,
    };
    let checks = |clock: &str| -> Vec<String> {
        let answers = vec![
            Ok(Answer::Diagnosed(vec![found("server", "PostgreSQL 15"), found("clock", clock)])),
            Ok(Answer::Diagnosed(vec![found("bad_hash", "1 row")])),
        ];
        let told = run(input(&["--json", "doctor"], URL), answers, None);
        assert_eq!(told.code, 4);
        let json: Vec<serde_json::Value> = serde_json::from_str(&told.output).unwrap();
        json.iter().map(|finding| finding["check"].as_str().unwrap().to_owned()).collect()
    };
    for (clock, expected) in [
        ("0", &["bad_hash"][..]),
        ("5000", &["bad_hash"]),
        ("6000", &["bad_hash", "clock"]),
        ("-6000", &["bad_hash", "clock"]),
    ] {
        assert_eq!(checks(clock), expected, "{clock}");
    }
}

#[test]
fn rows_that_cannot_be_looked_at_are_an_error() {
    let refused = Error::new(ErrorCode::Database, "permission denied");
    let told = run(input(&["doctor"], URL), vec![Ok(Answer::Diagnosed(Vec::new())), Err(refused)], None);
    assert_eq!(told.code, 4);
    assert!(
        told.output.contains("rows_unread") && told.output.contains("permission denied"),
        "{}",
        told.output
    );
}

#[test]
fn amounts_read_as_people_write_them() {
    for (microcents, text) in [
        (0, "$0.00"),
        (1_000_000, "$0.01"),
        (1_234_000_000, "$12.34"),
        (1, "$0.00000001"),
        (420_000, "$0.0042"),
        (-150_000_000, "-$1.50"),
        (123_456_789_000_000, "$1,234,567.89"),
        (i64::MAX, "$92,233,720,368.54775807"),
        (i64::MIN, "-$92,233,720,368.54775808"),
    ] {
        assert_eq!(money(microcents), text);
    }
}

#[test]
fn bars_are_as_wide_as_they_are() {
    for (spent, held, whole, expected) in [
        (0, 0, 100, ".........."),
        (1, 0, 100, "#........."),
        (50, 20, 100, "#####==..."),
        (100, 0, 100, "##########"),
        (500, 500, 100, "##########"),
        (99, 50, 100, "##########"),
        (-5, 10, 100, "=........."),
        (0, 0, 0, "##########"),
        (i64::MAX, i64::MAX, i64::MAX, "##########"),
        (i64::MIN, i64::MIN, i64::MIN, "##########"),
    ] {
        let bar = bar(spent, held, whole, 10, false);
        assert_eq!(anstream::adapter::strip_str(&bar).to_string(), expected, "{spent} {held} {whole}");
    }
}

#[test]
fn nothing_steers_the_terminal() {
    assert_eq!(shown("a\u{1b}[31mb\u{202e}c\r\n"), "a\\u{1b}[31mb\\u{202e}c\\u{d}\n");
    assert_eq!(cell("a\nb"), "a\\nb");
    for c in "\u{7f}\u{85}\u{9b}\u{61c}\u{180e}\u{2028}\u{2029}\u{2066}\u{206f}\u{e0041}".chars() {
        assert!(!shown(&c.to_string()).contains(c), "{c:?}");
    }
    assert_eq!(cell(&"é".repeat(100)).chars().count(), 61);
}

#[test]
fn times_are_days_or_moments() {
    assert_eq!(read_time("2026-11-30").unwrap().to_rfc3339(), "2026-11-30T00:00:00+00:00");
    assert_eq!(read_time("2026-11-30T12:00:00+02:00").unwrap().to_rfc3339(), "2026-11-30T10:00:00+00:00");
    for bad in ["", "now", "30.11.2026", "2026-13-01", "2026-11-30T12:00:00"] {
        assert!(read_time(bad).is_err(), "{bad}");
    }
}

/// Each finding of the SQL has advice, and each advice a finding.
#[test]
fn every_finding_has_advice() {
    let sql =
        [include_str!("../table/sql/diagnose_database.sql"), include_str!("../table/sql/diagnose_keys.sql")]
            .join("\n");
    for check in CHECKS {
        let found = sql.contains(&format!("'{check}'")) || *check == "rows_unread";
        assert!(found, "nothing finds {check}");
        let advice = advice(check);
        assert!(
            advice.severity <= Severity::Notice && !advice.why.is_empty() && !advice.what_to_do.is_empty()
        );
    }
    let named = sql
        .split("SELECT '")
        .skip(1)
        .chain(sql.split("\n            ('").skip(1))
        .map(|rest| rest.split('\'').next().unwrap());
    for name in named
        .filter(|name| name.contains('_') && !["budget_used_cents", "pg_terminate_backend"].contains(name))
    {
        let is_column = name.starts_with("budget_") || name.ends_with("_at");
        assert!(is_column || CHECKS.contains(&name), "{name} has no advice");
    }
}
