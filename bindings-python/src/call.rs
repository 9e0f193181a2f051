//! A call of the client: made of a request, started once by a channel or a blocking wait, perhaps cancelled.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentkey::Error;
use agentkey::engine::{Answer, Request, Sink, Ticket};
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::client::Live;
use crate::door::Exchange;
use crate::errors::{misuse, raise};
use crate::results;

/// What a call answers, before it is a Python object.
#[expect(clippy::large_enum_variant, reason = "the large one is by far the most common")]
pub(crate) enum Reply {
    /// Of a request.
    Answer(Result<Answer, Error>),
    /// It is done: there is nothing to tell.
    Done,
}

impl Reply {
    /// The result, or the exception to raise.
    pub(crate) fn into_result(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Reply::Answer(answer) => results::object(py, answer),
            Reply::Done => Ok(py.None()),
        }
    }
}

/// Where replies go. Called from threads of the runtime: never touches Python.
pub(crate) trait Inbox: Sink + 'static {
    /// Takes a reply.
    fn put(&self, token: u64, reply: Reply);
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[expect(clippy::large_enum_variant, reason = "the large one is by far the most common")]
enum State {
    Request(Request, Option<Exchange>),
    Task(Task),
    Sent(Ticket),
    Running(AbortHandle),
    Over,
}

/// A call that waits to be started, or runs.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Call {
    live: Arc<Live>,
    state: Mutex<State>,
}

#[pymethods]
impl Call {
    /// Nobody waits for it any more: what is not sent yet never will be.
    pub(crate) fn cancel(&self) {
        match std::mem::replace(&mut *self.state(), State::Over) {
            State::Sent(ticket) => self.live.ak.cancel(ticket),
            State::Running(task) => task.abort(),
            State::Request(..) | State::Task(_) | State::Over => {}
        }
    }
}

impl Call {
    /// A request, which may share its statement with others.
    pub(crate) fn of_request(live: Arc<Live>, request: Request) -> Self {
        Call { live, state: Mutex::new(State::Request(request, None)) }
    }

    /// A request whose answer an exchange takes.
    pub(crate) fn of_exchange(live: Arc<Live>, request: Request, exchange: Exchange) -> Self {
        Call { live, state: Mutex::new(State::Request(request, Some(exchange))) }
    }

    /// Anything else that is awaited.
    pub(crate) fn of_task(live: Arc<Live>, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Call { live, state: Mutex::new(State::Task(Box::pin(work))) }
    }

    /// Begins; the reply goes to the inbox.
    pub(crate) fn start(&self, inbox: Arc<impl Inbox>, token: u64) -> PyResult<()> {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::Request(request, None) => State::Sent(self.submit(request, inbox, token)?),
            State::Request(request, Some(exchange)) => {
                let sink = Arc::new(Carrier { exchange, inbox });
                State::Sent(self.submit(request, sink, token)?)
            }
            State::Task(task) => {
                let work = self.live.runtime.spawn(async move {
                    task.await;
                    inbox.put(token, Reply::Done);
                });
                State::Running(work.abort_handle())
            }
            State::Sent(_) | State::Running(_) | State::Over => return Err(misuse("a call is started once")),
        };
        Ok(())
    }

    fn submit(&self, request: Request, sink: Arc<dyn Sink>, token: u64) -> PyResult<Ticket> {
        let _runtime = self.live.runtime.enter();
        self.live.ak.submit(request, sink, token).map_err(raise)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets an exchange go on with its answer, and wakes whoever waits for it.
struct Carrier<I> {
    exchange: Exchange,
    inbox: Arc<I>,
}

impl<I: Inbox> Sink for Carrier<I> {
    fn deliver(&self, answers: Vec<(u64, Result<Answer, Error>)>) {
        for (token, answer) in answers {
            self.exchange.answered(answer);
            self.inbox.put(token, Reply::Done);
        }
    }
}
