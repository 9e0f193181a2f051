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
    /// Whether a worker is about to take what waits.
    poll_due: bool,
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

/// Answers to give once the state is unlocked: a sink may take a lock whose holder waits for ours (Python's, say).
type Ready = Vec<(Caller, Answer)>;

impl Driver {
    pub(super) fn new(options: Options, pool: PgPool, owns_pool: bool, transport: Transport) -> Self {
        let engine = Engine::new(options.clone());
        let state = State { engine, callers: HashMap::new(), poll_due: false, has_watcher: false };
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
        let (ticket, ready) = {
            let mut state = self.state();
            let ticket = state.engine.submit(self.now(), request)?;
            state.callers.insert(ticket, caller);
            (ticket, self.ready_answers(&mut state, None))
        };
        give(ready);
        self.poll_soon();
        Ok(ticket)
    }

    fn expire(self: &Arc<Self>) {
        let ready = {
            let mut state = self.state();
            state.engine.expire(self.now());
            self.ready_answers(&mut state, None)
        };
        give(ready);
        self.poll_soon();
    }

    /// Has a worker take what waits, unless one is about to.
    fn poll_soon(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.state().poll_due, true) {
            Worker::spawn(self, None);
        }
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
            self.poll_soon();
            if self.state().engine.is_idle() {
                break;
            }
            changed.await;
        }
        if self.owns_pool {
            self.pool.close().await;
        }
    }

    fn ready_answers(&self, state: &mut State, source: Option<&DriverError>) -> Ready {
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

    /// Takes the statements that may be sent now.
    fn poll(&self) -> Vec<Statement> {
        let mut state = self.state();
        state.poll_due = false;
        let now = self.now();
        let statements = std::iter::from_fn(|| state.engine.poll(now)).collect();
        let ready = self.ready_answers(&mut state, None);
        drop(state);
        give(ready);
        // Taking forgets calls whose callers are gone: nothing may be left.
        self.changed.notify_waiters();
        statements
    }

    /// Has a worker take what may be sent again only after a pause.
    fn poll_after_pause(self: &Arc<Self>) {
        let Some(at) = self.state().engine.next_retry() else { return };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(at.saturating_sub(this.now())).await;
            this.poll_soon();
        });
    }

    /// Takes what became of a statement. Its caller polls next.
    fn receive(&self, id: StatementId, result: StatementResult) {
        let ready = {
            let mut state = self.state();
            let (rows, source) = match result {
                Ok(rows) => (Ok(rows), None),
                Err((fault, source)) => (Err(fault), source),
            };
            state.engine.receive(self.now(), id, rows.as_deref().map_err(Clone::clone));
            // Whoever is answered now and asks again is to share a statement with the others.
            state.poll_due = true;
            self.ready_answers(&mut state, source.as_ref())
        };
        give(ready);
        self.changed.notify_waiters();
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
fn give(answers: Ready) {
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

/// Takes statements and runs them, one after the other, until nothing waits.
struct Worker {
    driver: Arc<Driver>,
    /// Whether it is the one that was to take what waits.
    polls: bool,
    /// What it runs.
    statement: Option<StatementId>,
}

impl Worker {
    fn spawn(driver: &Arc<Driver>, first: Option<Statement>) {
        let statement = first.as_ref().map(|statement| statement.id);
        let worker = Worker { driver: Arc::clone(driver), polls: first.is_none(), statement };
        tokio::spawn(worker.run(first));
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "a worker spawns workers: that this is Send cannot be inferred"
    )]
    fn run(mut self, first: Option<Statement>) -> impl Future<Output = ()> + Send {
        async move {
            let mut next = first;
            loop {
                if let Some(statement) = next.take() {
                    self.statement = Some(statement.id);
                    let result = self.driver.run(statement).await;
                    self.receive(result);
                    self.driver.poll_after_pause();
                }
                // Callers that were just answered, or that are ready as well, submit first.
                tokio::task::yield_now().await;
                self.polls = false;
                let mut statements = self.driver.poll();
                next = statements.pop();
                statements.into_iter().for_each(|statement| Worker::spawn(&self.driver, Some(statement)));
                if next.is_none() {
                    return;
                }
            }
        }
    }

    fn receive(&mut self, result: StatementResult) {
        if let Some(id) = self.statement.take() {
            self.polls = true;
            self.driver.receive(id, result);
        }
    }
}

/// Its runtime shut down: no caller is to wait for ever, for this statement or for the next.
impl Drop for Worker {
    fn drop(&mut self) {
        let message = "the runtime stopped while the statement ran".to_owned();
        self.receive(Err((Fault { sqlstate: None, message }, None)));
        if self.polls {
            // No task can be spawned here: whoever calls next, or closes, sends what waits.
            self.driver.state().poll_due = false;
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
