//! Results: frozen objects around the core's, whose members become Python objects when they are asked for.

use agentkey::{Balance, KeyId, MICROCENTS_PER_CENT};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyString, PyType};

/// What every result can do, by the names of its members: those that it always has, and those that it may lack. One
/// `with money` tells of a budget too, by its `balance()` and whether it is `exact()`.
macro_rules! result_object {
    ($(#[$doc:meta])* $type:ident($inner:ty) with money { $($members:tt)* } $names:tt $($optional:tt)?) => {
        result_object! { $(#[$doc])* $type($inner) {
            $($members)*

            #[getter]
            fn budget_used_cents(&self) -> Option<i64> {
                self.balance().map(|balance| balance.used_cents())
            }

            #[getter]
            fn budget_remaining_cents(&self) -> Option<i64> {
                self.balance().and_then(|balance| balance.remaining_cents())
            }

            #[getter]
            fn budget_used_microcents(&self) -> Option<i64> {
                self.balance().filter(|_| self.exact()).map(|balance| balance.used_microcents)
            }

            #[getter]
            fn budget_remaining_microcents(&self) -> Option<i64> {
                self.balance().filter(|_| self.exact()).and_then(|balance| balance.remaining_microcents())
            }

            #[getter]
            fn budget_used<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
                self.balance().map(|balance| decimal_cents(py, balance.used_microcents)).transpose()
            }

            #[getter]
            fn budget_remaining<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
                let remaining = self.balance().and_then(|balance| balance.remaining_microcents());
                remaining.map(|amount| decimal_cents(py, amount)).transpose()
            }
        } $names $($optional)? }
    };
    ($(#[$doc:meta])* $type:ident($inner:ty) { $($members:tt)* } $names:tt) => {
        result_object! { $(#[$doc])* $type($inner) { $($members)* } $names [] }
    };
    ($(#[$doc:meta])* $type:ident($inner:ty) { $($members:tt)* }
        [$($name:literal),* $(,)?] [$($optional:literal),* $(,)?]) => {
        $(#[$doc])*
        #[pyclass(frozen, eq, module = "pyagentkey")]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $type(pub(crate) $inner);

        #[pymethods]
        impl $type {
            $($members)*

            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Py<PyAny>> {
                let names: &[&str] = &[$($name,)* $($optional,)*];
                Ok(pyo3::types::PyTuple::new(py, names)?.into_any().unbind())
            }

            /// The members as a new dict.
            fn to_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
                members(slf.as_any(), &[$($name),*], &[$($optional),*])
            }

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                repr(slf.as_any(), stringify!($type), &[$($name),*], &[$($optional),*])
            }
        }
    };
}

mod keys;
mod ledger;
mod spending;

pub(crate) use keys::{Caller, Created, Denial, Grant, Limit, ScopeCheck, Stats};
pub(crate) use ledger::{Discrepancy, Event, UsageOfPeriod};
pub(crate) use spending::{
    Extended, FinishRefusal, Released, Reservation, ReserveRefusal, Settlement, Usage, UsageRefusal,
};

/// A result of the core, and whether it is told to the micro-cent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told<T> {
    pub(crate) of: T,
    pub(crate) exact: bool,
}

fn members<'py>(
    object: &Bound<'py, PyAny>,
    names: &[&'static str],
    optional: &[&'static str],
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(object.py());
    // Of a charge that cost nothing there is no budget to tell.
    let is_free = names.contains(&"budget_used_cents") && object.getattr("budget_used_cents")?.is_none();
    for name in names.iter().filter(|name| !(is_free && name.starts_with("budget_"))) {
        dict.set_item(name.trim_end_matches('_'), plain(object.getattr(name)?)?)?;
    }
    for name in optional {
        let value = object.getattr(name)?;
        if !is_absent(&value) {
            dict.set_item(name, plain(value)?)?;
        }
    }
    Ok(dict)
}

/// A member that a result lacks is not in `to_dict`, as not in the JSON of the other languages.
fn is_absent(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.extract::<bool>().is_ok_and(|is_so| !is_so)
        || value.len().is_ok_and(|length| length == 0)
}

fn plain(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    match value.getattr("to_dict") {
        Ok(to_dict) => to_dict.call0(),
        Err(_) => Ok(value),
    }
}

fn repr(object: &Bound<'_, PyAny>, class: &str, names: &[&str], optional: &[&str]) -> PyResult<String> {
    let mut fields = Vec::with_capacity(names.len());
    for name in names.iter().chain(optional) {
        let value = object.getattr(name)?;
        if optional.contains(name) && is_absent(&value) {
            continue;
        }
        // A secret must not end up in a log.
        let text = if *name == "key" { "<secret>".to_owned() } else { value.repr()?.extract()? };
        fields.push(format!("{name}={text}"));
    }
    Ok(format!("{class}({})", fields.join(", ")))
}

fn list(scopes: Option<&[String]>) -> Option<Vec<&str>> {
    scopes.map(|scopes| scopes.iter().map(String::as_str).collect())
}

fn key_id<'py>(py: Python<'py>, id: &KeyId) -> Bound<'py, PyAny> {
    match id {
        KeyId::Integer(n) => PyInt::new(py, *n).into_any(),
        KeyId::Text(text) => PyString::new(py, text).into_any(),
    }
}

fn account_id<'py>(py: Python<'py>, id: &agentkey::AccountId) -> Bound<'py, PyAny> {
    match id {
        agentkey::AccountId::Integer(n) => PyInt::new(py, *n).into_any(),
        agentkey::AccountId::Text(text) => PyString::new(py, text).into_any(),
    }
}

/// Whole cents, as the core rounds what was used.
fn whole_cents(microcents: i64) -> i64 {
    Balance { budget_microcents: None, used_microcents: microcents, reserved_microcents: 0 }.used_cents()
}

/// Cents with a fraction, as a `decimal.Decimal`.
fn decimal_cents(py: Python<'_>, microcents: i64) -> PyResult<Bound<'_, PyAny>> {
    static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let one = MICROCENTS_PER_CENT.unsigned_abs();
    let (whole, fraction) = (microcents.unsigned_abs() / one, microcents.unsigned_abs() % one);
    let sign = if microcents < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{fraction:06}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    DECIMAL.import(py, "decimal", "Decimal")?.call1((text,))
}
