//! Answers as Python objects. The classes are Python's; the hot ones are made here, the others of JSON by Python.

use agentkey::Error;
use agentkey::engine::{AccountId, Answer, ChargeRefusal, Charged, KeyId, Verdict, WhenExceeded};
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

/// Makes bare objects of a class of `pyagentkey._results`.
macro_rules! bare {
    ($py:expr, $name:literal) => {{
        static BARE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        BARE.get_or_try_init($py, || {
            let new = $py.import("builtins")?.getattr("object")?.getattr("__new__")?;
            let made = $py.import("functools")?.getattr("partial")?.call1((new, class!($py, $name)?))?;
            PyResult::Ok(made.unbind())
        })
        .map(|bare| bare.bind($py))
    }};
}

/// An object of a frozen dataclass: a bare one and its members. Its `__init__`, a slow call for each of them, is not
/// asked. Those that are `None` are so by default, which the class knows.
fn instance<const N: usize>(
    bare: &Bound<'_, PyAny>,
    members: [(&Bound<'_, PyString>, Option<Bound<'_, PyAny>>); N],
) -> PyResult<Py<PyAny>> {
    let made = bare.call0()?;
    let dict = made.getattr(intern!(bare.py(), "__dict__"))?.cast_into::<PyDict>()?;
    for (name, value) in members {
        if let Some(value) = value {
            dict.set_item(name, value)?;
        }
    }
    Ok(made.unbind())
}

/// A member, or that it is `None`.
fn member<'py, T: IntoPyObject<'py>>(
    py: Python<'py>,
    value: Option<T>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    value.map(|value| value.into_bound_py_any(py)).transpose()
}

/// All members that the class's `__init__` sets.
pub(crate) fn grant_object(py: Python<'_>, grant: &Grant) -> PyResult<Py<PyAny>> {
    let account = grant.account_id.as_ref().map(|id| account_id(py, id)).transpose()?;
    let members = [
        (intern!(py, "id"), Some(key_id(py, &grant.id)?)),
        (intern!(py, "account_id"), account),
        (intern!(py, "user_id"), member(py, grant.user_id.as_deref())?),
        (intern!(py, "scopes"), member(py, grant.scopes.as_deref())?),
        (intern!(py, "budget_cents"), member(py, grant.budget_cents)?),
        (intern!(py, "budget_used_cents"), member(py, Some(grant.budget_used_cents))?),
        (intern!(py, "budget_remaining_cents"), member(py, grant.budget_remaining_cents)?),
        (intern!(py, "budget_period"), member(py, grant.budget_period.as_deref())?),
        (intern!(py, "budget_reset_at"), member(py, grant.budget_reset_at.map(told))?),
        (intern!(py, "expires_at"), member(py, grant.expires_at.map(told))?),
        (intern!(py, "delegated_by"), member(py, grant.delegated_by.as_deref())?),
        (intern!(py, "name"), member(py, Some(grant.name.as_str()))?),
        (intern!(py, "budget_reserved_cents"), member(py, Some(grant.budget_reserved_cents))?),
        (intern!(py, "budget_used_microcents"), member(py, Some(grant.budget_used_microcents))?),
        (intern!(py, "budget_remaining_microcents"), member(py, grant.budget_remaining_microcents())?),
        // No member of the dataclass: by default there are none, which the class knows.
        (intern!(py, "_wildcards"), member(py, grant.has_wildcards().then_some(true))?),
    ];
    instance(bare!(py, "Grant")?, members)
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
            limit.period.as_deref(),
            limit.when_exceeded.map(WhenExceeded::as_str),
        ))
    });
    let class = class!(py, "Denial")?;
    Ok(class.call1((denial.reason.as_str(), limit.transpose()?))?.unbind())
}

fn charged_object(py: Python<'_>, charged: &Charged) -> PyResult<Py<PyAny>> {
    let Some(balance) = &charged.balance else { return Ok(class!(py, "Usage")?.call0()?.unbind()) };
    let over = balance.over_cents();
    let members = [
        (intern!(py, "budget_used_cents"), member(py, Some(balance.used_cents()))?),
        (intern!(py, "budget_remaining_cents"), member(py, balance.remaining_cents())?),
        (intern!(py, "over_budget"), member(py, Some(over > 0))?),
        (intern!(py, "overage_cents"), member(py, (over > 0).then_some(over))?),
        (intern!(py, "budget_used_microcents"), member(py, Some(balance.used_microcents))?),
        (intern!(py, "budget_remaining_microcents"), member(py, balance.remaining_microcents())?),
        (intern!(py, "replayed"), member(py, Some(charged.replayed))?),
    ];
    instance(bare!(py, "Usage")?, members)
}

fn refused_object(py: Python<'_>, refusal: ChargeRefusal) -> PyResult<Py<PyAny>> {
    Ok(class!(py, "UsageRefusal")?.call1((refusal.as_str(),))?.unbind())
}

fn key_id<'py>(py: Python<'py>, id: &KeyId) -> PyResult<Bound<'py, PyAny>> {
    match id {
        KeyId::Integer(n) => n.into_bound_py_any(py),
        KeyId::Text(text) => text.into_bound_py_any(py),
    }
}

fn account_id<'py>(py: Python<'py>, id: &AccountId) -> PyResult<Bound<'py, PyAny>> {
    match id {
        AccountId::Integer(n) => n.into_bound_py_any(py),
        AccountId::Text(text) => text.into_bound_py_any(py),
    }
}

/// Times are told to the millisecond, as in JSON.
fn told(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at.timestamp_millis()).unwrap_or(at)
}
