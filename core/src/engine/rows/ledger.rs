//! Rows of the ledger: a JSON object each.

use std::borrow::Cow;

use serde::Deserialize;

use serde_json::Value;

use super::{Field, fields, integer, only_field};
use crate::budget::ledger::{Event, EventFilter};
use crate::error::Error;
use crate::id::KeyId;
use crate::table::literal::parse_array;
use crate::table::shape::TableShape;

/// What is asked for with a filter: key, account, kind, and how many; `None` if nothing in the columns can match.
pub(crate) fn event_params(filter: &EventFilter, shape: &TableShape) -> Option<[Option<String>; 4]> {
    let key_id = filter.key_id.as_ref().map(KeyId::to_string);
    let account_id = filter.account_id.as_ref().map(ToString::to_string);
    let fits = key_id.as_ref().is_none_or(|id| shape.fits_id(id))
        && account_id.as_ref().is_none_or(|account| shape.fits_account(account))
        && filter.kind.as_ref().is_none_or(|kind| !kind.contains('\0'));
    fits.then(|| [key_id, account_id, filter.kind.clone(), Some(filter.most().to_string())])
}

/// Reads entries. Metadata that others wrote may be nested too deep to be read, or have numbers that no reader takes: it is
/// answered as its text.
pub(crate) fn read_events(rows: &[String]) -> Result<Vec<Event>, Error> {
    rows.iter()
        .map(|row| {
            let [entry, metadata] = fields(row, "an entry's row")?;
            read_event(entry, metadata)
        })
        .collect()
}

fn read_event(entry: Field<'_>, metadata: Field<'_>) -> Result<Event, Error> {
    let mut event: Event = read_object(&entry.unwrap_or_default())?;
    event.metadata =
        metadata.map(|text| serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned())));
    Ok(event)
}

/// The latest entry of the ledger, and who held it for writing after it was there: `None` if there is nothing new.
pub(crate) type Mark = (i64, Vec<String>);

/// A page of the cursor: see events_after.sql.
pub(crate) fn read_events_after(rows: &[String]) -> Result<(Option<Mark>, Vec<Event>), Error> {
    let Some((first, rows)) = rows.split_first() else { return Ok((None, Vec::new())) };
    let [latest, holders] = fields(first, "a cursor's mark")?;
    let latest = integer(&latest, "id")?.ok_or_else(|| Error::unexpected("no latest entry"))?;
    let holders = holders.unwrap_or_default();
    let holders = parse_array(&holders).ok_or_else(|| Error::unexpected("no holders"))?;
    let holders = holders.into_iter().flatten().map(Cow::into_owned).collect();
    Ok((Some((latest, holders)), read_events(rows)?))
}

/// A delivery that was taken: the event, the attempt, and the time in seconds since 1970.
pub(crate) type Claimed = (Event, u32, i64);

/// Deliveries that were taken, and whether the webhook's place moved. See claim_deliveries.sql.
pub(crate) fn read_claimed(rows: &[String]) -> Result<(bool, Vec<Claimed>), Error> {
    let (moved, rows): (Vec<&String>, Vec<&String>) = rows.iter().partition(|row| only_field(row).is_some());
    let read = |row: &&String| {
        let [attempt, time, entry, metadata] = fields(row, "a delivery's row")?;
        let attempt = integer(&attempt, "attempts")?.and_then(|attempt| attempt.try_into().ok());
        let (Some(attempt), Some(time)) = (attempt, integer(&time, "the time")?) else {
            return Err(Error::unexpected("a delivery without its attempt"));
        };
        Ok((read_event(entry, metadata)?, attempt, time))
    };
    Ok((!moved.is_empty(), rows.iter().map(read).collect::<Result<_, Error>>()?))
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
