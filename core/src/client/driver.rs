//! Runs the engine's statements on the pool and wakes the callers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::callers::{CallResult, Caller, CancelOnDrop, Ready, give};
use super::connect::Connector;
use super::home::Home;
use super::pooler::PoolerCheck;
use super::report::Reporter;
use super::traces;
use super::worker::Worker;
use crate::engine::{Begun, Engine, Fault, Options, Request, Sink, Statement, StatementId, Stats, Ticket};
use crate::error::{Error, ErrorCode};

pub(super) struct Driver {
    connector: Connector,
    owns_pool: bool,
    pub(super) pooler: PoolerCheck,
    pub(super) home: Arc<Home>,
    options: Options,
    started: Instant,
    reporter: Reporter,
    state: Mutex<State>,
    changed: Notify,
    /// Wakes the watcher: a statement may take long before it would look again.
    watch_sooner: Arc<Notify>,
}

struct State {
    engine: Engine,
    callers: HashMap<Ticket, Caller>,
    /// Whether a worker is about to take what waits.
    poll_due: bool,
    /// Whether a task ends the waiting of callers that do not watch their own time.
    has_watcher: bool,
    /// When it looks again.
    watches_at: Duration,
    /// Statements that were sent and are not over, also those that nobody waits for any more.
    running: usize,
}

impl Driver {
    pub(super) fn new(
        options: Options,
        connector: Connector,
        owns_pool: bool,
        pooler: PoolerCheck,
        home: Arc<Home>,
        reporter: Reporter,
    ) -> Arc<Self> {
        let engine = Engine::new(options.clone());
        let callers = HashMap::new();
        let watches_at = Duration::MAX;
        let state = State { engine, callers, poll_due: false, has_watcher: false, watches_at, running: 0 };
        let driver = Arc::new(Driver {
            connector,
            owns_pool,
            pooler,
            home,
            options,
            started: Instant::now(),
            reporter,
            state: Mutex::new(state),
            changed: Notify::new(),
            watch_sooner: Arc::new(Notify::new()),
        });
        let moving = Arc::downgrade(&driver);
        driver.home.watch(move || {
            if let Some(driver) = moving.upgrade() {
                driver.home.leave();
                driver.poll_later();
                driver.watch();
            }
        });
        driver
    }

    /// Runs a task where the connections are.
    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.home.spawn(task)
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
        let span = traces::of_call(&request);
        traces::call(span, Driver::answer_to(this, request)).await
    }

    async fn answer_to(this: &Arc<Self>, request: Request) -> CallResult {
        let limit = this.options.limit_of(&request);
        let (sender, mut receiver) = oneshot::channel();
        let ticket = this.take_call(request, Caller::Future(sender))?;
        let mut cancel = CancelOnDrop { driver: this, ticket: Some(ticket) };
        let answer = match limit {
            None => receiver.await,
            Some(limit) => match tokio::time::timeout(limit, &mut receiver).await {
                Ok(answer) => answer,
                Err(_) => {
                    this.expire();
                    receiver.await
                }
            },
        };
        cancel.ticket = None;
        answer.unwrap_or_else(|_| Err(Error::new(ErrorCode::Closed, "the client stopped before it answered")))
    }

    /// Submits a request whose answer goes to a sink.
    pub(super) fn submit(
        this: &Arc<Self>,
        request: Request,
        sink: Arc<dyn Sink>,
        token: u64,
    ) -> Result<Ticket, Error> {
        this.take_call(request, Caller::Sink(sink, token))
    }

    /// Forgets a request. If it is not sent yet it never will be, and its sink hears no more of it.
    pub(super) fn cancel(&self, ticket: Ticket) {
        let mut state = self.state();
        if state.callers.remove(&ticket).is_some() {
            state.engine.cancel(ticket);
        }
    }

    fn take_call(self: &Arc<Self>, request: Request, caller: Caller) -> Result<Ticket, Error> {
        // Many threads come here: the lock is taken once.
        let (ticket, ready, polls, watches) = {
            let mut state = self.state();
            let ticket = state.engine.submit(self.now(), request)?;
            state.callers.insert(ticket, caller);
            let ready = ready_answers(&mut state);
            let polls = !std::mem::replace(&mut state.poll_due, true);
            (ticket, ready, polls, !std::mem::replace(&mut state.has_watcher, true))
        };
        give(ready, &self.reporter);
        if polls {
            Worker::spawn(self, None);
        }
        if watches {
            self.start_watcher();
        }
        Ok(ticket)
    }

    fn expire(self: &Arc<Self>) {
        let ready = {
            let mut state = self.state();
            state.engine.expire(self.now());
            ready_answers(&mut state)
        };
        give(ready, &self.reporter);
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
        if !std::mem::replace(&mut self.state().has_watcher, true) {
            self.start_watcher();
        }
    }

    fn start_watcher(self: &Arc<Self>) {
        let watcher = Watcher(Arc::downgrade(self));
        let sooner = Arc::clone(&self.watch_sooner);
        self.home.spawn(async move {
            // While it sleeps it holds nothing: a client that everybody dropped gives its connections back.
            while let Some(pause) = watcher.0.upgrade().and_then(|driver| driver.until_deadline()) {
                let is_over = tokio::time::timeout(pause, sooner.notified()).await.is_err();
                if let Some(driver) = watcher.0.upgrade().filter(|_| is_over) {
                    driver.expire();
                }
            }
        });
    }

    /// `None` where a watcher has nothing to wait for.
    fn until_deadline(&self) -> Option<Duration> {
        let mut state = self.state();
        let deadline = state.engine.next_deadline();
        state.has_watcher = deadline.is_some();
        state.watches_at = deadline.unwrap_or(Duration::MAX);
        deadline.map(|deadline| deadline.saturating_sub(self.now()))
    }

    pub(super) async fn close(self: &Arc<Self>) {
        self.state().engine.close();
        loop {
            let changed = self.changed.notified();
            // What a runtime that stopped left behind is sent by nobody else.
            self.poll_soon();
            let is_idle = {
                let state = self.state();
                state.engine.is_idle() && state.running == 0
            };
            if is_idle {
                break;
            }
            changed.await;
        }
        if self.owns_pool {
            {
                // Connections go back by tasks, also where whoever closes is in no runtime.
                let _guard = self.home.enter();
                self.connector.kept.clear();
            }
            self.connector.pool().close().await;
        }
    }

    /// Takes the statements that may be sent as soon as there are connections. If there are none, a worker looks again
    /// after the next pause.
    pub(super) fn poll(self: &Arc<Self>) -> Vec<Statement> {
        let mut state = self.state();
        let statements = take_statements(&mut state, self.now());
        let retry = statements.is_empty().then(|| state.engine.next_retry()).flatten();
        let ready = ready_answers(&mut state);
        drop(state);
        give(ready, &self.reporter);
        if let Some(at) = retry {
            self.poll_at(at);
        }
        // Taking forgets calls whose callers are gone: nothing may be left.
        self.changed.notify_waiters();
        statements
    }

    /// A runtime has shut down. If no task can be spawned now, whoever calls next, or closes, sends what waits.
    pub(super) fn poll_later(self: &Arc<Self>) {
        self.state().poll_due = false;
        self.changed.notify_waiters();
        if self.home.has_moved() {
            self.poll_soon();
        }
    }

    fn poll_at(self: &Arc<Self>, at: Duration) {
        let this = Arc::clone(self);
        self.home.spawn(async move {
            tokio::time::sleep(at.saturating_sub(this.now())).await;
            this.poll_soon();
        });
    }

    /// Takes what became of a statement. Its caller gives the answers, and polls next.
    pub(super) fn receive(
        &self,
        id: StatementId,
        was_sent: bool,
        result: Result<Vec<String>, Fault>,
    ) -> Ready {
        let mut state = self.state();
        state.running -= usize::from(was_sent);
        let now = self.now();
        match result {
            Ok(rows) => state.engine.receive(now, id, Ok(&rows)),
            Err(fault) => state.engine.receive(now, id, Err(fault)),
        }
        // Whoever is answered now and asks again is to share a statement with the others.
        state.poll_due = true;
        ready_answers(&mut state)
    }

    /// Takes statements that are worth sending before the answers are given. If there are any, whoever asks next polls.
    pub(super) fn take_backlog(&self) -> Vec<Statement> {
        let mut state = self.state();
        match state.engine.has_backlog() {
            true => take_statements(&mut state, self.now()),
            false => Vec::new(),
        }
    }

    pub(super) fn give(&self, answers: Ready) {
        give(answers, &self.reporter);
        self.changed.notify_waiters();
    }

    /// What is to be sent now that a statement has its connection.
    pub(super) fn begin(&self, statement: Statement) -> Option<Statement> {
        let (statement, ready) = {
            let mut state = self.state();
            let now = self.now();
            let statement = match state.engine.begin(now, statement.id) {
                Begun::AsItIs => Some(statement),
                Begun::Instead(other) => Some(other),
                Begun::Nothing => None,
            };
            state.running += usize::from(statement.is_some());
            if state.has_watcher && statement.is_some() && state.watches_at > now + Engine::STALL {
                self.watch_sooner.notify_one();
            }
            (statement, ready_answers(&mut state))
        };
        give(ready, &self.reporter);
        statement
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The engine does not panic; if it ever did, its answers would still be better than a panic in every caller.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what may be sent as soon as there are connections.
fn take_statements(state: &mut State, now: Duration) -> Vec<Statement> {
    state.poll_due = false;
    let mut statements = Vec::new();
    while let Some(statement) = state.engine.poll(now) {
        state.engine.hold(statement.id);
        statements.push(statement);
    }
    statements
}

fn ready_answers(state: &mut State) -> Ready {
    let answers = state.engine.answers().into_iter();
    let answers = answers
        .filter_map(|(ticket, answer)| state.callers.remove(&ticket).map(|caller| (caller, answer)))
        .collect();
    Ready { answers, reports: state.engine.reports() }
}

/// Lets another watcher start if this one's runtime stops.
struct Watcher(Weak<Driver>);

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(driver) = self.0.upgrade() {
            driver.state().has_watcher = false;
        }
    }
}
