//! The core's pure rules, and the names of its errors and reasons.

use agentkey::engine::{DenialReason, ReserveRefusalReason, read_duration};
use agentkey::{ChargeRefusal, ErrorCode, ReservationRefusal};
use pyo3::prelude::*;

use crate::door::{Presented, presented};
use crate::errors::raise;

/// Every error code of the core.
#[pyfunction]
pub(crate) fn error_codes() -> Vec<&'static str> {
    ErrorCode::ALL.iter().map(|code| code.as_str()).collect()
}

/// The codes of errors that are the input's fault.
#[pyfunction]
pub(crate) fn bad_input_codes() -> Vec<&'static str> {
    ErrorCode::ALL.iter().filter(|code| code.is_bad_input()).map(|code| code.as_str()).collect()
}

/// Why keys are refused, in the order in which the reasons are checked.
#[pyfunction]
pub(crate) fn denial_reasons() -> Vec<&'static str> {
    DenialReason::ALL.iter().map(|reason| reason.as_str()).collect()
}

/// Why charges are refused.
#[pyfunction]
pub(crate) fn charge_refusals() -> Vec<&'static str> {
    ChargeRefusal::ALL.iter().map(|reason| reason.as_str()).collect()
}

/// Why nothing is reserved.
#[pyfunction]
pub(crate) fn reserve_refusals() -> Vec<&'static str> {
    ReserveRefusalReason::ALL.iter().map(|reason| reason.as_str()).collect()
}

/// Why reservations are not settled, released or extended.
#[pyfunction]
pub(crate) fn reservation_refusals() -> Vec<&'static str> {
    ReservationRefusal::ALL.iter().map(|reason| reason.as_str()).collect()
}

/// Seconds that a duration lasts; `None` if it is none.
#[pyfunction]
#[pyo3(signature = (duration, /))]
pub(crate) fn duration_seconds(duration: Option<&str>) -> PyResult<Option<u64>> {
    let duration = read_duration(duration).map_err(raise)?;
    Ok(duration.map(|duration| duration.as_secs()))
}

/// Whether a key with these scopes may do `scope`; `None` is everything. With `wildcards`, `files:*` is whatever begins
/// with `files:`.
#[pyfunction]
#[pyo3(signature = (scopes, scope, wildcards = false, /))]
pub(crate) fn has_scope(scopes: Option<Vec<String>>, scope: &str, wildcards: bool) -> bool {
    agentkey::engine::has_scope(scopes.as_deref(), scope, wildcards)
}

/// The key of an `Authorization` header, or of one that may hold a key, or the `Response` to a request without one.
#[pyfunction]
#[pyo3(signature = (authorization, api_key, /))]
pub(crate) fn presented_key(authorization: Option<&str>, api_key: Option<&str>) -> Presented {
    presented(authorization, api_key)
}
