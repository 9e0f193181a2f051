//! Runs the engine's statements on the pool and wakes the callers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::connect::Connector;
use super::statement_timeout;
use super::transport::{Transport, failed, in_transaction, query};
use crate::engine::{Answer, Engine, Fault, Options, Request, Sink, Statement, StatementId, Stats, Ticket};
use crate::error::{Error, ErrorCode};

/// What a call comes to.
type CallResult = Result<Answer, Error>;
/// Answers to one sink, with their tokens.
type SinkBatch = (Arc<dyn Sink>, Vec<(u64, CallResult)>);

pub(super) struct Driver {
    connector: Connector,
    owns_pool: bool,
    transport: Transport,
    options: Options,
    started: Instant,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    engine: Engine,
    callers: HashMap<Ticket, Caller>,
    /// Whether a worker is about to take what waits.
    poll_due: bool,
    /// Whether a task ends the waiting of callers that do not watch their own time.
    has_watcher: bool,
}

enum Caller {
    Future(oneshot::Sender<CallResult>),
    Sink(Arc<dyn Sink>, u64),
}

/// Answers to give once the state is unlocked: a sink may take a lock whose holder waits for ours (Python's, say).
type Ready = Vec<(Caller, CallResult)>;

impl Driver {
    pub(super) fn new(options: Options, connector: Connector, owns_pool: bool, transport: Transport) -> Self {
        let engine = Engine::new(options.clone());
        let state = State { engine, callers: HashMap::new(), poll_due: false, has_watcher: false };
        Driver {
            connector,
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

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(super) fn stats(&self) -> Stats {
        self.state().engine.stats()
    }

    /// Submits a request and waits for its answer. A caller that stops waiting cancels its request if it is not sent
    /// yet; the answers of others are not affected, as statements run in tasks of their own.
    pub(super) async fn call(this: &Arc<Self>, request: Request) -> CallResult {
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
        this.begin(request, Caller::Sink(sink, token))
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
            (ticket, ready_answers(&mut state))
        };
        give(ready);
        self.poll_soon();
        self.watch();
        Ok(ticket)
    }

    fn expire(self: &Arc<Self>) {
        let ready = {
            let mut state = self.state();
            state.engine.expire(self.now());
            ready_answers(&mut state)
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

    /// Looks after callers that do not watch their own time, and after statements that take long.
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
            self.connector.pool().close().await;
        }
    }

    /// Takes the statements that may be sent now.
    fn poll(&self) -> Vec<Statement> {
        let mut state = self.state();
        state.poll_due = false;
        let now = self.now();
        let statements = std::iter::from_fn(|| state.engine.poll(now)).collect();
        let ready = ready_answers(&mut state);
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
    fn receive(&self, id: StatementId, result: Result<Vec<String>, Fault>) {
        let ready = {
            let mut state = self.state();
            let now = self.now();
            match result {
                Ok(rows) => state.engine.receive(now, id, Ok(&rows)),
                Err(fault) => state.engine.receive(now, id, Err(fault)),
            }
            // Whoever is answered now and asks again is to share a statement with the others.
            state.poll_due = true;
            ready_answers(&mut state)
        };
        give(ready);
        self.changed.notify_waiters();
    }

    async fn run(&self, statement: Statement) -> Result<Vec<String>, Fault> {
        let mut connection = self.connector.acquire().await?;
        if !self.state().engine.is_wanted(statement.id) {
            return Err(Fault::not_sent("nobody waits for it any more"));
        }
        let running = async {
            match self.transport {
                Transport::Prepared => query(&statement).fetch_all(&mut *connection).await,
                Transport::Pooler => in_transaction(&mut connection, &statement).await,
            }
        };
        let result = if statement.is_unlimited() {
            running.await
        } else {
            match tokio::time::timeout(statement_timeout(self.options.timeout), running).await {
                Ok(result) => result,
                Err(_) => {
                    // Its answer may still be on the way: nobody else may use this connection.
                    drop(connection.detach());
                    return Err(Fault::timed_out("the database did not answer in time"));
                }
            }
        };
        result.map_err(|error| {
            let fault = failed(error);
            if self.connector.note(&fault) {
                drop(connection.detach());
            }
            fault
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The engine does not panic; if it ever did, its answers would still be better than a panic in every caller.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ready_answers(state: &mut State) -> Ready {
    let answers = state.engine.answers();
    answers
        .into_iter()
        .filter_map(|(ticket, answer)| state.callers.remove(&ticket).map(|caller| (caller, answer)))
        .collect()
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
                }
                // Callers that were just answered, or that are ready as well, submit first.
                tokio::task::yield_now().await;
                self.polls = false;
                let mut statements = self.driver.poll();
                next = statements.pop();
                statements.into_iter().for_each(|statement| Worker::spawn(&self.driver, Some(statement)));
                if next.is_none() {
                    return self.driver.poll_after_pause();
                }
            }
        }
    }

    fn receive(&mut self, result: Result<Vec<String>, Fault>) {
        if let Some(id) = self.statement.take() {
            self.polls = true;
            self.driver.receive(id, result);
        }
    }
}

/// Its runtime shut down: no caller is to wait for ever, for this statement or for the next.
impl Drop for Worker {
    fn drop(&mut self) {
        self.receive(Err(Fault::lost("the runtime stopped while the statement ran")));
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
