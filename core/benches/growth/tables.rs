//! Tables as the migrations make them, with very many rows.

use agentkey::AgentKey;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::{Bench, Result};

/// Columns of a key, as SQL on its number `n`.
#[derive(Debug, Clone, Copy)]
pub struct KeyColumns<'c> {
    pub budget_cents: &'c str,
    pub used_cents: &'c str,
    pub parent: &'c str,
    pub has_children: &'c str,
    pub metadata: &'c str,
}

impl Default for KeyColumns<'_> {
    fn default() -> Self {
        KeyColumns {
            // More than any bench spends.
            budget_cents: "1000000000000",
            used_cents: "0",
            parent: "NULL",
            has_children: "false",
            metadata: "NULL",
        }
    }
}

/// The raw key of a number.
pub fn raw_key(n: i64) -> String {
    format!("ak_{n}")
}

/// A table with the keys 1 to `count`. Periods are none, so that none ends.
pub async fn keys(bench: &Bench, name: &str, count: i64, columns: KeyColumns<'_>) -> Result<()> {
    eprintln!("making {count} keys ...");
    let ak = AgentKey::builder().table_name(name).connect(&bench.database.url).await?;
    ak.migrate().await?;
    ak.close().await;
    let KeyColumns { budget_cents, used_cents, parent, has_children, metadata } = columns;
    let insert = format!(
        "INSERT INTO {name} (id, key_hash, key_prefix, name, account_id, scopes, budget_cents, budget_used_cents, expires_at,
            delegated_by, last_used_at, parent_id, ancestor_ids, has_children, metadata)
        SELECT n, encode(sha256(('ak_' || n)::bytea), 'hex'), 'ak_' || n, 'default', 'acct_' || n / 100, '{{read,write}}',
            {budget_cents}, {used_cents}, now() + interval '30 days', 'human_' || n % 10000, now(),
            p.parent, CASE WHEN p.parent IS NOT NULL THEN ARRAY[p.parent] END, {has_children}, {metadata}
        FROM generate_series(1::bigint, {count}) n, LATERAL (SELECT ({parent})::bigint AS parent) p"
    );
    fill(bench, name, &insert).await?;
    bench.database.run(&format!("SELECT setval(pg_get_serial_sequence('{name}', 'id'), {count})")).await
}

/// Fills an empty table. Its indexes come last: that is minutes faster.
pub async fn fill(bench: &Bench, name: &str, insert: &str) -> Result<()> {
    let mut db = PgConnection::connect(&bench.database.url).await?;
    let indexes = format!(
        "SELECT c.relname::text, pg_get_indexdef(i.indexrelid), q.conname::text
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_constraint q ON q.conindid = i.indexrelid
        WHERE i.indrelid = '{name}'::regclass"
    );
    let rows = db.fetch_all(AssertSqlSafe(indexes)).await?;
    let mut definitions = vec!["SET maintenance_work_mem = '512MB'".to_owned()];
    for row in &rows {
        let (index, definition): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        definitions.push(definition);
        match row.try_get::<Option<String>, _>(2)? {
            Some(constraint) => {
                run(&mut db, &format!("ALTER TABLE {name} DROP CONSTRAINT {constraint}")).await?
            }
            None => run(&mut db, &format!("DROP INDEX {index}")).await?,
        }
    }
    run(&mut db, insert).await?;
    for definition in &definitions {
        run(&mut db, definition).await?;
    }
    run(&mut db, &format!("VACUUM ANALYZE {name}")).await?;
    Ok(db.close().await?)
}

/// A table and its companions go.
pub async fn drop(bench: &Bench, name: &str) -> Result<()> {
    let companions = ["", "_reservations", "_events", "_requests", "_deliveries"];
    let names = companions.map(|companion| format!("{name}{companion}")).join(", ");
    bench.database.run(&format!("DROP TABLE {names} CASCADE")).await
}

/// Bytes of a table and of its indexes.
pub async fn sizes(bench: &Bench, name: &str) -> Result<(i64, i64)> {
    let of = async |function: &str| -> Result<i64> {
        Ok(bench.database.text(&format!("SELECT {function}('{name}')")).await?.parse()?)
    };
    Ok((of("pg_table_size").await?, of("pg_indexes_size").await?))
}

async fn run(db: &mut PgConnection, sql: &str) -> Result<()> {
    db.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
    Ok(())
}
