//! The client: makes calls of requests. Waiting is the business of a channel, or of `wait`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentkey::engine::{Cost, Credential, Request, invalid_scopes};
use agentkey::{AgentKey, Builder, Charge, Error, ErrorCode};
use pyo3::prelude::*;
use pyo3::types::PyString;
use tokio::runtime::Handle;

use crate::call::Call;
use crate::channel;
use crate::door::Exchange;
use crate::errors::{misuse, raise, wrong_value};
use crate::options::ClientOptions;
use crate::password::Password;
use crate::runtime::{PerProcess, handle};

/// A client of one process: the core's, and the runtime it lives on.
pub(crate) struct Live {
    pub(crate) ak: AgentKey,
    pub(crate) runtime: Handle,
}

/// Options, checked, and the client that is made of them when the first call needs it, in each process.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Client {
    builder: Builder,
    password: Option<Password>,
    valid_scopes: Option<Vec<String>>,
    live: PerProcess<Live>,
    closed: AtomicBool,
}

#[pymethods]
impl Client {
    #[new]
    fn new(dsn: &str, options: ClientOptions, password: Option<Py<PyAny>>) -> PyResult<Self> {
        let (builder, valid_scopes) = options.read()?;
        let mut builder = builder.database_url(dsn).map_err(raise)?;
        let password = password.map(Password::new);
        if let Some(password) = &password {
            builder = builder.password(password.answer());
        }
        let closed = AtomicBool::new(false);
        Ok(Client { builder, password, valid_scopes, live: PerProcess::new(), closed })
    }

    /// Any request, as JSON.
    fn submit(&self, py: Python<'_>, request: &str) -> PyResult<Call> {
        let live = self.live(py)?;
        let request = live.ak.options().read_request(request).map_err(raise)?;
        Ok(Call::of_request(live, request))
    }

    /// Looks a raw key up.
    fn validate(&self, key: &Bound<'_, PyString>) -> PyResult<Call> {
        Ok(Call::of_request(self.live(key.py())?, Request::Validate(credential(key))))
    }

    /// Charges a raw key.
    fn charge(&self, key: &Bound<'_, PyString>, cents: f64) -> PyResult<Call> {
        let live = self.live(key.py())?;
        let cost = Cost::from_cents_f64_with(cents, live.ak.options().rounding);
        Ok(Call::of_request(live, Request::Charge(credential(key), Charge::new(cost))))
    }

    /// Makes the call that an exchange asks for; the exchange goes on by itself when it is answered.
    fn carry(&self, py: Python<'_>, exchange: &Exchange) -> PyResult<Call> {
        let request = exchange.request().ok_or_else(|| misuse("no call is to be made"))?;
        Ok(Call::of_exchange(self.live(py)?, request, exchange.clone()))
    }

    /// Later calls are refused; those under way are waited for so long. `None` where there is nothing to close.
    fn close(&self, seconds: f64) -> PyResult<Option<Call>> {
        let limit = Duration::try_from_secs_f64(seconds).map_err(|e| wrong_value(e.to_string()))?;
        self.closed.store(true, Ordering::Relaxed);
        let Some(live) = self.live.get() else { return Ok(None) };
        let ak = live.ak.clone();
        let closing = async move {
            // What is still under way then ends by itself, and the connections with it.
            drop(tokio::time::timeout(limit, ak.close()).await);
        };
        Ok(Some(Call::of_task(live, closing)))
    }

    /// Runs a call and waits for its result.
    fn wait(&self, py: Python<'_>, call: &Bound<'_, Call>) -> PyResult<Py<PyAny>> {
        channel::wait(py, call.get())
    }

    /// Those of `scopes` that new keys may not have.
    fn invalid_scopes(&self, scopes: Vec<String>) -> Vec<String> {
        invalid_scopes(&scopes, self.valid_scopes.as_deref())
    }

    /// Counters of this process, by name.
    fn stats(&self) -> HashMap<&'static str, u64> {
        let stats = self.live.get().map(|live| live.ak.stats()).unwrap_or_default();
        HashMap::from([
            ("statements", stats.statements),
            ("pending", stats.pending as u64),
            ("retries", stats.retries),
            ("failed_touches", stats.failed_touches),
        ])
    }
}

impl Client {
    fn live(&self, py: Python<'_>) -> PyResult<Arc<Live>> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(raise(Error::new(ErrorCode::Closed, "the client is closed")));
        }
        if let Some(password) = &self.password {
            password.renew(py)?;
        }
        self.live.get_or_try_init(|| {
            let runtime = handle()?;
            let entered = runtime.enter();
            let ak = self.builder.clone().connect_lazy().map_err(raise)?;
            drop(entered);
            Ok(Live { ak, runtime })
        })
    }
}

/// A text that is no Unicode (a lone surrogate) is nobody's key.
fn credential(key: &Bound<'_, PyString>) -> Credential {
    Credential::of_key(&key.to_string_lossy())
}
