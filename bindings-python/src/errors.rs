//! Errors of the core as the exceptions of `pyagentkey`.

use agentkey::{Error, ErrorCode};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The exception for an error. Which class it has is decided in Python, in one place.
pub(crate) fn raise(error: Error) -> PyErr {
    let facts = (error.may_have_been_recorded(), error.is_transient());
    exception(error.code().as_str(), error.message(), error.sqlstate(), facts)
}

fn exception(code: &str, message: &str, sqlstate: Option<&str>, facts: (bool, bool)) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Python::attach(|py| {
        let make = MAKE.import(py, "pyagentkey._errors", "error_of");
        match make.and_then(|make| make.call1((code, message, sqlstate, facts.0, facts.1))) {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        }
    })
}

/// The core's error by its name, as a double's call failed with it; any other name is an unknown fault.
pub(crate) fn named(code: Option<&str>, message: String) -> Error {
    let known = ErrorCode::ALL.iter().find(|known| Some(known.as_str()) == code);
    Error::new(known.copied().unwrap_or(ErrorCode::Database), message)
}

/// A wrong value of an option.
pub(crate) fn wrong_value(message: impl Into<String>) -> PyErr {
    PyValueError::new_err(message.into())
}

/// A misuse of this module by our own Python.
pub(crate) fn misuse(message: &'static str) -> PyErr {
    PyRuntimeError::new_err(message)
}
