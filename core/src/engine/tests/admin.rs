//! Insertions, revocations and migrations.

use super::*;
use crate::key::new_key::CreateKey;
use crate::table::migrations;

fn key_row(spec: CreateKey) -> Request {
    Request::Create(spec)
}

fn subject_row() -> Request {
    Request::EnsureSubject("robot".to_owned(), CreateKey::new("7"))
}

fn steps() -> usize {
    let table = Options::default().table;
    (0..).take_while(|n| migrations::step(*n, &table).is_some()).count()
}

#[test]
fn a_revocation_tells_whether_a_live_key_was_revoked() {
    let mut bench = Bench::ready(Options::default());
    for (rows, revoked) in [(vec!["(5,t)"], true), (vec![], false)] {
        let revocation = Revocation::of_key("5").of_account(Some("7".into())).within("3");
        let ticket = bench.submit(Request::Revoke(revocation));
        let sent = bench.sent_one();
        assert_eq!((sent.kind, params(&sent)), (StatementKind::Revoke, vec!["5", "7", "3", "NULL"]));
        bench.rows(&sent, rows);
        assert_eq!(bench.outcome(ticket), Answer::Revoked(revoked));
    }
    bench.revoke("5");
    assert_eq!(params(&bench.sent_one()), ["5", "NULL", "NULL", "NULL"]);
}

#[test]
fn locked_keys_keep_no_other_from_being_revoked_or_created() {
    let mut bench = Bench::ready(Options::default());
    let stuck: Vec<Ticket> = (1..=20).map(|id: i64| bench.revoke(&id.to_string())).collect();
    let mut waiting = Vec::new();
    for _ in 0..200 {
        for statement in bench.sent() {
            match params(&statement)[3] {
                "NULL" => bench.rows(&statement, [format!("({},f)", params(&statement)[0]).as_str()]),
                _ => waiting.push(statement),
            }
        }
        bench.pass(Duration::from_millis(10));
    }
    // After a few looks some statements wait for their rows, and leave connections to others.
    assert_eq!(waiting.len(), 3);
    let (free, created) = (bench.revoke("99"), bench.submit(key_row(CreateKey::new("7"))));
    let mut sent = bench.sent();
    sent.retain(|statement| params(statement)[0] == "99" || statement.kind == StatementKind::Insert);
    bench.rows(&sent[0], ["(99,t)"]);
    bench.rows(&sent[1], ["(100,)"]);
    assert_eq!(bench.outcome(free), Answer::Revoked(true));
    assert!(matches!(bench.outcome(created), Answer::Created(_)));
    // One that waited has its row now, and makes room for the next.
    bench.rows(&waiting[0], [format!("({},t)", params(&waiting[0])[0]).as_str()]);
    let first: usize = params(&waiting[0])[0].parse().unwrap();
    assert_eq!(bench.outcome(stuck[first - 1]), Answer::Revoked(true));
    bench.pass(Duration::from_millis(200));
    assert!(bench.sent().iter().any(|statement| params(statement)[3] != "NULL"));
}

#[test]
fn what_can_be_no_id_or_no_account_revokes_nothing_and_asks_nobody() {
    let mut bench = Bench::ready(Options::default());
    let only = |account: Option<&str>| AccountFilter::Only(account.map(AccountId::from));
    for (id, account) in
        [("5x", AccountFilter::Any), ("", AccountFilter::Any), ("5", only(None)), ("5", only(Some("x")))]
    {
        let ticket = bench.submit(Request::Revoke(Revocation { account, ..Revocation::of_key(id) }));
        assert_eq!(bench.sent().len(), 0);
        assert_eq!(bench.outcome(ticket), Answer::Revoked(false));
    }
    bench.assert_idle();
}

#[test]
fn an_inserted_key_has_the_databases_id() {
    let mut bench = Bench::ready(Options::default());
    let ticket = bench.submit(key_row(CreateKey::new("7").budget_cents(5)));
    let sent = bench.sent_one();
    assert_eq!(sent.kind, StatementKind::Insert);
    let given: serde_json::Value = serde_json::from_str(params(&sent)[0]).unwrap();
    assert_eq!((&given["account_id"], &given["budget_cents"]), (&"7".into(), &5.into()));
    bench.rows(&sent, ["(9,)"]);
    let Answer::Created(created) = bench.outcome(ticket) else { panic!("not inserted") };
    assert_eq!(
        (created.id.to_string(), created.budget_cents, created.expires_at),
        ("9".to_owned(), Some(5), None)
    );
    bench.assert_idle();
}

#[test]
fn a_row_that_does_not_fit_the_table_is_refused_unsent() {
    let mut bench = Bench::knowing(Options::default(), columns_but("user_id"));
    let account = bench.submit(key_row(CreateKey::new("acme")));
    assert_eq!(bench.sent().len(), 0);
    assert_eq!(bench.error(account).code(), ErrorCode::InvalidAccountId);
    // A missing column is looked for again once.
    let lacking = bench.submit(key_row(CreateKey::new("7").user_id("u")));
    let catalogue = bench.sent_one();
    assert_eq!(catalogue.kind, StatementKind::Catalogue);
    bench.rows(&catalogue, columns_but("user_id"));
    assert_eq!(bench.sent().len(), 0);
    let error = bench.error(lacking);
    assert_eq!(error.code(), ErrorCode::MigrationRequired);
    assert!(error.message().contains("lacks user_id"), "{error}");
    bench.assert_idle();
}

#[test]
fn a_subject_has_one_row() {
    let mut bench = Bench::ready(Options::default());
    let [first, second, third] = [(); 3].map(|()| bench.submit(subject_row()));
    let sent = bench.sent();
    bench.rows(&sent[0], ["(9,)"]);
    bench.rows::<String>(&sent[1], []);
    bench.fails(&sent[2], Some("42P10"));
    assert_eq!(
        [first, second].map(|ticket| bench.outcome(ticket)),
        [Answer::SubjectEnsured, Answer::SubjectEnsured]
    );
    assert_eq!(bench.error(third).code(), ErrorCode::MigrationRequired);
}

#[test]
fn nonsense_is_an_error() {
    let mut bench = Bench::ready(Options::default());
    for rows in
        [vec![], vec!["(9,)", "(10,)"], vec!["(9)"], vec!["(,)"], vec!["(x,)"], vec!["(9,soon)"], vec![""]]
    {
        let ticket = bench.submit(key_row(CreateKey::new("7")));
        let sent = bench.sent_one();
        bench.rows(&sent, rows);
        assert_eq!(bench.error(ticket).code(), ErrorCode::UnexpectedResponse);
    }
    bench.assert_idle();
}

#[test]
fn four_are_under_way_at_most_and_each_alone() {
    let mut bench = Bench::ready(Options::default());
    let tickets: Vec<Ticket> = (0..6).map(|id| bench.revoke(&id.to_string())).collect();
    let mut sent = bench.sent();
    assert_eq!(sent.len(), 4);
    bench.rows(&sent[2], ["(2,t)"]);
    sent.extend(bench.sent());
    assert_eq!(sent.len(), 5);
    let ids: Vec<&str> = sent.iter().map(|s| params(s)[0]).collect();
    assert_eq!(ids, ["0", "1", "2", "3", "4"]);
    assert_eq!(bench.outcome(tickets[2]), Answer::Revoked(true));
}

#[test]
fn a_migration_runs_step_by_step_without_a_catalogue() {
    let mut bench = Bench::new(Options::default());
    let ticket = bench.submit(Request::Migrate);
    let mut texts = Vec::new();
    for _ in 0..steps() {
        let step = bench.sent_one();
        assert_eq!((step.kind, step.params.len()), (StatementKind::Migrate, 0));
        assert!(bench.is_open(ticket));
        bench.rows::<String>(&step, []);
        texts.push(step.sql);
    }
    texts.dedup();
    assert_eq!(texts.len(), steps());
    assert_eq!(bench.sent().len(), 0);
    assert_eq!(bench.outcome(ticket), Answer::Migrated);
    bench.assert_idle();
}

#[test]
fn after_a_migration_the_table_is_looked_at_again() {
    let mut bench = Bench::ready(Options::default());
    bench.submit(Request::Migrate);
    for _ in 0..steps() {
        let step = bench.sent_one();
        bench.rows::<String>(&step, []);
    }
    bench.validate("a");
    assert_eq!(bench.sent_one().kind, StatementKind::Catalogue);
}

#[test]
fn a_catalogue_asked_before_a_migration_ended_is_asked_again() {
    let mut bench = Bench::new(Options::default());
    bench.submit(Request::Migrate);
    let ticket = bench.validate("a");
    let [step, catalogue] = bench.sent().try_into().unwrap();
    assert_eq!(catalogue.kind, StatementKind::Catalogue);
    bench.rows::<String>(&step, []);
    assert_eq!(bench.sent_one().kind, StatementKind::Migrate);
    bench.rows::<String>(&catalogue, []);
    assert!(bench.is_open(ticket), "what it says may be outdated");
    assert_eq!(bench.sent_one().kind, StatementKind::Catalogue);
}

#[test]
fn a_migration_waits_for_others_but_not_for_ever() {
    for sqlstate in ["55P03", "40P01", "42P07", "23505", "42701", "42710"] {
        let mut bench = Bench::new(Options::default());
        let ticket = bench.submit(Request::Migrate);
        for _ in 1..12 {
            let step = bench.sent_one();
            bench.fails(&step, Some(sqlstate));
            assert!(bench.is_open(ticket));
            // Migrations have no time limit.
            let pause = bench.engine.next_retry().unwrap();
            assert!(pause > bench.now);
            assert_eq!(bench.sent().len(), 0);
            bench.now = pause;
            bench.engine.expire(bench.now + Duration::from_secs(3600));
        }
        let step = bench.sent_one();
        bench.fails(&step, Some(sqlstate));
        assert_eq!(bench.error(ticket).code(), ErrorCode::Database);
        bench.assert_idle();
    }
}

#[test]
fn each_step_has_its_own_tries_and_other_faults_end_a_migration() {
    let mut bench = Bench::new(Options::default());
    let ticket = bench.submit(Request::Migrate);
    for _ in 0..2 {
        for _ in 0..11 {
            let step = bench.sent_one();
            bench.fails(&step, Some("55P03"));
            bench.now = bench.engine.next_retry().unwrap();
        }
        let step = bench.sent_one();
        bench.rows::<String>(&step, []);
    }
    let step = bench.sent_one();
    bench.fails(&step, Some("42501"));
    assert_eq!(bench.error(ticket).code(), ErrorCode::Database);
    bench.assert_idle();
}
