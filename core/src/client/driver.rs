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
/// What a statement answered, or why it did not, with the driver's own error.
type StatementResult = Result<Vec<String>, (Fault, Option<DriverError>)>;
/// Answers to one sink, with their tokens.
type SinkBatch = (Arc<dyn Sink>, Vec<(u64, Answer)>);

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
    callers: HashMap<Ticket, Caller>,
    /// Whether a task ends the waiting of callers that do not watch their own time.
    has_watcher: bool,
}

/// Takes answers as they come, a batch at a time. For bindings to a runtime of another language, which would rather be
/// woken once a batch than once a call.
pub trait Sink: Send + Sync {
    /// Takes answers, each with the token of its request. Called from a task of the runtime; must not block.
    fn deliver(&self, answers: Vec<(u64, Answer)>);
}

enum Caller {
    Future(oneshot::Sender<Answer>),
    Sink(Arc<dyn Sink>, u64),
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Caller::Future(_) => "Future",
            Caller::Sink(..) => "Sink",
        })
    }
}

/// What is to be done once the state is unlocked: statements to run, and answers to give. A sink may take a lock whose
/// holder waits for ours (Python's, say).
#[must_use]
#[derive(Default)]
struct Todo {
    statements: Vec<Statement>,
    answers: Vec<(Caller, Answer)>,
}

impl Driver {
    pub(super) fn new(options: Options, pool: PgPool, owns_pool: bool, transport: Transport) -> Self {
        let engine = Engine::new(options.clone());
        let state = State { engine, callers: HashMap::new(), has_watcher: false };
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
        let ticket = this.begin(request, Caller::Future(sender))?;
        let _cancel = CancelOnDrop { driver: this, ticket };
        let lost = || Error::new(ErrorCode::Closed, "the client stopped before it answered");
        if !has_deadline {
            return (&mut receiver).await.unwrap_or_else(|_| Err(lost()));
        }
        match tokio::time::timeout(this.options.timeout, &mut receiver).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
            Err(_) => {
                this.expire();
                receiver.await.unwrap_or_else(|_| Err(lost()))
            }
        }
    }

    /// Submits a request whose answer goes to a sink.
    pub(super) fn submit(
        this: &Arc<Self>,
        request: Request,
        sink: Arc<dyn Sink>,
        token: u64,
    ) -> Result<Ticket, Error> {
        let ticket = this.begin(request, Caller::Sink(sink, token))?;
        this.watch();
        Ok(ticket)
    }

    /// Forgets a request. If it is not sent yet it never will be, and its sink hears no more of it.
    pub(super) fn cancel(&self, ticket: Ticket) {
        let mut state = self.state();
        if state.callers.remove(&ticket).is_some() {
            state.engine.cancel(ticket);
        }
    }

    fn begin(self: &Arc<Self>, request: Request, caller: Caller) -> Result<Ticket, Error> {
        let (ticket, todo) = {
            let mut state = self.state();
            let ticket = state.engine.submit(self.now(), request)?;
            state.callers.insert(ticket, caller);
            (ticket, self.advance(&mut state, None))
        };
        self.carry_out(todo);
        Ok(ticket)
    }

    fn expire(self: &Arc<Self>) {
        let todo = {
            let mut state = self.state();
            state.engine.expire(self.now());
            self.advance(&mut state, None)
        };
        self.carry_out(todo);
    }

    /// Ends the waiting of callers that do not watch their own time.
    fn watch(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().has_watcher, true) {
            return;
        }
        let watcher = Watcher(Arc::clone(self));
        tokio::spawn(async move {
            loop {
                let deadline = {
                    let mut state = watcher.0.state();
                    let deadline = state.engine.next_deadline();
                    state.has_watcher = deadline.is_some();
                    deadline
                };
                let Some(deadline) = deadline else { return };
                tokio::time::sleep(deadline.saturating_sub(watcher.0.now())).await;
                watcher.0.expire();
            }
        });
    }

    pub(super) async fn close(self: &Arc<Self>) {
        self.state().engine.close();
        loop {
            let changed = self.changed.notified();
            // What a runtime that stopped left behind is sent by nobody else.
            let todo = self.advance(&mut self.state(), None);
            self.carry_out(todo);
            if self.state().engine.is_idle() {
                break;
            }
            changed.await;
        }
        if self.owns_pool {
            self.pool.close().await;
        }
    }

    /// Takes the statements that may be sent and the answers that are ready.
    fn advance(&self, state: &mut State, source: Option<&DriverError>) -> Todo {
        let now = self.now();
        let mut todo = Todo::default();
        while let Some(statement) = state.engine.poll(now) {
            todo.statements.push(statement);
        }
        todo.answers = self.ready_answers(state, source);
        todo
    }

    fn ready_answers(&self, state: &mut State, source: Option<&DriverError>) -> Vec<(Caller, Answer)> {
        let mut ready = Vec::new();
        for (ticket, mut answer) in state.engine.answers() {
            if let (Err(error), Some(source)) = (&answer, source)
                && error.code() == ErrorCode::Database
            {
                answer = Err(error.clone().with_source(Arc::clone(source)));
            }
            ready.extend(state.callers.remove(&ticket).map(|caller| (caller, answer)));
        }
        ready
    }

    fn carry_out(self: &Arc<Self>, todo: Todo) {
        for statement in todo.statements {
            let unfinished = Unfinished { driver: Arc::clone(self), id: Some(statement.id) };
            tokio::spawn(async move {
                let result = unfinished.driver.run(statement).await;
                unfinished.finish(result);
            });
        }
        give(todo.answers);
    }

    fn receive(self: &Arc<Self>, id: StatementId, result: StatementResult) {
        let (todo, pause) = {
            let mut state = self.state();
            let now = self.now();
            let (rows, source) = match result {
                Ok(rows) => (Ok(rows), None),
                Err((fault, source)) => (Err(fault), source),
            };
            state.engine.receive(now, id, rows.as_deref().map_err(Clone::clone));
            let todo = self.advance(&mut state, source.as_ref());
            (todo, state.engine.next_retry().map(|at| at.saturating_sub(now)))
        };
        self.carry_out(todo);
        self.changed.notify_waiters();
        if let Some(pause) = pause {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                let todo = this.advance(&mut this.state(), None);
                this.carry_out(todo);
            });
        }
    }

    async fn run(&self, statement: Statement) -> StatementResult {
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
                Err((
                    Fault { sqlstate: None, message: "the database did not answer in time".to_owned() },
                    None,
                ))
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

/// Gives answers to their callers; to a sink, all of a batch at once.
fn give(answers: Vec<(Caller, Answer)>) {
    let mut batches: Vec<SinkBatch> = Vec::new();
    for (caller, answer) in answers {
        match caller {
            // A caller that is gone needs no answer.
            Caller::Future(sender) => drop(sender.send(answer)),
            Caller::Sink(sink, token) => {
                match batches.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &sink)) {
                    Some((_, batch)) => batch.push((token, answer)),
                    None => batches.push((sink, vec![(token, answer)])),
                }
            }
        }
    }
    for (sink, batch) in batches {
        sink.deliver(batch);
    }
}

fn query(statement: &Statement) -> QueryScalar<'_, Postgres, String, PgArguments> {
    let sql = AssertSqlSafe(Arc::clone(&statement.sql));
    let persistent =
        !matches!(statement.kind, crate::StatementKind::Migrate | crate::StatementKind::Catalogue);
    let query = sqlx::query_scalar(sql).persistent(persistent);
    statement.params.iter().fold(query, |query, param| query.bind(param.as_deref()))
}

async fn in_transaction(
    connection: &mut PgConnection,
    statement: &Statement,
) -> Result<Vec<String>, sqlx::Error> {
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
    fn finish(mut self, result: StatementResult) {
        if let Some(id) = self.id.take() {
            Driver::receive(&self.driver, id, result);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let fault =
                Fault { sqlstate: None, message: "the runtime stopped while the statement ran".to_owned() };
            let answers = {
                let mut state = self.driver.state();
                state.engine.receive(self.driver.now(), id, Err(fault));
                self.driver.ready_answers(&mut state, None)
            };
            // No task can be spawned here: whoever calls next sends what waits.
            give(answers);
            self.driver.changed.notify_waiters();
        }
    }
}

/// Lets another watcher start if this one's runtime stops.
struct Watcher(Arc<Driver>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.state().has_watcher = false;
    }
}

/// Tells the engine of a caller that is gone.
struct CancelOnDrop<'d> {
    driver: &'d Arc<Driver>,
    ticket: Ticket,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.driver.cancel(self.ticket);
    }
}
