//! The engine as a JavaScript object. Every call is synchronous and short.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use agentkey::Charge;
use agentkey::engine::{
    self, Begun, Cost, Credential, Fault, Request, Rounding, Statement, StatementId, Ticket, has_scope,
    invalid_scopes,
};
use chrono::Utc;
use napi::Either;
use napi_derive::napi;

use crate::answers;
use crate::command::CommandLine;
use crate::error::{Result, thrown};
use crate::exchange::Exchange;
use crate::options::EngineOptions;

/// A statement for `pool.query(text, values)`.
#[napi(object)]
pub struct NativeStatement {
    /// Names it to `receive` and `fail`.
    pub id: f64,
    /// SQL.
    pub text: String,
    /// Every parameter is text or NULL.
    #[napi(ts_type = "(string | null)[]")]
    pub values: Vec<Option<String>>,
    /// Whether it may take as long as it takes.
    pub unlimited: bool,
}

/// Requests in, statements out; rows in, answers out.
#[napi]
pub struct Engine {
    engine: engine::Engine,
    rounding: Rounding,
    started: Instant,
    /// Doors that wait for their client.
    exchanges: HashMap<Ticket, Exchange>,
    /// Command lines that wait for their client.
    commands: HashMap<Ticket, CommandLine>,
}

#[napi]
impl Engine {
    /// Checks the options; does no I/O.
    #[napi(constructor)]
    pub fn new(options: EngineOptions) -> Result<Self> {
        Ok(Engine::with(options.read()?))
    }

    /// The engine for a command line.
    #[napi(factory)]
    pub fn of_command(command: &CommandLine) -> Result<Self> {
        Ok(Engine::with(command.connection()?.options().map_err(thrown)?))
    }

    /// How long a call may take, in milliseconds.
    #[napi(getter)]
    pub fn timeout_ms(&self) -> f64 {
        millis(self.engine.options().timeout)
    }

    /// Submits any request, as JSON. Answers its ticket.
    #[napi]
    pub fn submit(&mut self, request: String) -> Result<f64> {
        let request = self.engine.options().read_request(&request).map_err(thrown)?;
        self.send(request)
    }

    /// Looks a raw key up.
    #[napi]
    pub fn validate(&mut self, raw_key: String) -> Result<f64> {
        self.send(Request::Validate(Credential::of_key(&raw_key)))
    }

    /// Charges a raw key.
    #[napi]
    pub fn charge(&mut self, raw_key: String, cents: f64) -> Result<f64> {
        let cost = Cost::from_cents_f64_with(cents, self.rounding);
        self.send(Request::Charge(Credential::of_key(&raw_key), Charge::new(cost)))
    }

    /// Makes the call that a door asks for. The door goes on by itself when it is answered.
    #[napi]
    pub fn submit_call(&mut self, exchange: &Exchange) -> Result<f64> {
        let request = exchange.request()?;
        let ticket = self.send(request)?;
        self.exchanges.insert(Ticket(integer(ticket)), exchange.share());
        Ok(ticket)
    }

    /// Makes the call that a command asks for. The command has its answer when the call is over, however it ends.
    #[napi]
    pub fn submit_command(&mut self, command: &CommandLine) -> Result<f64> {
        let request = command.request()?;
        match self.engine.submit(self.started.elapsed(), request) {
            Ok(ticket) => {
                self.commands.insert(ticket, command.share());
                Ok(number(ticket.0))
            }
            Err(error) => {
                command.reply(Err(error.clone()), Utc::now());
                Err(thrown(error))
            }
        }
    }

    /// Those of `scopes` that new keys may not have.
    #[napi]
    pub fn invalid_scopes(&self, scopes: Vec<String>) -> Vec<String> {
        invalid_scopes(&scopes, self.engine.options().valid_scopes.as_deref())
    }

    /// Whether a key with `scopes` may do `scope`; `null` is no restriction.
    #[napi]
    pub fn has_scope(&self, scopes: Option<Vec<String>>, scope: String) -> bool {
        has_scope(scopes.as_deref(), &scope, self.engine.options().wildcards)
    }

    /// The next statement that may be sent now.
    #[napi]
    pub fn poll(&mut self) -> Option<NativeStatement> {
        self.engine.poll(self.started.elapsed()).map(native)
    }

    /// The statement has to wait for a connection.
    #[napi]
    pub fn hold(&mut self, id: f64) {
        self.engine.hold(StatementId(integer(id)));
    }

    /// The statement has its connection. Whether it is to be sent there as it is; or what is to be sent instead.
    #[napi]
    pub fn begin(&mut self, id: f64) -> Either<bool, NativeStatement> {
        match self.engine.begin(self.started.elapsed(), StatementId(integer(id))) {
            Begun::AsItIs => Either::A(true),
            Begun::Nothing => Either::A(false),
            Begun::Instead(statement) => Either::B(native(statement)),
        }
    }

    /// Takes a statement's rows.
    #[napi]
    pub fn receive(&mut self, id: f64, rows: Vec<String>) {
        self.engine.receive(self.started.elapsed(), StatementId(integer(id)), Ok(&rows));
    }

    /// Takes why a statement has no rows: the error's `code` and message.
    #[napi]
    pub fn fail(&mut self, id: f64, code: Option<String>, message: String) {
        let fault = Fault::of_code(code.as_deref(), message);
        self.engine.receive(self.started.elapsed(), StatementId(integer(id)), Err(fault));
    }

    /// Gives a statement up that was not answered in time.
    #[napi]
    pub fn give_up(&mut self, id: f64) {
        let fault = Fault::timed_out("the database did not answer in time");
        self.engine.receive(self.started.elapsed(), StatementId(integer(id)), Err(fault));
    }

    /// Gives up what has waited too long.
    #[napi]
    pub fn expire(&mut self) {
        self.engine.expire(self.started.elapsed());
    }

    /// The answers that are ready, as JSON.
    #[napi]
    pub fn answers(&mut self) -> Option<String> {
        let mut answers = self.engine.answers();
        for (ticket, answer) in &mut answers {
            if let Some(exchange) = self.exchanges.remove(ticket) {
                *answer = exchange.answered(answer, Utc::now());
            } else if let Some(command) = self.commands.remove(ticket) {
                *answer = command.answered(answer, Utc::now());
            }
        }
        answers::write(&answers, self.rounding == Rounding::Exact)
    }

    /// Milliseconds until `poll` may have something that it has not now.
    #[napi]
    pub fn next_retry(&self) -> Option<f64> {
        self.engine.next_retry().map(|at| millis(at.saturating_sub(self.started.elapsed())))
    }

    /// Milliseconds until `expire` has something to do.
    #[napi]
    pub fn next_deadline(&mut self) -> Option<f64> {
        self.engine.next_deadline().map(|at| millis(at.saturating_sub(self.started.elapsed())))
    }

    /// Takes no more requests.
    #[napi]
    pub fn close(&mut self) {
        self.engine.close();
    }

    /// Whether nothing waits and nothing is under way.
    #[napi(getter)]
    pub fn is_idle(&self) -> bool {
        self.engine.is_idle()
    }

    /// Whether no call waits for an answer, here or under way.
    #[napi(getter)]
    pub fn is_answered(&self) -> bool {
        self.engine.pending() == 0
    }

    /// Counters, as JSON.
    #[napi]
    pub fn stats(&self) -> String {
        self.engine.stats().to_json()
    }

    /// Faults that no caller is told of.
    #[napi]
    pub fn reports(&mut self) -> Vec<String> {
        self.engine.reports()
    }

    fn with(options: engine::Options) -> Self {
        Engine {
            rounding: options.rounding,
            engine: engine::Engine::new(options),
            started: Instant::now(),
            exchanges: HashMap::new(),
            commands: HashMap::new(),
        }
    }

    fn send(&mut self, request: Request) -> Result<f64> {
        let Ticket(ticket) = self.engine.submit(self.started.elapsed(), request).map_err(thrown)?;
        Ok(number(ticket))
    }
}

fn native(statement: Statement) -> NativeStatement {
    NativeStatement {
        id: number(statement.id.0),
        text: statement.sql.as_ref().to_owned(),
        unlimited: statement.is_unlimited(),
        values: statement.params,
    }
}

/// Counted from 1 in steps of 1: a double holds it for thousands of years.
fn number(id: u64) -> f64 {
    id as f64
}

fn integer(id: f64) -> u64 {
    id as u64
}

/// Rounded up, so that what is waited for is over then.
fn millis(duration: Duration) -> f64 {
    number(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
