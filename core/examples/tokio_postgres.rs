//! A driver of the engine for another Postgres client: tokio-postgres, on one connection.
//!
//!     tests/postgres.sh run -- cargo run -p agentkey --example tokio_postgres
//!
//! It keeps the contract that the module `engine` states. A real one would use a pool and run statements side by side.

use std::sync::Arc;
use std::time::Instant;

use agentkey::engine::{Answer, Credential, Engine, Fault, Options, Request, Statement};
use agentkey::{Charge, CreateKey, Error};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

struct Driver {
    engine: Engine,
    client: Client,
    started: Instant,
}

impl Driver {
    /// Makes one request and waits for its answer.
    async fn call(&mut self, request: Request) -> Result<Answer, Error> {
        let ticket = self.engine.submit(self.started.elapsed(), request)?;
        loop {
            // A ticket gets exactly one answer, perhaps before any statement.
            if let Some((_, answer)) =
                self.engine.answers().into_iter().find(|(answered, _)| *answered == ticket)
            {
                return answer;
            }
            let now = self.started.elapsed();
            match self.engine.poll(now) {
                Some(statement) => {
                    let id = statement.id;
                    match self.run(statement).await {
                        Ok(rows) => self.engine.receive(self.started.elapsed(), id, Ok(&rows)),
                        Err(fault) => self.engine.receive(self.started.elapsed(), id, Err(fault)),
                    }
                }
                // It pauses before another attempt, or the caller's time is over.
                None => {
                    let wake = self.engine.next_retry().into_iter().chain(self.engine.next_deadline()).min();
                    if let Some(at) = wake {
                        tokio::time::sleep(at.saturating_sub(now)).await;
                    }
                    self.engine.expire(self.started.elapsed());
                }
            }
        }
    }

    /// Every parameter is text and every row one text column.
    async fn run(&self, statement: Statement) -> Result<Vec<String>, Fault> {
        let params: Vec<&(dyn ToSql + Sync)> = statement.params.iter().map(|p| p as _).collect();
        let rows = self.client.query(&*statement.sql, &params).await.map_err(fault)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// Says what is known. The engine classifies it; callers find the driver's own error as the source of theirs.
fn fault(error: tokio_postgres::Error) -> Fault {
    let fault = match error.code() {
        Some(code) => Fault::refused(code.code(), error.to_string()),
        None if error.is_closed() => Fault::not_sent(error.to_string()),
        None => Fault::lost(error.to_string()),
    };
    fault.with_source(Arc::new(error))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("CREATE TEMPORARY SEQUENCE agentkey_example; SET search_path = pg_temp").await?;
    let mut driver = Driver { engine: Engine::new(Options::default()), client, started: Instant::now() };

    driver.call(Request::Migrate).await?;
    let Answer::Created(created) =
        driver.call(Request::Create(CreateKey::new("acct_1").budget_cents(20))).await?
    else {
        return Err("no key was created".into());
    };
    for cents in [12, 12] {
        let credential = Credential::of_key(created.key.expose());
        match driver.call(Request::Charge(credential, Charge::new(cents))).await? {
            Answer::Charged(Ok(charged)) => {
                println!("{cents} cents recorded, {:?} remain", charged.budget_remaining_cents());
            }
            Answer::Charged(Err(refusal)) => println!("{cents} cents refused: {refusal}"),
            other => return Err(format!("an answer to another request: {other:?}").into()),
        }
    }
    Ok(())
}
