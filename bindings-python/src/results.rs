//! Answers as Python objects. The classes are Python's; the hot ones are made here, the others of JSON by Python.

use agentkey::Error;
use agentkey::engine::{AccountId, Answer, ChargeRefusal, Charged, KeyId, Verdict};
use agentkey::{Denial, Grant};
use chrono::{DateTime, Utc};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use pyo3::{IntoPyObjectExt, intern};

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

/// An object of a frozen dataclass, as `holding` makes one: its `__init__`, a slow call for each member, is not asked.
fn instance<const N: usize>(
    class: &Bound<'_, PyAny>,
    members: [(&Bound<'_, PyString>, Py<PyAny>); N],
) -> PyResult<Py<PyAny>> {
    let py = class.py();
    let made = class.call_method1(intern!(py, "__new__"), (class,))?;
    let dict = made.getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?;
    for (name, value) in members {
        dict.set_item(name, value)?;
    }
    Ok(made.unbind())
}

/// All members that the class's `__init__` sets.
pub(crate) fn grant_object(py: Python<'_>, grant: &Grant) -> PyResult<Py<PyAny>> {
    let account = grant.account_id.as_ref().map(|id| account_id(py, id)).transpose()?;
    let members = [
        (intern!(py, "id"), key_id(py, &grant.id)?),
        (intern!(py, "account_id"), account.into_py_any(py)?),
        (intern!(py, "user_id"), grant.user_id.as_deref().into_py_any(py)?),
        (intern!(py, "scopes"), grant.scopes.as_deref().into_py_any(py)?),
        (intern!(py, "budget_cents"), grant.budget_cents.into_py_any(py)?),
        (intern!(py, "budget_used_cents"), grant.budget_used_cents.into_py_any(py)?),
        (intern!(py, "budget_remaining_cents"), grant.budget_remaining_cents.into_py_any(py)?),
        (intern!(py, "budget_period"), grant.budget_period.as_deref().into_py_any(py)?),
        (intern!(py, "budget_reset_at"), grant.budget_reset_at.map(told).into_py_any(py)?),
        (intern!(py, "expires_at"), grant.expires_at.map(told).into_py_any(py)?),
        (intern!(py, "delegated_by"), grant.delegated_by.as_deref().into_py_any(py)?),
        (intern!(py, "name"), grant.name.as_str().into_py_any(py)?),
        (intern!(py, "budget_reserved_cents"), grant.budget_reserved_cents.into_py_any(py)?),
        (intern!(py, "budget_used_microcents"), grant.budget_used_microcents.into_py_any(py)?),
        (intern!(py, "budget_remaining_microcents"), grant.budget_remaining_microcents().into_py_any(py)?),
    ];
    instance(class!(py, "Grant")?, members)
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
    let members = [
        (intern!(py, "budget_used_cents"), balance.used_cents().into_py_any(py)?),
        (intern!(py, "budget_remaining_cents"), balance.remaining_cents().into_py_any(py)?),
        (intern!(py, "over_budget"), (over > 0).into_py_any(py)?),
        (intern!(py, "overage_cents"), (over > 0).then_some(over).into_py_any(py)?),
        (intern!(py, "budget_used_microcents"), balance.used_microcents.into_py_any(py)?),
        (intern!(py, "budget_remaining_microcents"), balance.remaining_microcents().into_py_any(py)?),
        (intern!(py, "replayed"), charged.replayed.into_py_any(py)?),
    ];
    instance(class, members)
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
