//! Rows of the ledger: a JSON object each.

use serde::Deserialize;

use serde_json::Value;

use super::{fields, only_field};
use crate::budget::ledger::{Event, EventFilter};
use crate::error::Error;
use crate::id::KeyId;
use crate::table::shape::TableShape;

/// What is asked for with a filter; `None` if nothing in the columns can match.
pub(crate) fn event_params(filter: &EventFilter, shape: &TableShape) -> Option<Vec<Option<String>>> {
    let key_id = filter.key_id.as_ref().map(KeyId::to_string);
    let account_id = filter.account_id.as_ref().map(ToString::to_string);
    let fits = key_id.as_ref().is_none_or(|id| shape.fits_id(id))
        && account_id.as_ref().is_none_or(|account| shape.fits_account(account))
        && filter.kind.as_ref().is_none_or(|kind| !kind.contains('\0'));
    let before = filter.before.map(|id| id.to_string());
    fits.then(|| vec![key_id, account_id, filter.kind.clone(), before, Some(filter.most().to_string())])
}

/// Reads entries. Metadata that others wrote may be nested too deep to be read, or have numbers that no reader takes: it is
/// answered as its text.
pub(crate) fn read_events(rows: &[String]) -> Result<Vec<Event>, Error> {
    rows.iter()
        .map(|row| {
            let [entry, metadata] = fields(row, "an entry's row")?;
            let mut event: Event = read_object(&entry.unwrap_or_default())?;
            event.metadata = metadata
                .map(|text| serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned())));
            Ok(event)
        })
        .collect()
}

/// Reads rows of one JSON object each.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(rows: &[String]) -> Result<Vec<T>, Error> {
    rows.iter()
        .map(|row| {
            let text = only_field(row).ok_or_else(|| Error::unexpected("a row that is no JSON object"))?;
            read_object(&text)
        })
        .collect()
}

pub(crate) fn read_object<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|e| Error::unexpected(format_args!("a JSON object: {e}")))
}
