//! Table names: validated, quoted, and the names derived from them.

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorCode, shortened};

/// Postgres cuts longer names off, so that two could become one.
const MAX_NAME_BYTES: usize = 63;

/// The user's keys table, `table` or `schema.table`. A part with other characters than letters, digits and
/// underscores is written in double quotes: `app."odd name"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    schema: Option<String>,
    name: String,
}

impl TableName {
    /// Reads a name. Names are taken as written: `Keys` is the table `"Keys"`.
    pub fn new(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::new(
                ErrorCode::InvalidTableName,
                format!("Invalid table name: {}; expected table or schema.table", shortened(text)),
            )
        };
        let (first, rest) = part(text).ok_or_else(invalid)?;
        let parts = match rest.strip_prefix('.') {
            None if rest.is_empty() => (None, first),
            Some(rest) => match part(rest) {
                Some((second, "")) => (Some(first), second),
                _ => return Err(invalid()),
            },
            None => return Err(invalid()),
        };
        Ok(TableName { schema: parts.0, name: parts.1 })
    }

    /// For use in SQL.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }

    /// The unquoted name, without the schema, of a table that belongs to this one.
    pub(crate) fn companion(&self, what: &str) -> String {
        format!("{}_{what}", self.stem(MAX_NAME_BYTES - what.len() - 1))
    }

    /// The name, cut to at most `bytes`; a cut name ends in a hash of the whole, so that it stays unique.
    pub(crate) fn stem(&self, bytes: usize) -> String {
        if self.name.len() <= bytes {
            return self.name.clone();
        }
        let hash = hex::encode(&Sha256::digest(self.name.as_bytes())[..4]);
        let mut end = bytes.saturating_sub(hash.len() + 1);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}_{hash}", &self.name[..end])
    }
}

impl Default for TableName {
    fn default() -> Self {
        TableName { schema: None, name: "sdk_api_keys".to_owned() }
    }
}

/// The first part of a dotted name, and what follows it.
fn part(text: &str) -> Option<(String, &str)> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(mut rest) => {
            let mut name = String::new();
            loop {
                let end = rest.find('"')?;
                name.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('"') {
                    Some(after) => {
                        name.push('"');
                        rest = after;
                    }
                    None => break (name, rest),
                }
            }
        }
        None => {
            let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
            if text.starts_with(|c: char| c.is_numeric()) {
                return None;
            }
            (text[..end].to_owned(), &text[end..])
        }
    };
    let legal = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains('\0');
    legal.then_some((name, rest))
}

/// An identifier, quoted.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
pub(crate) fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_quoted_as_written() {
        for (text, quoted) in [
            ("sdk_api_keys", r#""sdk_api_keys""#),
            ("app.Keys", r#""app"."Keys""#),
            ("clés", r#""clés""#),
            (r#"app."odd ""na%me""#, r#""app"."odd ""na%me""#),
            (r#""a.b""#, r#""a.b""#),
        ] {
            assert_eq!(TableName::new(text).map(|t| t.quoted()).unwrap(), quoted);
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "x".repeat(64);
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a.b.c",
            "a b",
            "a;DROP TABLE x",
            "a--",
            "a'b",
            "\"",
            "\"a",
            "\"\"",
            "\"a\"b",
            "a\0",
            "1a",
            "a\"b\"",
            "a/*",
            &long,
            &format!("\"{}\"", "é".repeat(32)),
            "a.\"b\".c",
            "\"a\0\"",
        ] {
            let error = TableName::new(bad).expect_err(bad);
            assert_eq!(error.code(), ErrorCode::InvalidTableName);
        }
    }

    #[test]
    fn companions_of_long_names_stay_apart() {
        assert_eq!(TableName::new("s.keys").unwrap().companion("events"), "keys_events");
        let one = TableName::new(&format!("{}1", "k".repeat(62))).unwrap();
        let two = TableName::new(&format!("{}2", "k".repeat(62))).unwrap();
        assert_ne!(one.companion("events"), two.companion("events"));
        assert_eq!(one.companion("reservations").len(), 63);
        assert!(TableName::new(&"é".repeat(31)).unwrap().stem(40).len() <= 40);
    }

    #[test]
    fn literals_survive_backslashes() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
    }

    proptest! {
        #[test]
        fn no_name_panics_and_an_accepted_one_reads_back(text in any::<String>()) {
            if let Ok(table) = TableName::new(&text) {
                prop_assert_eq!(TableName::new(&table.quoted()).unwrap(), table);
            }
        }
    }
}
