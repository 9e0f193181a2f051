//! The migrations, in order. Each is one statement that changes only what is missing.

use std::sync::Arc;

use super::name::TableName;
use super::template::render_migration;

const MIGRATIONS: [&str; 6] = [
    include_str!("../../migrations/0001_keys.sql"),
    include_str!("../../migrations/0002_engine_columns.sql"),
    include_str!("../../migrations/0003_reservations.sql"),
    include_str!("../../migrations/0004_events.sql"),
    include_str!("../../migrations/0005_account_index.sql"),
    include_str!("../../migrations/0006_list_indexes.sql"),
];

/// The SQL of a step, or `None` after the last.
pub(crate) fn step(number: usize, table: &TableName) -> Option<Arc<str>> {
    MIGRATIONS.get(number).map(|template| render_migration(template, table))
}

/// The SQL of every step, in order, for people who run migrations themselves.
pub fn all(table: &TableName) -> Vec<Arc<str>> {
    MIGRATIONS.iter().map(|template| render_migration(template, table)).collect()
}

/// What a migration meets when another process was faster: it is tried again.
pub(crate) fn was_done_meanwhile(sqlstate: &str) -> bool {
    ["42P07", "23505", "42701", "42710"].contains(&sqlstate)
}
