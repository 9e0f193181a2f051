//! The command line: the core decides each step, TypeScript does it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use agentkey::cli::{Connection, Input, Reply, Session, Step, Stream, Terminal};
use agentkey::engine::{Answer, Request};
use chrono::{DateTime, Utc};
use napi_derive::napi;

use crate::error::{Result, named, thrown};

/// What to do now.
#[napi(object)]
pub struct NativeStep {
    /// Which of them.
    #[napi(ts_type = "'write' | 'call' | 'ask' | 'pause' | 'exit'")]
    pub kind: String,
    /// What to write.
    pub text: Option<String>,
    /// Whether it goes to standard error.
    pub to_error: bool,
    /// How long to pause.
    pub milliseconds: Option<u32>,
    /// The process's exit code.
    pub code: Option<u8>,
}

/// A run of the command line. Clones of it in Rust are the same run.
#[napi]
pub struct CommandLine(Rc<RefCell<State>>);

struct State {
    session: Session,
    request: Option<Request>,
    reply: Option<Reply>,
}

#[napi]
impl CommandLine {
    /// Reads the arguments, without the program's name. `terminals`: whether input, output and errors are at one.
    /// `output_is_closed`: whether what is written there is lost.
    #[napi(constructor)]
    pub fn new(
        arguments: Vec<String>,
        environment: HashMap<String, String>,
        terminals: Vec<bool>,
        output_is_closed: bool,
    ) -> Self {
        let is_terminal = |place: usize| terminals.get(place).copied().unwrap_or_default();
        let terminal = Terminal { input: is_terminal(0), output: is_terminal(1), error: is_terminal(2) };
        let session = Session::new(Input { arguments, environment, terminal, output_is_closed });
        CommandLine(Rc::new(RefCell::new(State { session, request: None, reply: None })))
    }

    /// Where the database is.
    #[napi(getter)]
    pub fn database_url(&self) -> Option<String> {
        self.0.borrow().session.connection().map(|connection| connection.database_url.clone())
    }

    /// The next step, after the last one was done.
    #[napi]
    pub fn next(&self) -> NativeStep {
        let mut state = self.0.borrow_mut();
        let reply = state.reply.take().unwrap_or(Reply::Done);
        let step = |kind: &str| NativeStep {
            kind: kind.to_owned(),
            text: None,
            to_error: false,
            milliseconds: None,
            code: None,
        };
        match state.session.next(reply) {
            Step::Write(stream, text) => {
                NativeStep { text: Some(text), to_error: stream == Stream::Error, ..step("write") }
            }
            Step::Call(request) => {
                state.request = Some(*request);
                step("call")
            }
            Step::Ask => step("ask"),
            Step::Pause(time) => NativeStep { milliseconds: Some(milliseconds(time)), ..step("pause") },
            Step::Exit(code) => NativeStep { code: Some(code), ..step("exit") },
        }
    }

    /// The line that was read; nothing at the input's end.
    #[napi]
    pub fn told(&self, line: Option<String>) {
        self.0.borrow_mut().reply = Some(Reply::Line(line));
    }

    /// Nobody takes what is written.
    #[napi]
    pub fn unwritable(&self) {
        self.0.borrow_mut().reply = Some(Reply::Unwritable);
    }

    /// The call could not be made.
    #[napi]
    pub fn failed(&self, code: Option<String>, message: String) {
        self.reply(Err(named(code.as_deref(), message)), Utc::now());
    }
}

impl CommandLine {
    pub(crate) fn share(&self) -> Self {
        CommandLine(Rc::clone(&self.0))
    }

    /// How to reach the database.
    pub(crate) fn connection(&self) -> Result<Connection> {
        let connection = self.0.borrow().session.connection().cloned();
        connection.ok_or_else(|| thrown(named(Some("invalid_dsn"), "no database is named".to_owned())))
    }

    /// The call that is to be made.
    pub(crate) fn request(&self) -> Result<Request> {
        let request = self.0.borrow_mut().request.take();
        request.ok_or_else(|| thrown(named(Some("unexpected_response"), "no call is to be made".to_owned())))
    }

    /// Goes on with the client's answer. What is left for the caller's promise is that it has come, or the error.
    pub(crate) fn answered(
        &self,
        answer: &std::result::Result<Answer, agentkey::Error>,
        now: DateTime<Utc>,
    ) -> std::result::Result<Answer, agentkey::Error> {
        self.reply(answer.clone(), now);
        answer.as_ref().map(|_| Answer::Migrated).map_err(Clone::clone)
    }

    pub(crate) fn reply(&self, answer: std::result::Result<Answer, agentkey::Error>, now: DateTime<Utc>) {
        self.0.borrow_mut().reply = Some(Reply::Answer(Box::new(answer), now));
    }
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
