//! A cost as JSON.

use serde_json::Value;

use crate::budget::money::{Cost, Rounding};
use crate::error::{Error, ErrorCode, shortened};

/// A cost in one of its three forms. Only cents may be no number: that is the invalid cost.
pub(super) fn read_cost(
    cents: Option<Value>,
    microcents: Option<Value>,
    usd: Option<Value>,
    rounding: Rounding,
) -> Result<Cost, Error> {
    const FORMS: &str = "one of costCents (a number), costMicrocents (an integer) and costUsd (a number or a decimal text, \
        such as \"0.00042\" or \"4.2e-4\")";
    let invalid =
        |why: String| Err(Error::new(ErrorCode::InvalidCost, format!("Invalid cost: {why}; give {FORMS}")));
    match (cents, microcents, usd) {
        (Some(cents), None, None) => match number(&cents) {
            Some(cents) => Ok(Cost::from_cents_f64_with(cents, rounding)),
            None => invalid(format!("costCents is {}", shortened(&cents.to_string()))),
        },
        (None, Some(microcents), None) => match microcents.as_i64() {
            Some(microcents) => Ok(Cost::microcents(microcents)),
            None => invalid(format!("costMicrocents is {}", shortened(&microcents.to_string()))),
        },
        (None, None, Some(usd)) => {
            let text = match &usd {
                Value::String(text) => text.clone(),
                usd => usd.to_string(),
            };
            match Cost::from_usd(&text) {
                Cost::Invalid => invalid(format!("costUsd is {}", shortened(&usd.to_string()))),
                cost => Ok(cost),
            }
        }
        (None, None, None) => invalid("there is none".to_owned()),
        _ => invalid("there are several".to_owned()),
    }
}

/// What JSON has no number for is the text that languages write.
fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}
