//! The JSON of requests and answers: camelCase, as the npm package writes it, and the same in every language.

mod answers;
mod cost;
mod deliveries;
mod errors;
mod explained;
mod increases;
mod keys;
mod object;
mod records;
mod requests;

pub(crate) use self::answers::{grant, json};
pub use self::errors::error_json;
pub(crate) use self::explained::grant_explained;
pub(crate) use self::records::{record_for_holder, records_for_holder};
