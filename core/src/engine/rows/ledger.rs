//! Rows of the ledger: a JSON object each.

use serde::Deserialize;

use super::only_field;
use crate::error::Error;

/// Reads rows of one JSON object each.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(rows: &[String]) -> Result<Vec<T>, Error> {
    rows.iter()
        .map(|row| {
            let text = only_field(row).ok_or_else(|| Error::unexpected("a row that is no JSON object"))?;
            serde_json::from_str(&text).map_err(|e| Error::unexpected(format_args!("a JSON object: {e}")))
        })
        .collect()
}
