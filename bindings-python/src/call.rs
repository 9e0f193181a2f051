//! A call of the client: made of a request, started once by a channel or a blocking wait, perhaps cancelled.

use std::ffi::CString;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentkey::Error;
use agentkey::engine::{Answer, Credential, Request, Sink, Ticket};
use pyo3::exceptions::{PyRuntimeWarning, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use tokio::task::AbortHandle;

use crate::client::{Client, Live, Shared};
use crate::door::Exchange;
use crate::errors::misuse;
use crate::results;
use crate::runtime::Process;

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

enum State {
    Request(Box<Request>, Option<Exchange>),
    Task(Arc<Live>, Task),
    /// Its arguments were wrong, which whoever awaits it is told.
    Wrong(PyErr),
    Sent(Arc<Live>, Ticket, u64),
    Running(AbortHandle, u64),
    Over,
}

/// A call that waits to be started, or runs.
///
/// Python awaits it, not Rust: a thread that the ending interpreter stops in the middle of Python code must have no
/// Rust below it, or the process aborts.
#[pyclass(frozen, subclass, module = "pyagentkey._native")]
pub struct Call {
    client: Arc<Shared>,
    /// The method that an application called, where this is all that it answers.
    method: Option<&'static str>,
    state: Mutex<State>,
    /// What Python drives it with, where it is no plain `await`.
    driver: PyOnceLock<Py<PyAny>>,
}

#[pymethods]
impl Call {
    /// A look-up of a raw key, or a charge of one in cents, as an application's own call of a method. Nothing is done,
    /// or found wrong, before it is started.
    #[new]
    #[pyo3(signature = (client, key, cents = None))]
    fn of_method(client: &Client, key: &Bound<'_, PyAny>, cents: Option<f64>) -> Self {
        let (method, request) = match cents {
            None => ("validate", credential(key).map(Request::Validate)),
            Some(cents) => ("track_usage", credential(key).map(|key| client.charge(key, cents))),
        };
        let state = request.map_or_else(State::Wrong, |request| State::Request(Box::new(request), None));
        Call::new(&client.shared, Some(method), state)
    }

    /// The same work in an object of its own. Nothing is left here.
    fn taken(&self) -> Call {
        Call::new(&self.client, None, self.take())
    }

    /// What it is driven with, if it is.
    #[getter]
    fn driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.driver.get(py).map(|driver| driver.clone_ref(py))
    }

    #[setter]
    fn set_driver(&self, py: Python<'_>, driver: Py<PyAny>) -> PyResult<()> {
        self.driver.set(py, driver).map_err(|_| misuse("a call has one driver"))
    }

    /// As of a coroutine: the method that was called.
    #[getter]
    fn __name__(&self) -> &'static str {
        self.method.unwrap_or("call")
    }

    #[getter]
    fn __qualname__(&self) -> String {
        format!("AsyncAgentKey.{}", self.__name__())
    }
}

impl Call {
    /// A request, which may share its statement with others.
    pub(crate) fn of_request(client: &Arc<Shared>, request: Request) -> Self {
        Call::new(client, None, State::Request(Box::new(request), None))
    }

    /// A request whose answer an exchange takes.
    pub(crate) fn of_exchange(client: &Arc<Shared>, request: Request, exchange: Exchange) -> Self {
        Call::new(client, None, State::Request(Box::new(request), Some(exchange)))
    }

    /// Anything else that is awaited.
    pub(crate) fn of_task(
        client: &Arc<Shared>,
        live: Arc<Live>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Call::new(client, None, State::Task(live, Box::pin(work)))
    }

    fn new(client: &Arc<Shared>, method: Option<&'static str>, state: State) -> Self {
        Call { client: Arc::clone(client), method, state: Mutex::new(state), driver: PyOnceLock::new() }
    }

    /// Nobody waits for it any more: what is not sent yet never will be. The token that it was started with.
    pub(crate) fn cancel(&self) -> Option<u64> {
        match self.take() {
            State::Sent(live, ticket, token) => {
                live.ak.cancel(ticket);
                Some(token)
            }
            State::Running(task, token) => {
                task.abort();
                Some(token)
            }
            State::Request(..) | State::Task(..) | State::Wrong(_) | State::Over => None,
        }
    }

    /// Begins; the reply goes to the inbox.
    pub(crate) fn start(
        &self,
        py: Python<'_>,
        process: Process,
        inbox: Arc<impl Inbox>,
        token: u64,
    ) -> PyResult<()> {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::Request(request, exchange) => {
                let live = self.client.live(py, process)?;
                let ticket = match exchange {
                    None => live.submit(*request, inbox, token)?,
                    Some(exchange) => live.submit(*request, Arc::new(Carrier { exchange, inbox }), token)?,
                };
                State::Sent(live, ticket, token)
            }
            State::Task(live, task) => {
                let work = live.runtime.spawn(async move {
                    task.await;
                    inbox.put(token, Reply::Done);
                });
                State::Running(work.abort_handle(), token)
            }
            State::Wrong(error) => return Err(error),
            State::Sent(..) | State::Running(..) | State::Over => {
                return Err(misuse("cannot reuse already awaited coroutine"));
            }
        };
        Ok(())
    }

    fn take(&self) -> State {
        std::mem::replace(&mut *self.state(), State::Over)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Warns, as any coroutine does, if nobody ever awaited it.
impl Drop for Call {
    fn drop(&mut self) {
        if self.method.is_none() || !matches!(*self.state(), State::Request(..) | State::Wrong(_)) {
            return;
        }
        let warning = format!("coroutine '{}' was never awaited", self.__qualname__());
        Python::try_attach(|py| {
            let category = py.get_type::<PyRuntimeWarning>();
            let warned = CString::new(warning).map_err(PyErr::from);
            if let Err(error) = warned.and_then(|warning| PyErr::warn(py, &category, &warning, 1)) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// A text that is no Unicode (a lone surrogate) is nobody's key.
fn credential(key: &Bound<'_, PyAny>) -> PyResult<Credential> {
    let Ok(text) = key.cast::<PyString>() else {
        let kind = key.get_type().name()?;
        return Err(PyTypeError::new_err(format!("key must be str, not {kind}")));
    };
    Ok(Credential::of_key(&text.to_cow().unwrap_or_else(|_| text.to_string_lossy())))
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
