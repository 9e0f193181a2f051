//! Errors as JavaScript sees them: an `Error` whose `code` is the core's.

use agentkey::ErrorCode;
use agentkey::engine::Fault;
use napi_derive::napi;

/// A code's stable name, as napi wants it.
#[derive(Debug, Clone, Copy)]
pub struct Code(&'static str);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.0
    }
}

pub type Error = napi::Error<Code>;
pub type Result<T> = std::result::Result<T, Error>;

/// The core's error. TypeScript makes an `AgentKeyError` of it.
pub(crate) fn thrown(error: agentkey::Error) -> Error {
    Error::new(Code(error.code().as_str()), error.message())
}

/// An error of the core by its name, as TypeScript hands it back; a name that is not the core's is an unknown fault.
pub(crate) fn named(code: Option<&str>, message: String) -> agentkey::Error {
    let known = ErrorCode::ALL.iter().find(|known| Some(known.as_str()) == code);
    agentkey::Error::new(known.copied().unwrap_or(ErrorCode::Database), message)
}

/// The name of every error code.
#[napi]
pub fn error_codes() -> Vec<&'static str> {
    ErrorCode::ALL.iter().map(|code| code.as_str()).collect()
}

/// What is known of a call that failed with an error of the pool's.
#[napi(object)]
pub struct NativeErrorFacts {
    /// Whether the call may have been recorded all the same.
    pub may_have_been_recorded: bool,
    /// Whether the same call may succeed a little later.
    pub transient: bool,
    /// Postgres's own code.
    pub sqlstate: Option<String>,
}

/// Classifies an error of the pool's by its `code`.
#[napi]
pub fn error_facts(code: Option<String>) -> NativeErrorFacts {
    let fault = Fault::of_code(code.as_deref(), "");
    NativeErrorFacts {
        may_have_been_recorded: fault.may_have_taken_effect(),
        transient: fault.is_transient(),
        sqlstate: fault.sqlstate().map(str::to_owned),
    }
}
