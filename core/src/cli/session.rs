//! A run of the command line: a command is straight-line code that waits for its replies; a driver steps through it.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Parser;

use super::args::{Arguments, Global, When};
use super::commands;
use super::host::{Exit, Host, Look, explain};
use super::text::without_secrets;
use crate::engine::{Answer, KeyPrefix, Options, Request, TableName};
use crate::error::Error;

/// What a process was given.
#[derive(Debug, Clone, Default)]
#[expect(clippy::exhaustive_structs, reason = "a driver must give all of it")]
pub struct Input {
    /// The arguments, without the program's name.
    pub arguments: Vec<String>,
    /// The environment. Read are `DATABASE_URL`, `NO_COLOR`, `CLICOLOR_FORCE`, `TERM`, `LC_ALL`, `LC_CTYPE` and `LANG`.
    pub environment: HashMap<String, String>,
    /// What is at the other end of the streams.
    pub terminal: Terminal,
    /// Whether standard output was closed when the process began: what is written there is lost, though no write fails.
    pub output_is_closed: bool,
}

/// Which streams are terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "the three streams")]
pub struct Terminal {
    /// Standard input: somebody can be asked.
    pub input: bool,
    /// Standard output.
    pub output: bool,
    /// Standard error.
    pub error: bool,
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Stream {
    /// Standard output: results.
    Output,
    /// Standard error: everything else.
    Error,
}

/// What the driver does next.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver must do every step")]
pub enum Step {
    /// Writes text as it is. To be replied with `Done` or `Unwritable`.
    Write(Stream, String),
    /// Makes a call. To be replied with `Answer`. The client is that of [`Session::connection`].
    Call(Box<Request>),
    /// Reads a line from standard input. To be replied with `Line`.
    Ask,
    /// Waits so long. To be replied with `Done`.
    Pause(Duration),
    /// It is over: the process's exit code.
    Exit(u8),
}

/// How a step went.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the answers to the steps")]
pub enum Reply {
    /// To begin with, and to a step that went well.
    Done,
    /// Nobody takes what is written.
    Unwritable,
    /// What a call answered, and the time of this machine then.
    Answer(Box<Result<Answer, Error>>, DateTime<Utc>),
    /// The line that was read; `None` at the input's end.
    Line(Option<String>),
}

/// How to reach the database.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Where it is, with its password.
    pub database_url: String,
    /// The keys table.
    pub table: String,
    /// What new keys start with.
    pub key_prefix: String,
    /// How long a call may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Connection {
    /// Options of an engine for it.
    ///
    /// # Errors
    /// `invalid_table_name`, `invalid_key_prefix`.
    pub fn options(&self) -> Result<Options, Error> {
        Ok(Options {
            table: TableName::new(&self.table)?,
            key_prefix: KeyPrefix::new(&self.key_prefix)?,
            timeout: self.timeout,
            seed: u64::from_ne_bytes(crate::random::bytes()?),
            touch_interval_seconds: None,
            remembered_keys: 0,
            ..Options::default()
        })
    }
}

/// A run of the command line.
pub struct Session {
    connection: Option<Connection>,
    host: Host,
    running: Option<Pin<Box<dyn Future<Output = u8>>>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Session {
    /// Reads the arguments. What is wrong with them is said by the first steps.
    pub fn new(input: Input) -> Self {
        let is_set = |name: &str| input.environment.get(name).is_some_and(|value| !value.is_empty());
        let program = std::iter::once("agentkey".to_owned());
        match Arguments::try_parse_from(program.chain(input.arguments.iter().cloned())) {
            Ok(Arguments { global, command }) => {
                let look = look(&input, global.color, global.json);
                let host = Host::new(look);
                let connection = connection(&global, &input);
                let work = commands::run(host.clone(), command, global, connection.clone());
                Session { connection, host, running: Some(Box::pin(work)) }
            }
            Err(error) => {
                let colors = if error.use_stderr() { input.terminal.error } else { input.terminal.output };
                let is_plain = is_set("NO_COLOR") || !colors;
                let text = error.render();
                let text = if is_plain { text.to_string() } else { text.ansi().to_string() };
                let host = Host::new(look(&input, When::Auto, false));
                let work = said(host.clone(), error.use_stderr(), text);
                Session { connection: None, host, running: Some(Box::pin(work)) }
            }
        }
    }

    /// How to reach the database, for the first `Call`. `None` where no call will be made.
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// The next step, after how the last one went. It begins with [`Reply::Done`].
    pub fn next(&mut self, reply: Reply) -> Step {
        let Some(running) = &mut self.running else { return Step::Exit(Exit::Failed as u8) };
        self.host.reply(reply);
        match running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(code) => {
                self.running = None;
                Step::Exit(code)
            }
            Poll::Pending => self.host.take_step().unwrap_or(Step::Exit(Exit::Failed as u8)),
        }
    }
}

/// What clap has to say: help, or what is wrong with the arguments.
async fn said(host: Host, is_wrong: bool, text: String) -> u8 {
    let (stream, code) = match is_wrong {
        true => (Stream::Error, Exit::Usage),
        false => (Stream::Output, Exit::Done),
    };
    // Arguments are repeated there: one may be a secret in the wrong place.
    let text = if is_wrong { without_secrets(&text) } else { text };
    match host.write(stream, text).await {
        Ok(()) => code as u8,
        Err(stop) => explain(&host, stop).await as u8,
    }
}

fn connection(global: &Global, input: &Input) -> Option<Connection> {
    let of_environment = || input.environment.get("DATABASE_URL").filter(|url| !url.is_empty()).cloned();
    let database_url = global.database_url.clone().or_else(of_environment)?;
    Some(Connection {
        database_url,
        table: global.table.clone(),
        key_prefix: global.key_prefix.clone(),
        timeout: Duration::from_secs(u64::from(global.timeout)),
    })
}

fn look(input: &Input, when: When, json: bool) -> Look {
    let variable =
        |name: &str| input.environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let on = |is_terminal: bool| match when {
        When::Always => true,
        When::Never => false,
        When::Auto if variable("NO_COLOR").is_some() => false,
        When::Auto if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        When::Auto => is_terminal && variable("TERM") != Some("dumb"),
    };
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
    Look {
        json,
        may_ask: input.terminal.input,
        output_is_closed: input.output_is_closed,
        colors_output: on(input.terminal.output),
        colors_error: on(input.terminal.error),
        unicode: locale.is_none_or(|locale| locale.to_ascii_lowercase().contains("utf")),
    }
}
