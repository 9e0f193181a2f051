//! Answers as Python objects. The classes are Python's; the hot ones are made here, the others of JSON by Python.

use agentkey::Error;
use agentkey::engine::{AccountId, Answer, ChargeRefusal, Charged, KeyId, Verdict};
use agentkey::{Denial, Grant};
use chrono::{DateTime, Utc};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::errors::raise;

/// The object for an answer: of a look-up or a charge the result itself, of others their JSON.
pub(crate) fn object(py: Python<'_>, answer: Result<Answer, Error>) -> PyResult<Py<PyAny>> {
    match answer.map_err(raise)? {
        Answer::Validated(verdict) => verdict_object(py, &verdict),
        Answer::Charged(Ok(charged)) => charged_object(py, &charged),
        Answer::Charged(Err(refusal)) => refused_object(py, refusal),
        other => other.json(true).into_py_any(py),
    }
}

/// A class of `pyagentkey._results`.
macro_rules! class {
    ($py:expr, $name:literal) => {{
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        CLASS.import($py, "pyagentkey._results", $name)
    }};
}

fn verdict_object(py: Python<'_>, verdict: &Verdict) -> PyResult<Py<PyAny>> {
    match verdict {
        Ok(grant) => grant_object(py, grant),
        Err(denial) => denial_object(py, denial),
    }
}

/// The members in the order of the class.
pub(crate) fn grant_object(py: Python<'_>, grant: &Grant) -> PyResult<Py<PyAny>> {
    let members = [
        key_id(py, &grant.id)?,
        grant.account_id.as_ref().map(|id| account_id(py, id)).transpose()?.into_py_any(py)?,
        grant.user_id.as_deref().into_py_any(py)?,
        grant.scopes.as_deref().into_py_any(py)?,
        grant.budget_cents.into_py_any(py)?,
        grant.budget_used_cents.into_py_any(py)?,
        grant.budget_remaining_cents.into_py_any(py)?,
        grant.budget_period.as_deref().into_py_any(py)?,
        grant.budget_reset_at.map(told).into_py_any(py)?,
        grant.expires_at.map(told).into_py_any(py)?,
        grant.delegated_by.as_deref().into_py_any(py)?,
        grant.name.as_str().into_py_any(py)?,
        grant.budget_reserved_cents.into_py_any(py)?,
        grant.budget_used_microcents.into_py_any(py)?,
        grant.budget_remaining_microcents().into_py_any(py)?,
    ];
    Ok(class!(py, "Grant")?.call1(PyTuple::new(py, members)?)?.unbind())
}

fn denial_object(py: Python<'_>, denial: &Denial) -> PyResult<Py<PyAny>> {
    let limit = denial.limit.as_ref().map(|limit| {
        let class = class!(py, "Limit")?;
        let id = key_id(py, &limit.key_id)?;
        class.call1((
            id,
            limit.budget_cents,
            limit.used_cents,
            limit.reserved_cents,
            limit.resets_at.map(told),
        ))
    });
    let class = class!(py, "Denial")?;
    Ok(class.call1((denial.reason.as_str(), limit.transpose()?))?.unbind())
}

fn charged_object(py: Python<'_>, charged: &Charged) -> PyResult<Py<PyAny>> {
    let class = class!(py, "Usage")?;
    let Some(balance) = &charged.balance else { return Ok(class.call0()?.unbind()) };
    let over = balance.over_cents();
    let members = (
        balance.used_cents(),
        balance.remaining_cents(),
        over > 0,
        (over > 0).then_some(over),
        balance.used_microcents,
        balance.remaining_microcents(),
        charged.replayed,
    );
    Ok(class.call1(members)?.unbind())
}

fn refused_object(py: Python<'_>, refusal: ChargeRefusal) -> PyResult<Py<PyAny>> {
    Ok(class!(py, "UsageRefusal")?.call1((refusal.as_str(),))?.unbind())
}

fn key_id(py: Python<'_>, id: &KeyId) -> PyResult<Py<PyAny>> {
    match id {
        KeyId::Integer(n) => n.into_py_any(py),
        KeyId::Text(text) => text.into_py_any(py),
    }
}

fn account_id(py: Python<'_>, id: &AccountId) -> PyResult<Py<PyAny>> {
    match id {
        AccountId::Integer(n) => n.into_py_any(py),
        AccountId::Text(text) => text.into_py_any(py),
    }
}

/// Times are told to the millisecond, as in JSON.
fn told(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at.timestamp_millis()).unwrap_or(at)
}
