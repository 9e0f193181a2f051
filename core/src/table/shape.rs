//! The shape of the user's table, as the catalogue describes it.

use std::collections::BTreeMap;

use super::literal::parse_row;
use super::name::TableName;
use crate::budget::money::MAX_CENTS;
use crate::error::{Error, ErrorCode, shortened};

/// An index row holds about 2,700 bytes. Longer texts cannot be looked up.
pub(crate) const MAX_INDEXED_BYTES: usize = 2_000;

/// Columns without which there is no keys table.
pub(crate) const BASE_COLUMNS: &[&str] = &["id", "account_id", "key_hash", "key_prefix"];

/// Columns that statements read, and the type that a missing one is read as NULL of.
pub(crate) const OPTIONAL_COLUMNS: &[(&str, &str)] = &[
    ("name", "text"),
    ("last_used_at", "timestamptz"),
    ("created_at", "timestamptz"),
    ("user_id", "text"),
    ("scopes", "text"),
    ("budget_cents", "bigint"),
    ("budget_used_cents", "bigint"),
    ("budget_period", "text"),
    ("budget_reset_at", "timestamptz"),
    ("expires_at", "timestamptz"),
    ("delegated_by", "text"),
    ("external_subject", "text"),
    ("budget_reserved_cents", "bigint"),
    ("budget_reserved_microcents", "integer"),
    ("budget_used_microcents", "integer"),
    ("budget_microcents_reset_at", "timestamptz"),
    ("budget_anchor_at", "timestamptz"),
    ("disabled_at", "timestamptz"),
    ("parent_id", "text"),
    ("ancestor_ids", "text[]"),
    ("metadata", "jsonb"),
    ("when_exceeded", "text"),
    ("has_children", "boolean"),
    ("budget_boost_cents", "bigint"),
    ("budget_boost_until", "timestamptz"),
];

/// Columns of the original without which a key might do more than it may.
pub(crate) const LIMITING_COLUMNS: &[&str] = &[
    "scopes",
    "budget_cents",
    "budget_used_cents",
    "budget_period",
    "budget_reset_at",
    "expires_at",
    "revoked_at",
];

/// Those of our own. They are all there, or the table was never migrated.
pub(crate) const OWN_COLUMNS: &[&str] = &[
    "budget_reserved_cents",
    "budget_reserved_microcents",
    "budget_used_microcents",
    "budget_microcents_reset_at",
    "budget_anchor_at",
    "disabled_at",
    "parent_id",
    "ancestor_ids",
];

/// What keeps the secret that a key had before it was rotated. Where a part of it is missing, no such secret counts.
pub(crate) const ROTATION: &[&str] = &["prev_key_hash", "prev_key_expires_at"];

/// What limits of keys need: rows of their own, in the chains of their keys.
pub(crate) const LIMITS: &[&str] = &["when_exceeded", "has_children"];

/// What raises a key's budget for a while. Where a part of it is missing, none is raised.
pub(crate) const INCREASES: &[&str] = &["budget_boost_cents", "budget_boost_until", "+events", "+requests"];

/// The tables beside the keys table: the mark by which a shape knows them, and what their names end in.
pub(crate) const COMPANIONS: [(&str, &str); 5] = [
    ("+reservations", "reservations"),
    ("+events", "events"),
    ("+requests", "requests"),
    (ALARMS, "deliveries"),
    (SIGNUPS, "signups"),
];

/// How values of a column are written and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    SmallInteger,
    Integer,
    BigInteger,
    Uuid,
    /// VARCHAR(n) and CHAR(n): a cast would cut longer text off, silently.
    Bounded(usize),
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    sql_type: String,
    kind: ColumnKind,
    not_null: bool,
}

/// The mark of a ledger that alarms can be written into: one migration makes it so, and the table of their deliveries.
pub(crate) const ALARMS: &str = "+deliveries";

/// The mark of the table that counts signups for all processes.
pub(crate) const SIGNUPS: &str = "+signups";

/// A table's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableShape {
    /// The companion tables are among them: their type is their qualified name.
    columns: BTreeMap<String, Column>,
    companions: [String; 5],
    /// How the client reads scopes: whether `files:*` is a wildcard.
    pub(crate) wildcards: bool,
}

impl TableShape {
    /// Reads the answer of `catalogue.sql`. A table that lacks a column that limits keys is no table to go on with:
    /// `was_migrated` if ours have been seen there.
    pub(crate) fn read(table: &TableName, rows: &[String], was_migrated: bool) -> Result<Self, Error> {
        let mut columns = BTreeMap::new();
        for row in rows {
            let fields = parse_row(row).filter(|f| f.len() == 4);
            let Some([Some(name), Some(sql_type), Some(base_type), Some(not_null)]) = fields.as_deref()
            else {
                return Err(Error::unexpected("a column's description"));
            };
            let kind = match base_type.as_ref() {
                "smallint" => ColumnKind::SmallInteger,
                "integer" => ColumnKind::Integer,
                "bigint" => ColumnKind::BigInteger,
                "uuid" => ColumnKind::Uuid,
                other => bound(other).map_or(ColumnKind::Other, ColumnKind::Bounded),
            };
            columns.insert(
                name.to_string(),
                Column { sql_type: sql_type.to_string(), kind, not_null: not_null == "t" },
            );
        }
        if columns.is_empty() {
            return Err(Error::migration_required(format_args!("there is no table {}", table.quoted())));
        }
        let companions = COMPANIONS.map(|(_, name)| table.companion(name));
        let shape = TableShape { columns, companions, wildcards: false };
        let mut needed = BASE_COLUMNS.to_vec();
        needed.extend(LIMITING_COLUMNS);
        if was_migrated || shape.is_migrated() {
            needed.extend(OWN_COLUMNS);
        }
        shape.require(&needed)?;
        Ok(shape)
    }

    /// Whether there is anything of ours.
    pub(crate) fn is_migrated(&self) -> bool {
        let companions = COMPANIONS.iter().map(|(mark, _)| mark);
        OWN_COLUMNS.iter().chain(companions).any(|column| self.has(column))
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Whether nothing is left for a migration to add.
    pub(crate) fn is_complete(&self) -> bool {
        let companions = COMPANIONS.iter().map(|(mark, _)| mark);
        let optional = OPTIONAL_COLUMNS.iter().map(|(column, _)| column);
        optional.chain(companions).all(|column| self.has(column))
    }

    /// A clear error naming those of `needed` that the table lacks.
    pub(crate) fn require(&self, needed: &[&str]) -> Result<(), Error> {
        let missing: Vec<&str> = needed.iter().copied().filter(|c| !self.has(c)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (tables, columns): (Vec<&str>, Vec<&str>) = missing.into_iter().partition(|c| c.starts_with('+'));
        let names = COMPANIONS.iter().zip(&self.companions).filter(|((mark, _), _)| tables.contains(mark));
        let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
        let mut lacks = Vec::new();
        if !columns.is_empty() {
            lacks.push(format!("the table lacks {}", columns.join(", ")));
        }
        if !names.is_empty() {
            lacks.push(format!("there is no table {}", names.join(" and no table ")));
        }
        Err(Error::migration_required(lacks.join("; ")))
    }

    /// A column's type, or a companion's qualified name.
    pub(crate) fn sql_type(&self, column: &str) -> &str {
        self.columns.get(column).map_or("text", |c| c.sql_type.as_str())
    }

    fn kind(&self, column: &str) -> ColumnKind {
        self.columns.get(column).map_or(ColumnKind::Other, |c| c.kind)
    }

    /// Whether ids are shown as numbers.
    pub(crate) fn id_is_integer(&self) -> bool {
        matches!(self.kind("id"), ColumnKind::SmallInteger | ColumnKind::Integer | ColumnKind::BigInteger)
    }

    /// Whether account ids are shown as numbers. BIGINT ones are text, as node-postgres gives them.
    pub(crate) fn account_is_integer(&self) -> bool {
        matches!(self.kind("account_id"), ColumnKind::SmallInteger | ColumnKind::Integer)
    }

    pub(crate) fn account_required(&self) -> bool {
        self.columns.get("account_id").is_some_and(|c| c.not_null)
    }

    /// Whether the `id` column can hold `text`: if not, no key has that id.
    pub(crate) fn fits_id(&self, text: &str) -> bool {
        fits(self.kind("id"), text)
    }

    /// Whether the `account_id` column can hold `text`.
    pub(crate) fn fits_account(&self, text: &str) -> bool {
        fits(self.kind("account_id"), text)
    }

    /// Whether keys can have metadata: an application's own column of that name may be of another type.
    pub(crate) fn keeps_metadata(&self) -> bool {
        self.columns.get("metadata").is_some_and(|column| column.sql_type == "jsonb")
    }

    /// Refuses what needs metadata where keys can have none.
    pub(crate) fn require_metadata(&self) -> Result<(), Error> {
        self.require(&["metadata"])?;
        match self.keeps_metadata() {
            true => Ok(()),
            false => {
                let sql_type = self.sql_type("metadata");
                Err(Error::migration_required(format_args!("the column metadata is {sql_type}, not jsonb")))
            }
        }
    }

    /// Whether an index knows who has a scope. A table whose newest companion is there was migrated with it; of another one a
    /// list looks at some keys at a time.
    pub(crate) fn has_scopes_index(&self) -> bool {
        self.sql_type("scopes") == "text[]" && self.has(SIGNUPS)
    }

    /// Whether SQL can look for a scope.
    pub(crate) fn scopes_can_be_searched(&self) -> bool {
        let sql_type = self.sql_type("scopes");
        sql_type.ends_with("[]") || sql_type.starts_with("json")
    }

    /// Scopes as the column takes them: an array literal, unless it is JSON.
    pub(crate) fn scopes_parameter(&self, scopes: &[String]) -> String {
        if self.columns.get("scopes").is_some_and(|c| c.sql_type.starts_with("json")) {
            return serde_json::Value::from(scopes).to_string();
        }
        super::literal::text_array(scopes)
    }

    /// The most cents that the budget columns can hold. It limits keys without a budget, too.
    pub(crate) fn max_cents(&self) -> i64 {
        ["budget_cents", "budget_used_cents"].iter().map(|c| self.column_max(c)).min().unwrap_or(MAX_CENTS)
    }

    fn column_max(&self, column: &str) -> i64 {
        match self.kind(column) {
            ColumnKind::SmallInteger => i64::from(i16::MAX),
            ColumnKind::Integer => i64::from(i32::MAX),
            _ => MAX_CENTS,
        }
    }
}

/// The n of `character varying(n)` or `character(n)`.
fn bound(base_type: &str) -> Option<usize> {
    base_type.strip_prefix("character")?.split_once('(')?.1.strip_suffix(')')?.parse().ok()
}

fn fits(kind: ColumnKind, text: &str) -> bool {
    // Postgres reads more forms (blanks, +1, braces); only the form that it writes names an id.
    let canonical = |ok: bool, printed: Option<String>| ok && printed.as_deref() == Some(text);
    match kind {
        ColumnKind::SmallInteger => canonical(true, text.parse::<i16>().ok().map(|n| n.to_string())),
        ColumnKind::Integer => canonical(true, text.parse::<i32>().ok().map(|n| n.to_string())),
        ColumnKind::BigInteger => canonical(true, text.parse::<i64>().ok().map(|n| n.to_string())),
        ColumnKind::Uuid => {
            text.len() == 36
                && text.bytes().enumerate().all(|(i, b)| match i {
                    8 | 13 | 18 | 23 => b == b'-',
                    _ => b.is_ascii_hexdigit(),
                })
        }
        ColumnKind::Bounded(length) => !text.contains('\0') && text.chars().count() <= length,
        ColumnKind::Other => !text.contains('\0') && text.len() <= MAX_INDEXED_BYTES,
    }
}

/// The error for an account id that the column cannot hold.
pub(crate) fn invalid_account(text: &str, shape: &TableShape) -> Error {
    let sql_type = shape.sql_type("account_id");
    Error::new(
        ErrorCode::InvalidAccountId,
        format!("Invalid account id: {} does not fit account_id, which is {sql_type}", shortened(text)),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn type_of(column: &str) -> &'static str {
        OPTIONAL_COLUMNS
            .iter()
            .find(|(name, _)| *name == column)
            .map_or("timestamptz", |(_, sql_type)| sql_type)
    }

    pub(crate) fn shape(columns: &[(&str, &str)]) -> TableShape {
        let base = [("id", "integer"), ("account_id", "text"), ("key_hash", "text"), ("key_prefix", "text")];
        let limiting = LIMITING_COLUMNS.iter().filter(|name| columns.iter().all(|(other, _)| other != *name));
        let limiting = limiting.map(|name| (*name, type_of(name)));
        let columns = base.into_iter().chain(limiting).chain(columns.iter().copied());
        let rows: Vec<String> = columns.map(|(name, t)| format!("({name},\"{t}\",\"{t}\",f)")).collect();
        TableShape::read(&TableName::default(), &rows, false).unwrap()
    }

    #[test]
    fn a_table_without_the_contracts_own_columns_is_refused_by_name() {
        let error = TableShape::read(&TableName::default(), &["(id,integer,integer,t)".to_owned()], false)
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::MigrationRequired);
        assert!(
            error.message().contains("account_id, key_hash, key_prefix, scopes, budget_cents"),
            "{error}"
        );
        let error = TableShape::read(&TableName::default(), &[], false).unwrap_err();
        assert!(error.message().contains("there is no table \"sdk_api_keys\""), "{error}");
    }

    #[test]
    fn ids_are_taken_only_as_postgres_writes_them() {
        let integer = shape(&[]);
        assert!(integer.fits_id("52") && integer.fits_id("-1"));
        for bad in ["52abc", "", "5 ", "+5", "5.0", "2147483648", "0x5", "٥"] {
            assert!(!integer.fits_id(bad), "{bad}");
        }
        assert!(fits(ColumnKind::Uuid, "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f"));
        for bad in [
            "",
            "0b9c2f0e3d2b4a539f0e2f6a1c3d4e5f",
            "{0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f}",
            "zb9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f",
        ] {
            assert!(!fits(ColumnKind::Uuid, bad), "{bad}");
        }
        assert!(fits(ColumnKind::Other, "anything") && !fits(ColumnKind::Other, "a\0"));
    }
}
