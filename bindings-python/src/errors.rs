//! Errors of the core as the exceptions of `pyagentkey`.

use std::error::Error;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The exception for an error. Which class it has is decided in Python, in one place.
pub(crate) fn raise(error: agentkey::Error) -> PyErr {
    with_code(error.code().as_str(), error.message(), sqlstate(&error).as_deref())
}

/// The exception for a code, also one that only Python has.
pub(crate) fn with_code(code: &str, message: &str, sqlstate: Option<&str>) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Python::attach(|py| {
        let make = MAKE.import(py, "pyagentkey._errors", "error_of");
        match make.and_then(|make| make.call1((code, message, sqlstate))) {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        }
    })
}

/// A wrong type of argument.
pub(crate) fn wrong_type(message: impl Into<String>) -> PyErr {
    PyTypeError::new_err(message.into())
}

/// A wrong value of an option that is Python's own.
pub(crate) fn wrong_value(message: impl Into<String>) -> PyErr {
    PyValueError::new_err(message.into())
}

/// A misuse of this module by our own Python.
pub(crate) fn misuse(message: &'static str) -> PyErr {
    PyRuntimeError::new_err(message)
}

fn sqlstate(error: &agentkey::Error) -> Option<String> {
    let source = error.source()?;
    // The core shares its cause: what is asked for is within.
    let cause =
        source.downcast_ref::<Arc<dyn Error + Send + Sync>>().map_or(source, |shared| shared.as_ref());
    cause.downcast_ref::<sqlx::Error>()?.as_database_error()?.code().map(|code| code.into_owned())
}
