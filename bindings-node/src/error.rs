//! Errors as JavaScript sees them: an `Error` whose `code` is the core's.

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
pub(crate) fn named(code: &str, message: String) -> agentkey::Error {
    let known = agentkey::ErrorCode::ALL.iter().find(|known| known.as_str() == code);
    agentkey::Error::new(known.copied().unwrap_or(agentkey::ErrorCode::Database), message)
}

/// The name of every error code.
#[napi]
pub fn error_codes() -> Vec<&'static str> {
    agentkey::ErrorCode::ALL.iter().map(|code| code.as_str()).collect()
}
