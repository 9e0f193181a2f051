//! Prints every statement as it runs on the standard table, so that a person can EXPLAIN it.
//!
//!     tests/postgres.sh run -- cargo run -p agentkey --example sql [kind]
//!
//! With a kind, such as `ChargeMany`, only the statements of that kind.

use std::time::Duration;

use agentkey::engine::{Credential, Engine, Options, Request, StatementKind};
use agentkey::sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL, or run it by `make sql`")?;
    let wanted = std::env::args().nth(1);
    let mut connection = PgConnection::connect(&url).await?;
    // Nothing stays of the standard table.
    connection.execute("BEGIN; CREATE SCHEMA agentkey_sql; SET LOCAL search_path = agentkey_sql").await?;

    let mut engine = Engine::new(Options::default());
    engine.submit(Duration::ZERO, Request::Migrate)?;
    while let Some(statement) = engine.poll(Duration::ZERO) {
        connection.execute(AssertSqlSafe(statement.sql.to_string())).await?;
        engine.receive(Duration::ZERO, statement.id, Ok(&[]));
    }
    engine.submit(Duration::ZERO, Request::Validate(Credential::of_key("ak_nobody")))?;
    let catalogue = engine.poll(Duration::ZERO).ok_or("the engine asks for no catalogue")?;
    let query = agentkey::sqlx::query_scalar(AssertSqlSafe(catalogue.sql.to_string()));
    let query = catalogue.params.iter().fold(query, |query, param| query.bind(param.as_deref()));
    let rows: Vec<String> = query.fetch_all(&mut connection).await?;
    engine.receive(Duration::ZERO, catalogue.id, Ok(&rows));

    for (kind, column, sql) in engine.statements() {
        let name = format!("{kind:?}");
        if wanted.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        let by = column.map(|column| format!(", keys by {column}")).unwrap_or_default();
        println!("-- {name}{by}\n{sql};\n");
    }
    if wanted.is_none() {
        println!("-- {:?}\n{};", StatementKind::Catalogue, catalogue.sql);
    }
    connection.execute("ROLLBACK").await?;
    Ok(())
}
