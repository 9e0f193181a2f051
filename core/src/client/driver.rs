//! Runs the engine's statements on the pool and wakes the callers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnection, PgPool};
use sqlx::query::QueryScalar;
use sqlx::{AssertSqlSafe, Connection, Postgres};
use tokio::sync::{Notify, oneshot};

use super::{Transport, statement_timeout};
use crate::engine::{Engine, Stats, Ticket};
use crate::error::{Error, ErrorCode};
use crate::options::Options;
use crate::request::{Answer, Outcome, Request};
use crate::statement::{Fault, Statement, StatementId};

type DriverError = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(super) struct Driver {
    pool: PgPool,
    owns_pool: bool,
    transport: Transport,
    options: Options,
    started: Instant,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    engine: Engine,
    callers: HashMap<Ticket, oneshot::Sender<Answer>>,
}

impl Driver {
    pub(super) fn new(options: Options, pool: PgPool, owns_pool: bool, transport: Transport) -> Self {
        let state = State { engine: Engine::new(options.clone()), callers: HashMap::new() };
        Driver {
            pool,
            owns_pool,
            transport,
            options,
            started: Instant::now(),
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) fn stats(&self) -> Stats {
        self.state().engine.stats()
    }

    /// Submits a request and waits for its answer. A caller that stops waiting cancels its request if it is not sent
    /// yet; the answers of others are not affected, as statements run in tasks of their own.
    pub(super) async fn call(this: &Arc<Self>, request: Request) -> Result<Outcome, Error> {
        let has_deadline = !matches!(request, Request::Migrate);
        let (sender, mut receiver) = oneshot::channel();
        let (ticket, statements) = {
            let mut state = this.state();
            let ticket = state.engine.submit(this.now(), request)?;
            state.callers.insert(ticket, sender);
            (ticket, this.advance(&mut state))
        };
        let _cancel = CancelOnDrop { driver: this, ticket };
        Self::spawn(this, statements);
        let lost = || Error::new(ErrorCode::Closed, "the client stopped before it answered");
        if !has_deadline {
            return (&mut receiver).await.unwrap_or_else(|_| Err(lost()));
        }
        match tokio::time::timeout(this.options.timeout, &mut receiver).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
            Err(_) => {
                let statements = {
                    let mut state = this.state();
                    state.engine.expire(this.now());
                    this.advance(&mut state)
                };
                Self::spawn(this, statements);
                receiver.await.unwrap_or_else(|_| Err(lost()))
            }
        }
    }

    pub(super) async fn close(&self) {
        self.state().engine.close();
        loop {
            let changed = self.changed.notified();
            if self.state().engine.is_idle() {
                break;
            }
            changed.await;
        }
        if self.owns_pool {
            self.pool.close().await;
        }
    }

    /// Takes the statements that may be sent, and gives ready answers to their callers.
    fn advance(&self, state: &mut State) -> Vec<Statement> {
        let now = self.now();
        let mut statements = Vec::new();
        while let Some(statement) = state.engine.poll(now) {
            statements.push(statement);
        }
        deliver(state, None);
        statements
    }

    fn spawn(this: &Arc<Self>, statements: Vec<Statement>) {
        for statement in statements {
            let unfinished = Unfinished { driver: Arc::clone(this), id: Some(statement.id) };
            tokio::spawn(async move {
                let result = unfinished.driver.run(statement).await;
                unfinished.finish(result);
            });
        }
    }

    fn receive(this: &Arc<Self>, id: StatementId, result: Result<Vec<String>, (Fault, Option<DriverError>)>) {
        let (statements, wakeup) = {
            let mut state = this.state();
            let now = this.now();
            match result {
                Ok(rows) => {
                    state.engine.receive(now, id, Ok(&rows));
                    deliver(&mut state, None);
                }
                Err((fault, source)) => {
                    state.engine.receive(now, id, Err(fault));
                    deliver(&mut state, source.as_ref());
                }
            }
            let statements = this.advance(&mut state);
            // Only a retry waits for a time; the end of a caller's time is watched by the caller.
            let wakeup = state.engine.next_retry().map(|at| at.saturating_sub(now));
            (statements, wakeup)
        };
        Self::spawn(this, statements);
        this.changed.notify_waiters();
        if let Some(delay) = wakeup {
            let this = Arc::clone(this);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let statements = this.advance(&mut this.state());
                Self::spawn(&this, statements);
            });
        }
    }

    async fn run(&self, statement: Statement) -> Result<Vec<String>, (Fault, Option<DriverError>)> {
        let has_deadline = statement.kind != crate::StatementKind::Migrate;
        let mut connection = self.pool.acquire().await.map_err(fault)?;
        let running = async {
            match self.transport {
                Transport::Prepared => query(&statement).fetch_all(&mut *connection).await,
                Transport::Pooler => in_transaction(&mut connection, &statement).await,
            }
        };
        if !has_deadline {
            return running.await.map_err(fault);
        }
        match tokio::time::timeout(statement_timeout(self.options.timeout), running).await {
            Ok(result) => result.map_err(fault),
            Err(_) => {
                // Its answer may still be on the way: nobody else may use this connection.
                drop(connection.detach());
                Err((Fault { sqlstate: None, message: "the database did not answer in time".to_owned() }, None))
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The engine does not panic; if it ever did, its answers would still be better than a panic in every caller.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn deliver(state: &mut State, source: Option<&DriverError>) {
    for (ticket, mut answer) in state.engine.answers() {
        if let (Err(error), Some(source)) = (&answer, source)
            && error.code() == ErrorCode::Database
        {
            answer = Err(error.clone().with_source(Arc::clone(source)));
        }
        if let Some(caller) = state.callers.remove(&ticket) {
            // A caller that is gone needs no answer.
            let _ = caller.send(answer);
        }
    }
}

fn query(statement: &Statement) -> QueryScalar<'_, Postgres, String, PgArguments> {
    let sql = AssertSqlSafe(Arc::clone(&statement.sql));
    let persistent = !matches!(statement.kind, crate::StatementKind::Migrate | crate::StatementKind::Catalogue);
    let query = sqlx::query_scalar(sql).persistent(persistent);
    statement.params.iter().fold(query, |query, param| query.bind(param.as_deref()))
}

async fn in_transaction(connection: &mut PgConnection, statement: &Statement) -> Result<Vec<String>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let rows = query(statement).persistent(false).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(rows)
}

fn fault(error: sqlx::Error) -> (Fault, Option<DriverError>) {
    let sqlstate = error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned());
    (Fault { sqlstate, message: error.to_string() }, Some(Arc::new(error)))
}

/// Reports a statement whose task ended without an answer (its runtime shut down), so that no caller waits for ever.
struct Unfinished {
    driver: Arc<Driver>,
    id: Option<StatementId>,
}

impl Unfinished {
    fn finish(mut self, result: Result<Vec<String>, (Fault, Option<DriverError>)>) {
        if let Some(id) = self.id.take() {
            Driver::receive(&self.driver, id, result);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let fault = Fault { sqlstate: None, message: "the runtime stopped while the statement ran".to_owned() };
            let mut state = self.driver.state();
            let now = self.driver.now();
            state.engine.receive(now, id, Err(fault));
            // No task can be spawned here; whoever calls next sends what waits.
            deliver(&mut state, None);
        }
    }
}

/// Tells the engine of a caller that is gone.
struct CancelOnDrop<'d> {
    driver: &'d Arc<Driver>,
    ticket: Ticket,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let mut state = self.driver.state();
        if state.callers.remove(&self.ticket).is_some() {
            state.engine.cancel(self.ticket);
        }
    }
}
