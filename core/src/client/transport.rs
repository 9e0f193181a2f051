//! How statements travel, and why they did not.

use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::QueryScalar;
use sqlx::{AssertSqlSafe, Connection};

use crate::engine::{Fault, Statement};

pub(super) fn query(statement: &Statement) -> QueryScalar<'_, Postgres, String, PgArguments> {
    let sql = AssertSqlSafe(Arc::clone(&statement.sql));
    let query = sqlx::query_scalar(sql).persistent(statement.is_repeated());
    statement.params.iter().fold(query, |query, param| query.bind(param.as_deref()))
}

/// In a transaction of its own, prepared for it alone: right behind a pooler in transaction mode, which may change servers
/// between two round trips of one statement.
pub(super) async fn in_transaction(
    connection: &mut PgConnection,
    statement: &Statement,
) -> Result<Vec<String>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let rows = query(statement).persistent(false).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(rows)
}

pub(super) fn sqlstate_of(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// No connection was to be had.
pub(super) fn not_sent(error: sqlx::Error) -> Fault {
    let message = match &error {
        sqlx::Error::Io(cause) => cause.to_string(),
        other => other.to_string(),
    };
    let fault = Fault::not_sent(message).with_sqlstate(sqlstate_of(&error));
    fault.with_source(Arc::new(error))
}

/// The statement may have been sent.
pub(super) fn failed(error: sqlx::Error) -> Fault {
    let fault = match sqlstate_of(&error) {
        Some(sqlstate) => Fault::refused(sqlstate, error.to_string()),
        None => Fault::lost(error.to_string()),
    };
    fault.with_source(Arc::new(error))
}
