//! The command line, run by the core.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command line with these arguments, without the program's name. Answers the process's exit code.
#[pyfunction]
pub(crate) fn command_line(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| agentkey::cli::run(arguments))
}
