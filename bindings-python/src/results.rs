//! Results: frozen objects around the core's, whose members become Python objects when they are asked for.

use agentkey::{ChargeRefusal, CreatedKey, KeyId, RawKey};
use chrono::{DateTime, Utc};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString};

/// What every result can do, by the names of its members.
macro_rules! result_object {
    ($(#[$doc:meta])* $type:ident($inner:ty) { $($members:tt)* } [$($field:literal),* $(,)?]) => {
        result_object! { @class $(#[$doc])* $type [$($field),*] { pub(crate) $inner } { $($members)* } }
    };
    (@class $(#[$doc:meta])* $type:ident [$($field:literal),*] { $vis:vis $inner:ty } { $($members:tt)* }) => {
        $(#[$doc])*
        #[pyclass(frozen, eq, module = "pyagentkey")]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $type($vis $inner);

        #[pymethods]
        impl $type {
            $($members)*

            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Py<PyAny>> {
                let names: &[&str] = &[$($field),*];
                Ok(pyo3::types::PyTuple::new(py, names)?.into_any().unbind())
            }

            /// The members as a new dict.
            fn to_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
                members(slf.as_any(), &[$($field),*])
            }

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                repr(slf.as_any(), stringify!($type), &[$($field),*])
            }
        }
    };
}

result_object! {
    /// A live key: what it may do and spend.
    Grant(agentkey::Grant) {
        #[getter]
        fn valid(&self) -> bool {
            true
        }

        #[getter]
        fn reason(&self) -> Option<&str> {
            None
        }

        #[getter]
        fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
            key_id(py, &self.0.id)
        }

        #[getter]
        fn account_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
            self.0.account_id.as_ref().map(|account| account_id(py, account)).transpose()
        }

        #[getter]
        fn user_id(&self) -> Option<&str> {
            self.0.user_id.as_deref()
        }

        #[getter]
        fn scopes(&self) -> Option<Vec<&str>> {
            list(self.0.scopes.as_deref())
        }

        #[getter]
        fn budget_cents(&self) -> Option<i64> {
            self.0.budget_cents
        }

        #[getter]
        fn budget_used_cents(&self) -> i64 {
            self.0.budget_used_cents
        }

        #[getter]
        fn budget_reserved_cents(&self) -> i64 {
            self.0.budget_reserved_cents
        }

        #[getter]
        fn budget_remaining_cents(&self) -> Option<i64> {
            self.0.budget_remaining_cents
        }

        #[getter]
        fn budget_period(&self) -> Option<&str> {
            self.0.budget_period.as_deref()
        }

        #[getter]
        fn budget_reset_at(&self) -> Option<DateTime<Utc>> {
            self.0.budget_reset_at
        }

        #[getter]
        fn expires_at(&self) -> Option<DateTime<Utc>> {
            self.0.expires_at
        }

        #[getter]
        fn delegated_by(&self) -> Option<&str> {
            self.0.delegated_by.as_deref()
        }

        #[getter]
        fn name(&self) -> &str {
            &self.0.name
        }

        /// Whether the key may do `scope`.
        #[pyo3(signature = (scope, /))]
        fn has_scope(&self, scope: &str) -> bool {
            self.0.has_scope(scope)
        }

        fn __bool__(&self) -> bool {
            true
        }
    } [
        "valid", "id", "account_id", "user_id", "scopes", "budget_cents", "budget_used_cents", "budget_reserved_cents",
        "budget_remaining_cents", "budget_period", "budget_reset_at", "expires_at", "delegated_by", "name",
    ]
}

result_object! {
    /// A refused key: false.
    Denial(agentkey::Denial) {
        #[getter]
        fn valid(&self) -> bool {
            false
        }

        #[getter]
        fn reason(&self) -> &'static str {
            self.0.reason.as_str()
        }

        #[getter]
        fn limit(&self) -> Option<Limit> {
            self.0.limit.clone().map(Limit)
        }

        /// A refused key may do nothing.
        #[pyo3(signature = (_scope, /), text_signature = "($self, scope, /)")]
        fn has_scope(&self, _scope: &str) -> bool {
            false
        }

        fn __bool__(&self) -> bool {
            false
        }
    } ["valid", "reason", "limit"]
}

result_object! {
    /// A budget that stands in the way.
    Limit(agentkey::Limit) {
        #[getter]
        fn key_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
            key_id(py, &self.0.key_id)
        }

        #[getter]
        fn budget_cents(&self) -> i64 {
            self.0.budget_cents
        }

        #[getter]
        fn used_cents(&self) -> i64 {
            self.0.used_cents
        }

        #[getter]
        fn reserved_cents(&self) -> i64 {
            self.0.reserved_cents
        }

        #[getter]
        fn resets_at(&self) -> Option<DateTime<Utc>> {
            self.0.resets_at
        }
    } ["key_id", "budget_cents", "used_cents", "reserved_cents", "resets_at"]
}

result_object! {
    /// A charge that is recorded, or was free.
    Usage(agentkey::Usage) {
        #[getter]
        fn success(&self) -> bool {
            true
        }

        #[getter]
        fn reason(&self) -> Option<&str> {
            None
        }

        #[getter]
        fn budget_used_cents(&self) -> Option<i64> {
            match self.0 {
                agentkey::Usage::Recorded { budget_used_cents, .. } => Some(budget_used_cents),
                _ => None,
            }
        }

        #[getter]
        fn budget_remaining_cents(&self) -> Option<i64> {
            match self.0 {
                agentkey::Usage::Recorded { budget_remaining_cents, .. } => budget_remaining_cents,
                _ => None,
            }
        }

        fn __bool__(&self) -> bool {
            true
        }
    } ["success", "budget_used_cents", "budget_remaining_cents"]
}

result_object! {
    /// A refused charge: false.
    UsageRefusal(ChargeRefusal) {
        #[getter]
        fn success(&self) -> bool {
            false
        }

        #[getter]
        fn reason(&self) -> &'static str {
            self.0.as_str()
        }

        fn __bool__(&self) -> bool {
            false
        }
    } ["success", "reason"]
}

result_object! {
    /// A new key, with its secret.
    Created((RawKey, CreatedKey)) {
        #[getter]
        fn key(&self) -> &str {
            self.0.0.expose()
        }

        #[getter]
        fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
            key_id(py, &self.0.1.id)
        }

        #[getter]
        fn scopes(&self) -> Option<Vec<&str>> {
            list(self.0.1.scopes.as_deref())
        }

        #[getter]
        fn budget_cents(&self) -> Option<i64> {
            self.0.1.budget_cents
        }

        #[getter]
        fn budget_period(&self) -> Option<&str> {
            self.0.1.budget_period.as_deref()
        }

        #[getter]
        fn expires_at(&self) -> Option<DateTime<Utc>> {
            self.0.1.expires_at
        }
    } ["key", "id", "scopes", "budget_cents", "budget_period", "expires_at"]
}

result_object! {
    /// Whether scopes are ones that keys may have: false if not.
    ScopeCheck(Vec<String>) {
        #[getter]
        fn valid(&self) -> bool {
            self.0.is_empty()
        }

        #[getter]
        fn invalid(&self) -> Vec<&str> {
            self.0.iter().map(String::as_str).collect()
        }

        fn __bool__(&self) -> bool {
            self.valid()
        }
    } ["valid", "invalid"]
}

result_object! {
    /// Counters.
    Stats(agentkey::Stats) {
        #[getter]
        fn statements(&self) -> u64 {
            self.0.statements
        }

        #[getter]
        fn pending(&self) -> usize {
            self.0.pending
        }

        #[getter]
        fn retries(&self) -> u64 {
            self.0.retries
        }

        #[getter]
        fn failed_touches(&self) -> u64 {
            self.0.failed_touches
        }
    } ["statements", "pending", "retries", "failed_touches"]
}

impl From<agentkey::Created> for Created {
    fn from(created: agentkey::Created) -> Self {
        Created((created.key.clone(), created.row()))
    }
}

impl Created {
    /// As JSON, with the secret.
    pub(crate) fn wire(&self) -> String {
        agentkey::gate::wire::created(self.0.0.expose(), &self.0.1)
    }
}

/// Members that some results do not have: not in `to_dict`, as not in the JSON of the other languages.
const OPTIONAL: &[(&str, &str)] = &[("Denial", "limit"), ("ScopeCheck", "invalid")];

fn members<'py>(object: &Bound<'py, PyAny>, names: &[&'static str]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(object.py());
    let class = object.get_type().name()?;
    for name in names {
        let value = object.getattr(name)?;
        let value = match value.getattr("to_dict") {
            Ok(to_dict) => to_dict.call0()?,
            Err(_) => value,
        };
        let free = class == "Usage" && *name != "success" && object.getattr("budget_used_cents")?.is_none();
        let absent = OPTIONAL.iter().any(|(c, n)| class == *c && n == name) && !value.is_truthy()?;
        if !free && !absent {
            dict.set_item(name, value)?;
        }
    }
    Ok(dict)
}

fn repr(object: &Bound<'_, PyAny>, class: &str, names: &[&str]) -> PyResult<String> {
    let mut fields = Vec::with_capacity(names.len());
    for name in names {
        // A secret must not end up in a log.
        let text = match *name {
            "key" => "<secret>".to_owned(),
            _ => object.getattr(name)?.repr()?.extract()?,
        };
        fields.push(format!("{name}={text}"));
    }
    Ok(format!("{class}({})", fields.join(", ")))
}

fn list(scopes: Option<&[String]>) -> Option<Vec<&str>> {
    scopes.map(|scopes| scopes.iter().map(String::as_str).collect())
}

fn key_id<'py>(py: Python<'py>, id: &KeyId) -> PyResult<Bound<'py, PyAny>> {
    match id {
        KeyId::Integer(n) => Ok(PyInt::new(py, *n).into_any()),
        KeyId::Text(text) => Ok(PyString::new(py, text).into_any()),
    }
}

fn account_id<'py>(py: Python<'py>, id: &agentkey::AccountId) -> PyResult<Bound<'py, PyAny>> {
    match id {
        agentkey::AccountId::Integer(n) => Ok(PyInt::new(py, *n).into_any()),
        agentkey::AccountId::Text(text) => Ok(PyString::new(py, text).into_any()),
    }
}
