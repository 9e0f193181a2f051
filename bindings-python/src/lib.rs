//! The native module of `pyagentkey`: private, its public face is written in Python.
//!
//! No thread of the runtime ever touches Python. Answers wait in a queue until the caller's own thread takes them: the
//! event loop, woken through a pipe once for all that came meanwhile, or the thread of a blocking call. So nothing
//! waits for the interpreter's lock, and nothing can go wrong when the interpreter ends.

mod call;
mod channel;
mod client;
mod command;
mod door;
mod errors;
mod options;
mod password;
mod results;
mod rules;
mod runtime;

use pyo3::prelude::*;

/// The native module.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::call::Call;
    #[pymodule_export]
    use crate::channel::Mailbox;
    #[pymodule_export]
    use crate::client::Client;
    #[pymodule_export]
    use crate::command::command_line;
    #[pymodule_export]
    use crate::door::{Answered, Exchange, Guard, Response, Routes, Step};
    #[pymodule_export]
    use crate::rules::{
        bad_input_codes, charge_refusals, denial_reasons, duration_seconds, error_codes, has_scope,
        presented_key, reservation_refusals, reserve_refusals,
    };

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    const MOST_BODY_BYTES: usize = agentkey::http::Body::MOST_BYTES;
}
