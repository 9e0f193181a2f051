//! What a command asks of its driver, and how it ends.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::session::{Reply, Step, Stream};
use super::text::{ERROR, paint, shown, without_secrets};
use crate::engine::{Answer, Request, error_json};
use crate::error::{Error, ErrorCode};

/// How a run ended: the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    /// The database, the way to it, or the output.
    Failed = 1,
    /// Arguments or values that cannot be.
    Usage = 2,
    /// There is no such key.
    NotFound = 3,
    /// A check found something.
    Found = 4,
    /// Somebody was asked and did not say yes.
    Declined = 5,
}

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Stop {
    Error(Error),
    /// Wrong usage that only the command can tell.
    Usage(String),
    NotFound(String),
    Declined,
    /// Nobody takes what is written.
    Unwritable,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

pub(super) type Outcome<T = Exit> = Result<T, Stop>;

/// How things are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) json: bool,
    pub(super) may_ask: bool,
    pub(super) output_is_closed: bool,
    pub(super) colors_output: bool,
    pub(super) colors_error: bool,
    pub(super) unicode: bool,
}

/// The driver, from a command's side.
#[derive(Clone)]
pub(super) struct Host {
    exchange: Rc<RefCell<Exchange>>,
    pub(super) look: Look,
}

#[derive(Default)]
struct Exchange {
    /// Whether a call was made that changes something.
    has_changed: bool,
    step: Option<Step>,
    reply: Option<Reply>,
}

impl Host {
    pub(super) fn new(look: Look) -> Self {
        Host { exchange: Rc::default(), look }
    }

    pub(super) fn reply(&self, reply: Reply) {
        self.exchange.borrow_mut().reply = Some(reply);
    }

    pub(super) fn take_step(&self) -> Option<Step> {
        self.exchange.borrow_mut().step.take()
    }

    async fn step(&self, step: Step) -> Reply {
        {
            let mut exchange = self.exchange.borrow_mut();
            exchange.step = Some(step);
            exchange.reply = None;
        }
        poll_fn(|_| match self.exchange.borrow_mut().reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        })
        .await
    }

    pub(super) async fn write(&self, stream: Stream, text: String) -> Outcome<()> {
        let colors = match stream {
            Stream::Output => self.look.colors_output,
            Stream::Error => self.look.colors_error,
        };
        let text = if colors { text } else { anstream::adapter::strip_str(&text).to_string() };
        match self.step(Step::Write(stream, text)).await {
            Reply::Unwritable => Err(Stop::Unwritable),
            _ => Ok(()),
        }
    }

    /// A result.
    pub(super) async fn out(&self, text: impl Into<String>) -> Outcome<()> {
        self.write(Stream::Output, line(text.into())).await
    }

    /// Refuses to make a secret that nobody would get.
    pub(super) fn takes_secrets(&self) -> Outcome<()> {
        if !self.look.output_is_closed {
            return Ok(());
        }
        let why = "standard output is closed, and the secret would be lost: nothing was changed. Redirect it to a file";
        Err(Stop::Usage(why.to_owned()))
    }

    /// All that is no result.
    pub(super) async fn note(&self, text: impl Into<String>) -> Outcome<()> {
        self.write(Stream::Error, line(text.into())).await
    }

    /// For people alone.
    pub(super) async fn progress(&self, text: impl Into<String>) -> Outcome<()> {
        if self.look.json { Ok(()) } else { self.note(text).await }
    }

    pub(super) async fn call(&self, request: Request) -> Result<Answer, Error> {
        Ok(self.call_at(request).await?.0)
    }

    /// The answer, and this machine's time then.
    pub(super) async fn call_at(&self, request: Request) -> Result<(Answer, DateTime<Utc>), Error> {
        self.exchange.borrow_mut().has_changed |= changes(&request);
        match self.step(Step::Call(Box::new(request))).await {
            Reply::Answer(answer, at) => Ok(((*answer)?, at)),
            _ => Err(Error::unexpected("the driver did not answer a call")),
        }
    }

    pub(super) async fn pause(&self, time: Duration) {
        self.step(Step::Pause(time)).await;
    }

    /// Asks somebody, unless it was said already that they agree.
    pub(super) async fn confirm(&self, is_confirmed: bool, question: &str) -> Outcome<()> {
        if is_confirmed {
            return Ok(());
        }
        if !self.look.may_ask {
            return Err(Stop::Usage(
                "nobody can be asked here: give --yes to do it without a question".to_owned(),
            ));
        }
        self.write(Stream::Error, format!("{question} [y/N] ")).await?;
        let line = match self.step(Step::Ask).await {
            Reply::Line(line) => line.unwrap_or_default(),
            _ => String::new(),
        };
        let is_yes = ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str());
        if is_yes { Ok(()) } else { Err(Stop::Declined) }
    }
}

fn changes(request: &Request) -> bool {
    !matches!(
        request,
        Request::Get(_)
            | Request::Explain(..)
            | Request::List(_)
            | Request::ListIncreases(_)
            | Request::Events(_)
            | Request::Usage(_)
            | Request::VerifyLedger(_)
            | Request::Diagnose(_)
    )
}

fn line(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Says why a command ended, and with which code.
pub(super) async fn explain(host: &Host, stop: Stop) -> Exit {
    let (exit, error) = match stop {
        // Whoever would read it is gone.
        Stop::Unwritable => return Exit::Failed,
        Stop::Declined => {
            // What cannot be said changes nothing: nothing was done.
            drop(host.note("Nothing was changed.").await);
            return Exit::Declined;
        }
        Stop::Error(error) if error.code().is_bad_input() => (Exit::Usage, error),
        Stop::Error(error) => (Exit::Failed, error),
        Stop::Usage(message) => (Exit::Usage, Error::new(ErrorCode::InvalidText, message)),
        Stop::NotFound(message) if host.look.json => {
            drop(
                host.note(format!(
                    r#"{{"code":"not_found","message":{}}}"#,
                    serde_json::Value::from(without_secrets(&message))
                ))
                .await,
            );
            return Exit::NotFound;
        }
        Stop::NotFound(message) => (Exit::NotFound, Error::new(ErrorCode::InvalidText, message)),
    };
    // Somebody may have put a secret where something else belongs.
    let error = error.said(without_secrets);
    let said = if host.look.json {
        error_json(&error)
    } else {
        let mut text = format!("{} {}", paint(ERROR, "error:"), shown(error.message()));
        if let Some(sqlstate) = error.sqlstate() {
            text.push_str(&format!(" (SQLSTATE {sqlstate})"));
        }
        if error.code() == ErrorCode::MigrationRequired {
            text.push_str("\nRun `agentkey migrate`, or `agentkey doctor` to see what is missing.");
        }
        if error.may_have_been_recorded() && host.exchange.borrow().has_changed {
            text.push_str("\nIt may have been done all the same.");
        }
        text
    };
    // The exit code says it, too.
    drop(host.note(said).await);
    exit
}
