//! The engine, fed by hand. Subjects serve as credentials where either would do: their parameters are legible.

mod admin;
mod answers_json;
mod batching;
mod breaker;
mod catalogue;
mod faults;
mod flat;
mod holds;
mod isolation;
mod limits;
mod repeats;
mod requests_json;
mod resolve;
mod stats;
mod touches;

use std::collections::BTreeMap;

use super::*;
use crate::budget::charge::Charge;
use crate::error::ErrorCode;
use crate::table::shape::OPTIONAL_COLUMNS;

const REQUIRED_COLUMNS: [&str; 5] = ["id", "account_id", "key_hash", "key_prefix", "revoked_at"];

/// An engine and a driver's clock.
struct Bench {
    engine: Engine,
    now: Duration,
    answered: BTreeMap<Ticket, Result<Answer, Error>>,
}

impl Bench {
    fn new(options: Options) -> Self {
        Bench { engine: Engine::new(options), now: Duration::ZERO, answered: BTreeMap::new() }
    }

    /// An engine that knows its table and has nothing to do.
    fn ready(options: Options) -> Self {
        Bench::knowing(options, columns())
    }

    fn knowing(options: Options, columns: Vec<String>) -> Self {
        let mut bench = Bench::new(options);
        let ticket = bench.validate("nobody");
        let catalogue = bench.sent_one();
        bench.rows(&catalogue, columns);
        let lookup = bench.sent_one();
        bench.rows::<String>(&lookup, []);
        assert_eq!(bench.reason(ticket), DenialReason::Invalid);
        assert!(bench.engine.is_idle());
        bench
    }

    fn submit(&mut self, request: Request) -> Ticket {
        self.engine.submit(self.now, request).unwrap()
    }

    fn validate(&mut self, subject: &str) -> Ticket {
        self.submit(Request::Validate(subject_of(subject)))
    }

    fn charge(&mut self, subject: &str, cents: i64) -> Ticket {
        self.submit(Request::Charge(subject_of(subject), Charge::new(Cost::cents(cents))))
    }

    fn revoke(&mut self, id: &str) -> Ticket {
        self.submit(Request::Revoke(Revocation::of_key(id)))
    }

    /// What the engine sends now, as a driver takes it: until there is nothing.
    fn sent(&mut self) -> Vec<Statement> {
        std::iter::from_fn(|| self.engine.poll(self.now)).collect()
    }

    fn sent_one(&mut self) -> Statement {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn rows<S: Into<String>>(&mut self, statement: &Statement, rows: impl IntoIterator<Item = S>) {
        let rows: Vec<String> = rows.into_iter().map(Into::into).collect();
        self.engine.receive(self.now, statement.id, Ok(&rows));
    }

    fn fails(&mut self, statement: &Statement, sqlstate: Option<&str>) {
        let fault = match sqlstate {
            Some(sqlstate) => Fault::refused(sqlstate, "as the test wants it"),
            None => Fault::lost("as the test wants it"),
        };
        self.fails_by(statement, fault);
    }

    /// From then on a statement keeps its place in the lane however long it takes.
    fn stall_as_many_as_may_be(&mut self) {
        for n in 0..super::stall::Long::Slow.most() {
            self.charge(&format!("stalled {n}"), 1);
            self.sent_one();
            self.pass(super::stall::STALL);
        }
    }

    fn fails_by(&mut self, statement: &Statement, fault: Fault) {
        self.engine.receive(self.now, statement.id, Err(fault));
    }

    /// Lets time go by, as far as callers see it.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.engine.expire(self.now);
    }

    /// Lets the pause after an abort go by.
    fn pass_pause(&mut self) {
        let until = self.engine.next_retry().unwrap();
        assert!(until > self.now && until < self.now + Duration::from_secs(10), "{until:?}");
        assert_eq!(self.sent().len(), 0, "nothing is sent during a pause");
        self.now = until;
    }

    /// The answer, taken; `None` if there is none (yet). Checks that no request is answered twice.
    fn answer(&mut self, ticket: Ticket) -> Option<Result<Answer, Error>> {
        for (ticket, answer) in self.engine.answers() {
            assert!(self.answered.insert(ticket, answer).is_none(), "{ticket:?} was answered twice");
        }
        self.answered.get(&ticket).cloned()
    }

    fn is_open(&mut self, ticket: Ticket) -> bool {
        self.answer(ticket).is_none()
    }

    fn outcome(&mut self, ticket: Ticket) -> Answer {
        self.answer(ticket).expect("no answer").unwrap()
    }

    fn usage(&mut self, ticket: Ticket) -> ChargeOutcome {
        match self.outcome(ticket) {
            Answer::Charged(usage) => usage,
            other => panic!("{other:?}"),
        }
    }

    fn reason(&mut self, ticket: Ticket) -> DenialReason {
        match self.outcome(ticket) {
            Answer::Validated(Err(denial)) => denial.reason,
            other => panic!("{other:?}"),
        }
    }

    /// The id of a granted key.
    fn granted(&mut self, ticket: Ticket) -> String {
        match self.outcome(ticket) {
            Answer::Validated(Ok(grant)) => grant.id.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn error(&mut self, ticket: Ticket) -> Error {
        self.answer(ticket).expect("no answer").unwrap_err()
    }

    /// That nothing is left, neither waiting nor under way.
    fn assert_idle(&mut self) {
        assert_eq!(self.sent().len(), 0);
        assert_eq!(self.engine.stats().pending, 0);
        assert!(self.engine.is_idle());
        assert_eq!((self.engine.next_deadline(), self.engine.next_retry()), (None, None));
    }
}

fn subject_of(subject: &str) -> Credential {
    Credential::Subject(subject.to_owned())
}

/// The catalogue's answer for a table with all that these tests use.
fn columns() -> Vec<String> {
    columns_but("")
}

fn columns_but(missing: &str) -> Vec<String> {
    let optional = OPTIONAL_COLUMNS.iter().map(|(column, _)| column);
    let companions = crate::table::shape::COMPANIONS.iter().map(|(mark, _)| mark);
    let columns =
        REQUIRED_COLUMNS.iter().chain(optional).chain(companions).filter(|column| **column != missing);
    columns.map(|column| format!("({column},bigint,bigint,f)")).collect()
}

/// A row of `validate_one.sql`: a live key that was used lately.
fn live(place: usize, id: u32) -> String {
    format!("({place},{id},7,,,,,,100,0,0,0,0,,,1764000000,1764000000,f,f,f,,)")
}

/// The same for a key with a parent, and what `validate.sql` then says of it.
fn child(place: usize, id: u32) -> [String; 2] {
    let own = format!("({place},{id},7,,,,,,100,0,0,0,0,,,1764000000,1764000000,f,f");
    [format!("{own},t,,)"), format!(r#"{own},t,,"{{""(1,t,,0,0,0,,,f,f,,,)""}}")"#)]
}

/// A live key whose last use is old.
fn stale(place: usize, id: u32) -> String {
    format!("({place},{id},7,,,,,,100,0,0,0,0,,,,1764000000,f,f,f,,)")
}

/// A row of the charging statements, in cents of a budget of 100.
fn charged(place: usize, before: i64, after: i64) -> String {
    format!("({place},f,100,{after},0,0,{before}000000)")
}

fn recorded(used: i64) -> ChargeOutcome {
    let balance = Balance::new(Some(100), used * MICROCENTS_PER_CENT, 0);
    Ok(Charged { balance: Some(balance), replayed: false })
}

fn refused(refusal: ChargeRefusal) -> ChargeOutcome {
    Err(refusal)
}

/// A statement's parameters.
fn params(statement: &Statement) -> Vec<&str> {
    statement.params.iter().map(|p| p.as_deref().unwrap_or("NULL")).collect()
}

fn kinds(statements: &[Statement]) -> Vec<StatementKind> {
    statements.iter().map(|s| s.kind).collect()
}
