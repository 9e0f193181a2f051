//! Arguments: strict about types, so that a slip is an error and not another meaning.

use agentkey::{Cost, CreateKey, Credential, KeyHash, KeyPrefix, Parent, Rounding};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};
use serde_json::{Map, Value};

use crate::errors::{wrong_type, wrong_value};

#[allow(clippy::too_many_arguments, reason = "fields of a key")]
pub(crate) fn spec(
    account_id: &Bound<'_, PyAny>,
    user_id: Option<String>,
    scopes: Option<&Bound<'_, PyAny>>,
    budget_cents: Option<&Bound<'_, PyAny>>,
    budget_period: Option<String>,
    expires_in: Option<String>,
    delegated_by: Option<String>,
    name: Option<String>,
    parent: Option<&Bound<'_, PyAny>>,
    key_prefix: &str,
) -> PyResult<CreateKey> {
    Ok(CreateKey {
        account_id: optional_id("account_id", account_id)?,
        user_id,
        scopes: scopes.map(|scopes| texts("scopes", scopes)).transpose()?,
        budget_cents: budget_cents.map(whole_cents).transpose()?,
        budget_period,
        expires_in,
        delegated_by,
        name,
        parent: parent.map(|parent| parent_of(parent, key_prefix)).transpose()?,
    })
}

/// An id, a raw key, or a `Subject`. Whether a text is an id or a raw key is the core's to decide.
fn parent_of(value: &Bound<'_, PyAny>, key_prefix: &str) -> PyResult<Parent> {
    if value.get_type().name()? == "Subject" {
        return Ok(Parent::Subject(value.getattr("name")?.extract()?));
    }
    let text = id_text("parent", value)?;
    let prefix = KeyPrefix::new(key_prefix).map_err(crate::errors::raise)?;
    Ok(if value.is_instance_of::<PyString>() { Parent::of_text(&text, &prefix) } else { Parent::Id(text) })
}

/// A cost in the one form in which it is given.
pub(crate) fn cost_of(
    cents: Option<&Bound<'_, PyAny>>,
    microcents: Option<&Bound<'_, PyAny>>,
    usd: Option<&Bound<'_, PyAny>>,
    rounding: Rounding,
) -> PyResult<Cost> {
    match (cents, microcents, usd) {
        (Some(cents), None, None) => cost(cents, rounding),
        (None, Some(microcents), None) => Ok(Cost::microcents(whole("cost_microcents", microcents)?)),
        (None, None, Some(usd)) => match usd.cast::<PyString>() {
            Ok(text) => Ok(Cost::from_usd(&text.to_string_lossy())),
            Err(_) if usd.get_type().name()? == "Decimal" => {
                let text: String = usd.call_method1("__format__", ("f",))?.extract()?;
                Ok(Cost::from_usd(&text))
            }
            Err(_) => {
                Err(wrong_type(format!("cost_usd must be str or Decimal, not {}", usd.get_type().name()?)))
            }
        },
        _ => Err(wrong_type("give one of cost_cents, cost_microcents and cost_usd")),
    }
}

/// A dict of JSON values.
pub(crate) fn metadata(value: &Bound<'_, PyDict>) -> PyResult<Map<String, Value>> {
    let kwargs = PyDict::new(value.py());
    kwargs.set_item("allow_nan", false)?;
    let text: String = value.py().import("json")?.call_method("dumps", (value,), Some(&kwargs))?.extract()?;
    serde_json::from_str(&text).map_err(|e| wrong_value(format!("metadata: {e}")))
}

/// The hash of a raw key. A text that is no Unicode (a lone surrogate) is nobody's key.
pub(crate) fn hashed(key: &Bound<'_, PyString>) -> Credential {
    Credential::Key(KeyHash::of(&key.to_string_lossy()))
}

/// Whole or fractional cents. An integer beyond all bounds is more than any budget.
fn cost(value: &Bound<'_, PyAny>, rounding: Rounding) -> PyResult<Cost> {
    if let Ok(float) = value.cast::<PyFloat>() {
        return Ok(Cost::from_cents_f64_with(float.value(), rounding));
    }
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(wrong_type(format!("cost_cents must be int or float, not {}", value.get_type().name()?)));
    }
    match value.extract::<i64>() {
        Ok(cents) => Ok(Cost::cents(cents)),
        Err(_) => Ok(Cost::cents(if value.lt(0)? { i64::MIN } else { i64::MAX })),
    }
}

fn whole_cents(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    whole("budget_cents", value)
}

fn whole(name: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(wrong_type(format!("{name} must be int, not {}", value.get_type().name()?)));
    }
    // One beyond 64 bits is refused with the message that the nearest one gets.
    value.extract().or_else(|_| Ok(if value.lt(0)? { i64::MIN } else { i64::MAX }))
}

/// Texts, but not the letters of a text.
pub(crate) fn texts(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let wrong = || wrong_type(format!("{name} must be a sequence of str"));
    if value.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    value.try_iter().map_err(|_| wrong())?.map(|item| item?.extract().map_err(|_| wrong())).collect()
}

pub(crate) fn optional_id(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if value.is_none() { Ok(None) } else { id_text(name, value).map(Some) }
}

pub(crate) fn id_text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = value.cast::<PyString>() {
        return text.extract();
    }
    if value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>() || is_uuid(value)? {
        return value.str()?.extract();
    }
    Err(wrong_type(format!("{name} must be str, int or UUID, not {}", value.get_type().name()?)))
}

fn is_uuid(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let class = value.get_type();
    Ok(class.name()? == "UUID" && class.module()? == "uuid")
}

pub(crate) fn in_range<T: TryFrom<i64>>(name: &str, value: i64, least: i64, most: i64) -> PyResult<T> {
    Some(value)
        .filter(|v| (least..=most).contains(v))
        .and_then(|v| v.try_into().ok())
        .ok_or_else(|| wrong_value(format!("{name} must be between {least} and {most}")))
}
