//! What reads the rows of statements and writes their parameters, a file for each family of statements.
//!
//! A row is one composite literal. The order of its fields is declared once, in the SQL file that writes it, and read
//! once, here.

pub(crate) mod charged;
pub(crate) mod ended;
pub(crate) mod ledger;
pub(crate) mod lookup;
pub(crate) mod new_row;
pub(crate) mod refunded;
pub(crate) mod scopes;
pub(crate) mod spent;
pub(crate) mod time;

use std::borrow::Cow;

use crate::error::Error;
use crate::id::KeyId;
use crate::table::literal::parse_row;
use crate::table::shape::TableShape;

/// A field of a row; `None` is NULL.
pub(crate) type Field<'r> = Option<Cow<'r, str>>;

/// The fields of a row, which must be so many.
pub(crate) fn fields<'r, const N: usize>(row: &'r str, what: &str) -> Result<[Field<'r>; N], Error> {
    let fields = parse_row(row).ok_or_else(|| Error::unexpected(what))?;
    fields.try_into().map_err(|fields: Vec<_>| {
        Error::unexpected(format_args!("{what} of {} columns in place of {N}", fields.len()))
    })
}

pub(crate) fn is_true(field: &Field<'_>) -> bool {
    field.as_deref() == Some("t")
}

pub(crate) fn integer(field: &Field<'_>) -> Result<Option<i64>, Error> {
    field.as_deref().map(|text| text.parse().map_err(|_| Error::unexpected("a number"))).transpose()
}

/// The place in the batch, from 0. Ordinals count from 1.
pub(crate) fn place(field: &Field<'_>) -> Result<usize, Error> {
    field
        .as_deref()
        .and_then(|text| text.parse::<usize>().ok()?.checked_sub(1))
        .ok_or_else(|| Error::unexpected("a row without its place in the batch"))
}

/// The only field of a row.
pub(crate) fn only_field(row: &str) -> Option<Cow<'_, str>> {
    fields::<1>(row, "a row").ok()?.into_iter().next()?
}

pub(crate) fn read_key_id(text: &str, shape: &TableShape) -> Result<KeyId, Error> {
    KeyId::read(text, shape.id_is_integer())
}
