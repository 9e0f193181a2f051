//! What may be wrong with the database, the table and its rows: statements that only read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::admin::Plan;
use crate::error::Error;
use crate::table::literal::text_array;
use crate::table::name::TableName;
use crate::table::shape::{
    BASE_COLUMNS, COMPANIONS, LIMITING_COLUMNS, OPTIONAL_COLUMNS, OWN_COLUMNS, TableShape,
};
use crate::table::template::{DIAGNOSE_DATABASE, StatementKind, Statements};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the database and what is in it")]
pub enum Diagnosis {
    /// The server, the session and the schema, whatever the table lacks.
    Database,
    /// The rows of the table and of its companions. Reads them all.
    Keys,
}

/// Something that is wrong, or a fact about the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Finding {
    /// What was looked for: a stable name.
    pub check: String,
    /// What it was found on: a column, an index, a role, ids of keys.
    pub subject: Option<String>,
    /// What is there.
    pub found: String,
    /// A statement that puts it right, where there is one.
    pub fix: Option<String>,
}

impl Diagnosis {
    /// The question about the database needs no catalogue: it is the one that works where nothing else does.
    pub(super) fn of_database(table: &TableName) -> Plan {
        let others = OPTIONAL_COLUMNS.iter().map(|(column, _)| *column);
        let others =
            others.filter(|column| !LIMITING_COLUMNS.contains(column) && !OWN_COLUMNS.contains(column));
        let mut params = vec![table.quoted()];
        params.extend(COMPANIONS.map(|(_, name)| table.companion(name)));
        params
            .extend([BASE_COLUMNS, LIMITING_COLUMNS, OWN_COLUMNS].map(|columns| text_array(columns.iter())));
        params.push(text_array(others));
        let params = params.into_iter().map(Some).collect();
        Plan::Send(StatementKind::DiagnoseDatabase, Arc::from(DIAGNOSE_DATABASE), params)
    }

    pub(super) fn of_keys(statements: &Statements) -> Result<Plan, Error> {
        let shape: &TableShape = &statements.shape;
        shape.require(super::spends::NEEDED)?;
        Ok(Plan::Send(StatementKind::DiagnoseKeys, statements.sql(StatementKind::DiagnoseKeys), Vec::new()))
    }
}
