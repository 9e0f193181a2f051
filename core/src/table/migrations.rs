//! The migrations, in order. Each is one statement that changes only what is missing.

use std::sync::Arc;

use super::name::{TableName, quote, quote_literal};
use super::shape::COMPANIONS;

const MIGRATIONS: [&str; 9] = [
    include_str!("../../migrations/0001_keys.sql"),
    include_str!("../../migrations/0002_engine_columns.sql"),
    include_str!("../../migrations/0003_reservations.sql"),
    include_str!("../../migrations/0004_events.sql"),
    include_str!("../../migrations/0005_account_index.sql"),
    include_str!("../../migrations/0006_list_indexes.sql"),
    include_str!("../../migrations/0007_increases.sql"),
    include_str!("../../migrations/0008_outbox.sql"),
    include_str!("../../migrations/0009_signups.sql"),
];

/// The SQL of a step, or `None` after the last.
pub(crate) fn step(number: usize, table: &TableName) -> Option<Arc<str>> {
    MIGRATIONS.get(number).map(|template| render(template, table))
}

/// The SQL of every step, in order, for people who run migrations themselves.
pub fn all(table: &TableName) -> Vec<Arc<str>> {
    MIGRATIONS.iter().map(|template| render(template, table)).collect()
}

/// What a migration meets when another process was faster: it is tried again.
pub(crate) fn was_done_meanwhile(sqlstate: &str) -> bool {
    ["42P07", "23505", "42701", "42710"].contains(&sqlstate)
}

/// A migration's text for one table.
fn render(template: &str, table: &TableName) -> Arc<str> {
    let quoted = table.quoted();
    // The name stands inside a dollar-quoted block: no name may end that block.
    let mut tag = "$agentkey$".to_owned();
    while quoted.contains(&tag) {
        tag.insert(tag.len() - 1, '_');
    }
    let mut sql = String::with_capacity(template.len() * 2);
    let [reservations, events, requests, deliveries, signups] =
        COMPANIONS.map(|(_, name)| table.companion(name));
    let values = [
        ("$agentkey$", tag),
        ("{table_literal}", quote_literal(&quoted)),
        ("{table}", quoted),
        ("{reservations_literal}", quote_literal(&reservations)),
        ("{reservations}", quote(&reservations)),
        ("{events_literal}", quote_literal(&events)),
        ("{events}", quote(&events)),
        ("{requests_literal}", quote_literal(&requests)),
        ("{deliveries_literal}", quote_literal(&deliveries)),
        ("{signups_literal}", quote_literal(&signups)),
        ("{index_stem_literal}", quote_literal(&table.stem(40))),
    ];
    // One pass, so that no replacement is replaced again.
    let mut rest = template;
    while let Some((at, mark, value)) = values
        .iter()
        .filter_map(|(mark, value)| rest.find(mark).map(|at| (at, mark, value)))
        .min_by_key(|(at, ..)| *at)
    {
        sql.push_str(&rest[..at]);
        sql.push_str(value);
        rest = &rest[at + mark.len()..];
    }
    sql.push_str(rest);
    Arc::from(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_a_migrations_block() {
        let table = TableName::new("\"a$agentkey$ {events}\"").unwrap();
        let sql = render("DO $agentkey$ {table} $agentkey$;", &table);
        assert_eq!(&*sql, "DO $agentkey_$ \"a$agentkey$ {events}\" $agentkey_$;");
    }
}
