//! `keys.sql`, lists and `update_key.sql`: keys as their owner sees them, and what is changed of one.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::lookup::KeyRow;
use super::time::{Moment, timestamp};
use super::{fields, integer, read_key_id};
use crate::engine::options::Options;
use crate::error::Error;
use crate::id::KeyId;
use crate::key::new_key::invalid_budget;
use crate::key::record::{KeyFilter, KeyRecord, KeyUpdate};
use crate::table::literal::parse_row;
use crate::table::shape::TableShape;

/// Where a page of a list ends.
pub(crate) struct PageEnd {
    /// The last key that was looked at.
    pub(crate) last: Option<KeyId>,
    /// The last key that is on the page.
    pub(crate) last_read: Option<KeyId>,
    /// How many were.
    pub(crate) looked_at: usize,
}

/// The parameters of a list that all its statements have, for at most so many keys; `None` if no key can be meant.
pub(crate) fn filter_params(
    filter: &KeyFilter,
    most: usize,
    shape: &TableShape,
) -> Option<Vec<Option<String>>> {
    let account = filter.account_id.as_ref().map(ToString::to_string);
    let [parent, after] = [&filter.parent, &filter.after].map(|id| id.as_ref().map(ToString::to_string));
    let is_id = |id: &Option<String>| id.as_ref().is_none_or(|id| shape.fits_id(id));
    let is_text = |text: &Option<String>| text.as_ref().is_none_or(|text| !text.contains('\0'));
    let fits = account.as_ref().is_none_or(|account| shape.fits_account(account))
        && is_id(&parent)
        && is_id(&after)
        && is_text(&filter.delegated_by)
        && is_text(&filter.scope);
    let state = filter.state.map(|state| state.as_str().to_owned());
    let metadata = filter.metadata.as_ref().map(|metadata| Value::from(metadata.clone()).to_string());
    let share = filter.over_share_millionths().map(|share| share.to_string());
    let (human, scope, most) = (filter.delegated_by.clone(), filter.scope.clone(), Some(most.to_string()));
    fits.then(|| vec![account, parent, human, state, scope, metadata, share, after, most])
}

/// Reads a page: keys, and the row that says where it ends. What is wrong with keys that cannot be read is added to
/// `unreadable`.
pub(crate) fn read_page(
    rows: &[String],
    shape: &TableShape,
    found: &mut Vec<KeyRecord>,
    unreadable: &mut Vec<Error>,
) -> Result<PageEnd, Error> {
    let (end, rows) = rows.split_last().ok_or_else(|| Error::unexpected("a page without its end"))?;
    for row in rows {
        match read_record(row, shape) {
            Ok(key) => found.push(key),
            Err(error) => unreadable.push(error),
        }
    }
    let [last, looked_at] = fields(end, "a page's end")?;
    let read_id = |id: &str| read_key_id(id, shape);
    Ok(PageEnd {
        last_read: rows.last().and_then(|row| id_of(row)).map(|id| read_id(&id)).transpose()?,
        last: last.map(|id| read_id(&id)).transpose()?,
        looked_at: integer(&looked_at, "how many keys were looked at")?
            .and_then(|n| n.try_into().ok())
            .unwrap_or(0),
    })
}

/// An error names the key, so that its owner can mend the row.
pub(crate) fn read_record(row: &str, shape: &TableShape) -> Result<KeyRecord, Error> {
    record(row, shape).map_err(|error| match id_of(row) {
        Some(id) => error.of_key(&id),
        None => error,
    })
}

fn id_of(record: &str) -> Option<String> {
    let key = parse_row(record)?.into_iter().next()??;
    parse_row(&key)?.into_iter().nth(1)?.map(Cow::into_owned)
}

fn record(row: &str, shape: &TableShape) -> Result<KeyRecord, Error> {
    let [
        key,
        created_at,
        prefix,
        parent_id,
        subject,
        disabled_at,
        revoked_at,
        previous_expires_at,
        metadata,
        boost,
        boost_until,
    ] = fields(row, "a key's record")?;
    let key = key.ok_or_else(|| Error::unexpected("a record without its key"))?;
    let looked_up = KeyRow::read(&key, shape)?.decided()?;
    let last_used_at = looked_up.last_used_at().map(Moment::nearest);
    let (grant, reason) = match looked_up.verdict {
        Ok(grant) => (grant, None),
        Err(denial) => {
            let key = denial.key.ok_or_else(|| Error::unexpected("a key that is none"))?;
            (*key, Some(denial.reason))
        }
    };
    Ok(KeyRecord {
        grant,
        reason,
        limits: looked_up.limits,
        key_prefix: prefix.unwrap_or_default().into_owned(),
        parent_id: parent_id.map(|id| read_key_id(&id, shape)).transpose()?,
        external_subject: subject.map(|subject| subject.into_owned()),
        created_at: timestamp(created_at.as_deref(), "created_at")?,
        last_used_at,
        disabled_at: timestamp(disabled_at.as_deref(), "disabled_at")?,
        revoked_at: timestamp(revoked_at.as_deref(), "revoked_at")?,
        previous_expires_at: timestamp(previous_expires_at.as_deref(), "prev_key_expires_at")?,
        budget_boost_cents: integer(&boost, "budget_boost_cents")?,
        budget_boost_until: timestamp(boost_until.as_deref(), "budget_boost_until")?,
        metadata: metadata.map(read_metadata),
        ancestors: looked_up.ancestors,
    })
}

/// Metadata that others wrote may be what no reader takes: it is answered as its text.
fn read_metadata(text: Cow<'_, str>) -> Value {
    serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
}

/// The parameters of `update_key.sql`, once what is changed is known to fit the table.
pub(crate) fn changes(
    id: String,
    update: &KeyUpdate,
    shape: &TableShape,
    options: &Options,
) -> Result<Vec<Option<String>>, Error> {
    let columns = [
        ("name", update.name.is_some()),
        ("scopes", update.scopes.is_some()),
        ("budget_cents", update.budget_cents.is_some()),
        ("budget_used_cents", update.budget_cents.is_some()),
        ("budget_period", update.budget_period.is_some()),
        ("budget_reset_at", update.budget_period.is_some()),
        ("expires_at", update.expires_in.is_some()),
        ("disabled_at", update.disabled.is_some()),
    ];
    let needed: Vec<&str> = columns.into_iter().filter(|(_, used)| *used).map(|(column, _)| column).collect();
    shape.require(&needed)?;
    if update.metadata.is_some() {
        shape.require_metadata()?;
    }
    if let Some(cents) = update.budget_cents.flatten().filter(|cents| *cents > shape.max_cents()) {
        return Err(invalid_budget(
            cents,
            &format!("the most that the table holds is {}", shape.max_cents()),
        ));
    }
    let mut values = Map::new();
    let mut logged = Map::new();
    let mut set = |column: &str, value: Value, name: &str, shown: Value| {
        values.insert(column.to_owned(), value);
        logged.insert(name.to_owned(), shown);
    };
    if let Some(name) = &update.name {
        set("name", json!(name), "name", json!(name));
    }
    if let Some(scopes) = &update.scopes {
        let stored = scopes.as_ref().map(|scopes| shape.scopes_parameter(scopes));
        set("scopes", json!(stored), "scopes", json!(scopes));
    }
    if let Some(cents) = update.budget_cents {
        set("budget_cents", json!(cents), "budgetCents", json!(cents));
    }
    if let Some(period) = update.budget_period {
        set("budget_period", json!(period), "budgetPeriod", json!(period));
    }
    if let Some(lifetime) = update.expires_in {
        let seconds = lifetime.map(|lifetime| lifetime.as_secs());
        set("expires_in_seconds", json!(seconds), "expiresInSeconds", json!(seconds));
    }
    if let Some(metadata) = &update.metadata {
        set("metadata", json!(metadata), "metadata", json!(metadata));
    }
    let kind = match (logged.is_empty(), update.disabled) {
        (true, Some(true)) => "disable",
        (true, Some(false)) => "enable",
        _ => "update",
    };
    if let Some(disabled) = update.disabled {
        values.insert("disabled".to_owned(), disabled.into());
        if kind == "update" {
            logged.insert("disabled".to_owned(), disabled.into());
        }
    }
    values.insert("align".to_owned(), options.align.as_str().into());
    let logged = (!logged.is_empty()).then(|| Value::from(logged).to_string());
    Ok(vec![Some(id), Some(Value::from(values).to_string()), Some(kind.to_owned()), logged])
}
