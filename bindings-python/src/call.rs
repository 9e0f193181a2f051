//! A call of the client: made of checked arguments, started once by a channel or a blocking wait, perhaps cancelled.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentkey::{Answer, Outcome, Request, Sink, Ticket};
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::client::Live;
use crate::errors::{misuse, raise};
use crate::results::{
    Caller, Denial, Discrepancy, Event, Extended, FinishRefusal, Grant, Released, Reservation,
    ReserveRefusal, Settlement, Told, Usage, UsageOfPeriod, UsageRefusal,
};

/// What a call answers, before it is a Python object.
#[allow(clippy::large_enum_variant, reason = "the large one is by far the most common")]
pub(crate) enum Reply {
    /// Of a request that shares a statement.
    Answer(Answer),
    /// Of anything else.
    Other(Make),
}

type Make = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Where replies go. Called from threads of the runtime: never touches Python.
pub(crate) trait Inbox: Sink + 'static {
    /// Takes a reply.
    fn put(&self, token: u64, reply: Reply);
}

type Task = Pin<Box<dyn Future<Output = Reply> + Send>>;

enum State {
    Request(Request),
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
            State::Request(_) | State::Task(_) | State::Over => {}
        }
    }
}

impl Call {
    /// A request that shares its statement with others.
    pub(crate) fn request(live: Arc<Live>, request: Request) -> Self {
        Call { live, state: Mutex::new(State::Request(request)) }
    }

    /// Anything else that is awaited, whose result becomes a Python object in the end.
    pub(crate) fn task<T, F>(live: Arc<Live>, work: F) -> Self
    where
        T: Send + 'static + for<'py> IntoPyObject<'py>,
        F: Future<Output = Result<T, agentkey::Error>> + Send + 'static,
    {
        let task = async move {
            let result = work.await;
            Reply::Other(Box::new(move |py| object(py, result.map_err(raise)?)))
        };
        Call { live, state: Mutex::new(State::Task(Box::pin(task))) }
    }

    /// Whether its client tells money to the micro-cent.
    pub(crate) fn is_exact(&self) -> bool {
        self.live.is_exact()
    }

    /// Begins; the reply goes to the inbox.
    pub(crate) fn start(&self, inbox: Arc<impl Inbox>, token: u64) -> PyResult<()> {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::Request(request) => {
                let _runtime = self.live.runtime.enter();
                State::Sent(self.live.ak.submit(request, inbox, token).map_err(raise)?)
            }
            State::Task(task) => {
                let work = self.live.runtime.spawn(async move { inbox.put(token, task.await) });
                State::Running(work.abort_handle())
            }
            State::Sent(_) | State::Running(_) | State::Over => return Err(misuse("a call is started once")),
        };
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reply {
    /// The result, or the exception to raise.
    pub(crate) fn into_result(self, py: Python<'_>, exact: bool) -> PyResult<Py<PyAny>> {
        let answer = match self {
            Reply::Other(make) => return make(py),
            Reply::Answer(answer) => answer,
        };
        match answer.map_err(raise)? {
            Outcome::Validated(Ok(grant)) => object(py, Grant(Caller { grant, exact, reservation: None })),
            Outcome::Validated(Err(denial)) => object(py, Denial(denial)),
            Outcome::Charged(agentkey::Usage::Refused(reason)) => object(py, UsageRefusal(reason)),
            Outcome::Charged(usage) => object(py, Usage(Told { of: usage.recorded(), exact })),
            Outcome::Reserved(Ok(of)) => object(py, Reservation(Told { of, exact })),
            Outcome::Reserved(Err(refused)) => object(py, ReserveRefusal(refused)),
            Outcome::Settled(Ok(of)) => object(py, Settlement(Told { of, exact })),
            Outcome::Released(Ok(given_back)) => object(py, Released(given_back)),
            Outcome::Extended(Ok(expires_at)) => object(py, Extended(expires_at)),
            Outcome::Settled(Err(reason))
            | Outcome::Released(Err(reason))
            | Outcome::Extended(Err(reason)) => object(py, FinishRefusal(reason)),
            Outcome::Swept(count) | Outcome::RevokedAll(count) | Outcome::Pruned(count) => object(py, count),
            Outcome::Events(events) => object(py, events.into_iter().map(Event).collect::<Vec<_>>()),
            Outcome::Usage(usage) => object(py, usage.into_iter().map(UsageOfPeriod).collect::<Vec<_>>()),
            Outcome::Verified(found) => object(py, found.into_iter().map(Discrepancy).collect::<Vec<_>>()),
            _ => Err(misuse("an answer to another request")),
        }
    }
}

fn object<T: for<'py> IntoPyObject<'py>>(py: Python<'_>, value: T) -> PyResult<Py<PyAny>> {
    use pyo3::IntoPyObjectExt;
    value.into_py_any(py)
}
