//! `last_used_at`, written behind the callers' backs.

use super::*;

/// Validates a key whose last use is old; answers whatever the engine sends next.
fn use_key(bench: &mut Bench, subject: &str, id: u32) -> Vec<Statement> {
    let ticket = bench.validate(subject);
    let sent = bench.sent();
    let lookup = sent.iter().find(|s| s.kind == StatementKind::ValidateOne).unwrap();
    bench.rows(lookup, [stale(1, id)]);
    assert_eq!(bench.granted(ticket), id.to_string(), "the answer does not wait for the touch");
    bench.sent()
}

#[test]
fn uses_are_noted_once_and_in_batches_while_a_touch_is_under_way() {
    let mut bench = Bench::ready(Options { max_batch: 2, ..Options::default() });
    let first = use_key(&mut bench, "a", 7);
    assert_eq!(kinds(&first), [StatementKind::Touch]);
    assert_eq!(params(&first[0]), [r#"{"7"}"#, "60"]);
    for (subject, id) in [("b", 2), ("c", 3), ("b", 2), ("d", 4), ("c", 3)] {
        assert_eq!(use_key(&mut bench, subject, id).len(), 0, "one touch at a time");
    }
    bench.rows::<String>(&first[0], []);
    let second = bench.sent_one();
    assert_eq!(params(&second)[0], r#"{"2","3"}"#);
    bench.rows::<String>(&second, []);
    let third = bench.sent_one();
    assert_eq!(params(&third)[0], r#"{"4"}"#);
    bench.engine.close();
    assert!(!bench.engine.is_idle(), "close waits for touches");
    bench.rows::<String>(&third, []);
    bench.assert_idle();
}

#[test]
fn what_was_used_lately_or_refused_by_the_table_is_not_touched() {
    let mut bench = Bench::ready(Options::default());
    bench.validate("a");
    let lookup = bench.sent_one();
    bench.rows(&lookup, [live(1, 1)]);
    bench.assert_idle();
    // A table without last_used_at answers `stale` for every key.
    let mut bench = Bench::new(Options::default());
    bench.validate("a");
    let catalogue = bench.sent_one();
    bench.rows(&catalogue, columns_but("last_used_at"));
    assert_eq!(use_key(&mut bench, "a", 1).len(), 0);
}

#[test]
fn a_failed_touch_fails_no_call_and_is_followed_by_a_pause() {
    let mut bench = Bench::ready(Options::default());
    let touch = use_key(&mut bench, "a", 1).remove(0);
    use_key(&mut bench, "b", 2);
    bench.fails(&touch, Some("23514"));
    assert_eq!(bench.engine.stats().failed_touches, 1);
    bench.assert_idle();
    bench.now += Duration::from_secs(59);
    assert_eq!(use_key(&mut bench, "a", 1).len(), 0);
    bench.now += Duration::from_secs(1);
    assert_eq!(use_key(&mut bench, "a", 1).len(), 1);
}

#[test]
fn a_key_whose_row_was_locked_is_touched_after_a_pause() {
    let mut bench = Bench::ready(Options::default());
    let touch = use_key(&mut bench, "a", 1).remove(0);
    bench.rows(&touch, ["(1)"]);
    bench.engine.close();
    assert!(!bench.engine.is_idle());
    bench.pass_pause();
    let touch = bench.sent_one();
    assert_eq!(params(&touch)[0], r#"{"1"}"#);
    bench.rows::<String>(&touch, []);
    bench.assert_idle();
}

#[test]
fn charges_are_not_touches() {
    let mut bench = Bench::ready(Options::default());
    bench.charge("a", 1);
    let sent = bench.sent_one();
    bench.rows(&sent, [charged(1, 0, 1)]);
    bench.assert_idle();
}

/// A touch is under way, another waits, and the table has to be looked at again.
fn touches_without_a_table() -> Bench {
    let mut bench = Bench::ready(Options::default());
    let touch = use_key(&mut bench, "a", 1).remove(0);
    use_key(&mut bench, "b", 2);
    let ticket = bench.submit(Request::Migrate);
    let step = bench.sent_one();
    bench.engine.cancel(ticket);
    bench.rows::<String>(&step, []);
    bench.rows::<String>(&touch, []);
    bench.engine.close();
    bench
}

#[test]
fn touches_are_flushed_though_the_table_has_to_be_looked_at_again() {
    let mut bench = touches_without_a_table();
    let catalogue = bench.sent_one();
    assert_eq!(catalogue.kind, StatementKind::Catalogue);
    bench.rows(&catalogue, columns());
    let touch = bench.sent_one();
    assert_eq!(params(&touch)[0], r#"{"2"}"#);
    bench.rows::<String>(&touch, []);
    bench.assert_idle();
}

#[test]
fn touches_that_cannot_be_written_do_not_keep_an_engine_from_closing() {
    let mut bench = touches_without_a_table();
    let catalogue = bench.sent_one();
    bench.fails(&catalogue, Some("42501"));
    bench.assert_idle();
}

#[test]
fn what_the_server_does_not_let_us_write_is_tried_once() {
    for sqlstate in ["25006", "42501"] {
        let mut bench = Bench::ready(Options::default());
        for n in 0..3 {
            bench.validate("a");
            let lookup = bench.sent_one();
            bench.rows(&lookup, [stale(1, 1)]);
            let touches = bench.sent();
            assert_eq!(touches.len(), usize::from(n == 0), "{sqlstate}");
            touches.iter().for_each(|touch| bench.fails(touch, Some(sqlstate)));
            bench.pass(Duration::from_secs(1_000));
        }
        bench.assert_idle();
    }
}
