//! The client: makes calls of requests. Waiting is the business of a channel, or of `wait`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentkey::engine::{Cost, Credential, Request, Rounding, Sink, Ticket, invalid_scopes};
use agentkey::{AgentKey, Builder, Charge, Error, ErrorCode};
use pyo3::prelude::*;
use tokio::runtime::Handle;

use crate::call::Call;
use crate::channel;
use crate::door::Exchange;
use crate::errors::{misuse, raise, wrong_value};
use crate::options::ClientOptions;
use crate::password::Password;
use crate::runtime::{PerProcess, Process, handle};

/// A client of one process: the core's, and the runtime it lives on.
pub(crate) struct Live {
    pub(crate) ak: AgentKey,
    pub(crate) runtime: Handle,
    /// Faults that nobody waits for. Python asks for them: no thread of the runtime may call it.
    reports: Arc<Mutex<Vec<String>>>,
}

/// An application that makes no calls asks for none, and keeps the first ones.
const MAX_REPORTS: usize = 100;

impl Live {
    pub(crate) fn submit(&self, request: Request, sink: Arc<dyn Sink>, token: u64) -> PyResult<Ticket> {
        let _runtime = self.runtime.enter();
        self.ak.submit(request, sink, token).map_err(raise)
    }
}

/// What a client shares with its calls: options, and the core's client that is made of them when the first call needs
/// it, in each process.
pub(crate) struct Shared {
    builder: Builder,
    password: Option<Password>,
    live: PerProcess<Live>,
    closed: AtomicBool,
}

/// A client's options, checked.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    valid_scopes: Option<Vec<String>>,
    rounding: Rounding,
}

#[pymethods]
impl Client {
    #[new]
    fn new(dsn: &str, options: ClientOptions, password: Option<Py<PyAny>>) -> PyResult<Self> {
        let (builder, valid_scopes, rounding) = options.read()?;
        let mut builder = builder.database_url(dsn).map_err(raise)?;
        let password = password.map(Password::new);
        if let Some(password) = &password {
            builder = builder.password(password.answer());
        }
        let (live, closed) = (PerProcess::new(), AtomicBool::new(false));
        let shared = Arc::new(Shared { builder, password, live, closed });
        Ok(Client { shared, valid_scopes, rounding })
    }

    /// Any request, as JSON.
    fn submit(&self, py: Python<'_>, request: &str) -> PyResult<Call> {
        let live = self.shared.live(py, Process::current())?;
        let request = live.ak.options().read_request(request).map_err(raise)?;
        Ok(Call::of_request(&self.shared, request))
    }

    /// Makes the call that an exchange asks for; the exchange goes on by itself when it is answered.
    fn carry(&self, exchange: &Exchange) -> PyResult<Call> {
        let request = exchange.request().ok_or_else(|| misuse("no call is to be made"))?;
        Ok(Call::of_exchange(&self.shared, request, exchange.clone()))
    }

    /// Later calls are refused; those under way are waited for so long. `None` where there is nothing to close.
    fn close(&self, seconds: f64) -> PyResult<Option<Call>> {
        let limit = Duration::try_from_secs_f64(seconds).map_err(|e| wrong_value(e.to_string()))?;
        self.shared.closed.store(true, Ordering::Relaxed);
        let Some(live) = self.shared.live.get() else { return Ok(None) };
        let ak = live.ak.clone();
        let closing = async move {
            // What is still under way then ends by itself, and the connections with it.
            drop(tokio::time::timeout(limit, ak.close()).await);
        };
        Ok(Some(Call::of_task(&self.shared, live, closing)))
    }

    /// Runs a call and waits for its result.
    fn wait(&self, py: Python<'_>, call: &Bound<'_, Call>) -> PyResult<Py<PyAny>> {
        channel::wait(py, call.get())
    }

    /// Those of `scopes` that new keys may not have.
    fn invalid_scopes(&self, scopes: Vec<String>) -> Vec<String> {
        invalid_scopes(&scopes, self.valid_scopes.as_deref())
    }

    /// Counters of this process, as JSON.
    fn stats(&self) -> String {
        self.shared.live.get().map(|live| live.ak.stats()).unwrap_or_default().to_json()
    }

    /// Faults of this process that no caller was told of.
    fn reports(&self) -> Vec<String> {
        let Some(live) = self.shared.live.get() else { return Vec::new() };
        std::mem::take(&mut *live.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Client {
    /// The request for a charge that names cents and nothing else.
    pub(crate) fn charge(&self, key: Credential, cents: f64) -> Request {
        Request::Charge(key, Charge::new(Cost::from_cents_f64_with(cents, self.rounding)))
    }
}

impl Shared {
    pub(crate) fn live(&self, py: Python<'_>, process: Process) -> PyResult<Arc<Live>> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(raise(Error::new(ErrorCode::Closed, "the client is closed")));
        }
        if let Some(password) = &self.password {
            password.renew(py)?;
        }
        self.live.get_or_try_init(process, || {
            let runtime = handle(process)?;
            let entered = runtime.enter();
            let reports = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&reports);
            let builder = self.builder.clone().on_error(move |message| {
                let mut reports = told.lock().unwrap_or_else(PoisonError::into_inner);
                if reports.len() < MAX_REPORTS {
                    reports.push(message.to_owned());
                }
            });
            let ak = builder.connect_lazy().map_err(raise)?;
            drop(entered);
            Ok(Live { ak, runtime, reports })
        })
    }
}
