//! The JSON of requests and answers: camelCase, as the npm package writes it, and the same in every language.

mod answers;
mod requests;

pub use self::answers::{error_json, timestamp};
pub(crate) use self::answers::{grant, json};
