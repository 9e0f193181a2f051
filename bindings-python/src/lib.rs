//! The native module of `pyagentkey`: private, its public face is written in Python.
//!
//! No thread of the runtime ever touches Python. Answers wait in a queue until the caller's own thread takes them: the
//! event loop, woken through a pipe once for all that came meanwhile, or the thread of a blocking call. So nothing
//! waits for the interpreter's lock, and nothing can go wrong when the interpreter ends.

mod args;
mod call;
mod channel;
mod client;
mod dsn;
mod errors;
mod gate;
mod results;
mod runtime;

use pyo3::prelude::*;

/// The native module.
#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use crate::call::Call;
    #[pymodule_export]
    use crate::channel::Mailbox;
    #[pymodule_export]
    use crate::client::Client;
    #[pymodule_export]
    use crate::gate::{Guard, Pass, Response, Routes};
    #[pymodule_export]
    use crate::results::{
        Created, Denial, Discrepancy, Event, Extended, FinishRefusal, Grant, Limit, Released, Reservation,
        ReserveRefusal, ScopeCheck, Settlement, Stats, Usage, UsageOfPeriod, UsageRefusal,
    };

    /// Every error code of the core.
    #[pyfunction]
    fn error_codes() -> Vec<&'static str> {
        agentkey::ErrorCode::ALL.iter().map(|code| code.as_str()).collect()
    }

    /// The codes of errors that are the input's fault.
    #[pyfunction]
    fn bad_input_codes() -> Vec<&'static str> {
        agentkey::ErrorCode::ALL.iter().filter(|code| code.is_bad_input()).map(|code| code.as_str()).collect()
    }

    /// Why keys are refused, in the order in which the reasons are checked.
    #[pyfunction]
    fn denial_reasons() -> Vec<&'static str> {
        agentkey::DenialReason::ALL.iter().map(|reason| reason.as_str()).collect()
    }

    /// Why charges are refused.
    #[pyfunction]
    fn charge_refusals() -> Vec<&'static str> {
        agentkey::ChargeRefusal::ALL.iter().map(|reason| reason.as_str()).collect()
    }

    /// Why nothing is reserved.
    #[pyfunction]
    fn reserve_refusals() -> Vec<&'static str> {
        agentkey::ReserveRefusal::ALL.iter().map(|reason| reason.as_str()).collect()
    }

    /// Why reservations are not settled, released or extended.
    #[pyfunction]
    fn finish_refusals() -> Vec<&'static str> {
        agentkey::FinishRefusal::ALL.iter().map(|reason| reason.as_str()).collect()
    }

    /// Seconds that a duration lasts; `None` if it is none.
    #[pyfunction]
    #[pyo3(signature = (duration, /))]
    fn duration_seconds(duration: Option<&str>) -> PyResult<Option<u64>> {
        agentkey::seconds_until_expiry(duration).map_err(crate::errors::raise)
    }

    /// Whether a key with these scopes may do `scope`; `None` is everything.
    #[pyfunction]
    #[pyo3(signature = (scopes, scope, /))]
    fn has_scope(scopes: Option<&Bound<'_, PyAny>>, scope: &str) -> PyResult<bool> {
        let scopes = scopes.map(|scopes| crate::args::texts("scopes", scopes)).transpose()?;
        Ok(agentkey::has_scope(scopes.as_deref(), scope))
    }

    /// The key of an `Authorization` header, or the `Response` to a request without one.
    #[pyfunction]
    #[pyo3(signature = (authorization, /))]
    fn presented_key(authorization: Option<&str>) -> crate::gate::Presented {
        crate::gate::Presented::of(authorization)
    }

    /// Forgets what belongs to the parent. For `os.register_at_fork`.
    #[pyfunction]
    fn after_fork_in_child() {
        crate::runtime::after_fork_in_child();
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
