//! What reads the rows of statements and writes their parameters, a file for each family of statements.
//!
//! A row is one composite literal. The order of its fields is declared once, in the SQL file that writes it, and read
//! once, here.

mod ancestors;
pub(crate) mod charged;
pub(crate) mod ended;
pub(crate) mod explained;
pub(crate) mod increases;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod lookup;
pub(crate) mod new_row;
pub(crate) mod record;
pub(crate) mod refunded;
pub(crate) mod scopes;
pub(crate) mod spent;
pub(crate) mod time;
pub(crate) mod version;

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::{Error, shortened};
use crate::id::KeyId;
pub(crate) use crate::table::literal::Field;
use crate::table::literal::{parse_fields, parse_row};
use crate::table::shape::TableShape;

/// The fields of a row, which must be so many.
pub(crate) fn fields<'r, const N: usize>(row: &'r str, what: &str) -> Result<[Field<'r>; N], Error> {
    match parse_fields(row) {
        Some((fields, count)) if count == N => Ok(fields),
        Some((_, count)) => Err(Error::unexpected(format_args!("{what} of {count} columns in place of {N}"))),
        None => Err(Error::unexpected(what)),
    }
}

pub(crate) fn is_true(field: &Field<'_>) -> bool {
    field.as_deref() == Some("t")
}

pub(crate) fn integer(field: &Field<'_>, column: &str) -> Result<Option<i64>, Error> {
    let read = |text: &str| text.parse().map_err(|_| unreadable(column, "no whole number of 64 bits", text));
    field.as_deref().map(read).transpose()
}

/// The error of a value that cannot be read. It fails the requests that need its row, and no others.
pub(crate) fn unreadable(column: &str, what: &str, value: &str) -> Error {
    Error::unexpected(format_args!("the value of {column} is {what}: {}", shortened(value)))
}

/// The place in the batch, from 0. Ordinals count from 1.
pub(crate) fn place(field: &Field<'_>) -> Result<usize, Error> {
    field
        .as_deref()
        .and_then(|text| text.parse::<usize>().ok()?.checked_sub(1))
        .ok_or_else(|| Error::unexpected("a row without its place in the batch"))
}

/// The rows of a statement that could not be read.
#[derive(Default)]
pub(crate) struct Unread {
    places: HashMap<usize, Error>,
    /// Of a row that does not say whose it is.
    others: Option<Error>,
}

impl Unread {
    /// `is_open`: whether a place of the batch has no row yet.
    pub(crate) fn note(&mut self, row: &str, error: Error, is_open: impl Fn(usize) -> bool) {
        let of = parse_row(row).and_then(|fields| place(fields.first()?).ok());
        match of.filter(|place| is_open(*place)) {
            Some(place) => _ = self.places.insert(place, error),
            None => self.note_unknown(error),
        }
    }

    /// A row of nobody: whoever has no row may have been meant.
    pub(crate) fn note_unknown(&mut self, error: Error) {
        self.others = Some(error);
    }

    /// Why there is no row for a place; `None` if the statement answered none.
    pub(crate) fn error_at(&self, place: usize) -> Option<&Error> {
        self.places.get(&place).or(self.others.as_ref())
    }
}

/// The only field of a row.
pub(crate) fn only_field(row: &str) -> Option<Cow<'_, str>> {
    fields::<1>(row, "a row").ok()?.into_iter().next()?
}

pub(crate) fn read_key_id(text: &str, shape: &TableShape) -> Result<KeyId, Error> {
    KeyId::read(text, shape.id_is_integer())
}
