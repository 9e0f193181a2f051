//! Errors as JSON.

use serde::Serialize;

use super::answers::json;
use crate::error::Error;

/// An error as JSON: its code, its message, and the three facts about it.
pub fn error_json(error: &Error) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        code: &'static str,
        message: &'a str,
        may_have_been_recorded: bool,
        transient: bool,
        sqlstate: Option<&'a str>,
    }
    json(&Fields {
        code: error.code().as_str(),
        message: error.message(),
        may_have_been_recorded: error.may_have_been_recorded(),
        transient: error.is_transient(),
        sqlstate: error.sqlstate(),
    })
}
