//! The tasks that run a client's statements.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::callers::Ready;
use super::driver::Driver;
use crate::engine::{Fault, Statement, StatementId};

/// Takes statements and runs them, one after the other, until nothing waits.
pub(super) struct Worker {
    driver: Arc<Driver>,
    /// Whether it is the one that was to take what waits.
    polls: bool,
    /// What it runs, or has a connection opened for.
    statement: Option<StatementId>,
    was_sent: bool,
}

impl Worker {
    pub(super) fn spawn(driver: &Arc<Driver>, first: Option<Statement>) {
        let statement = first.as_ref().map(|statement| statement.id);
        let worker =
            Worker { driver: Arc::clone(driver), polls: first.is_none(), statement, was_sent: false };
        drop(driver.spawn(worker.run(first)));
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "a worker spawns workers: that this is Send cannot be inferred"
    )]
    fn run(mut self, first: Option<Statement>) -> impl Future<Output = ()> + Send {
        async move {
            let mut next = first;
            let mut ready = Ready::default();
            loop {
                if let Some(statement) = next.take() {
                    ready = self.run_one(statement, ready).await;
                    next = self.share(self.driver.take_backlog());
                    if next.is_some() {
                        self.polls = false;
                        continue;
                    }
                }
                self.driver.give(std::mem::take(&mut ready));
                // Callers that were just answered, or that are ready as well, submit first.
                tokio::task::yield_now().await;
                self.polls = false;
                next = self.share(self.driver.poll());
                if next.is_none() {
                    return;
                }
            }
        }
    }

    /// One of these statements; the others run beside it.
    fn share(&self, mut statements: Vec<Statement>) -> Option<Statement> {
        let next = statements.pop();
        statements.into_iter().for_each(|statement| Worker::spawn(&self.driver, Some(statement)));
        next
    }

    /// Runs a statement, and gives answers as soon as it is on its way.
    async fn run_one(&mut self, statement: Statement, answers: Ready) -> Ready {
        let driver = Arc::clone(&self.driver);
        let mut running = pin!(self.run_statement(statement));
        let first = poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
        driver.give(answers);
        match first {
            Poll::Ready(answers) => answers,
            Poll::Pending => running.await,
        }
    }

    /// Runs a statement. Answers are there already if it is not to be sent any more.
    async fn run_statement(&mut self, statement: Statement) -> Ready {
        self.statement = Some(statement.id);
        match self.driver.connector().acquire().await {
            Err(fault) => self.receive(Err(fault)),
            Ok(connection) => {
                let statement = self.driver.begin(statement);
                self.statement = statement.as_ref().map(|statement| statement.id);
                self.was_sent = statement.is_some();
                let Some(statement) = statement else { return Ready::default() };
                let result = self.driver.run(connection, &statement).await;
                self.receive(result)
            }
        }
    }

    fn receive(&mut self, result: Result<Vec<String>, Fault>) -> Ready {
        let Some(id) = self.statement.take() else { return Ready::default() };
        self.polls = true;
        let was_sent = std::mem::take(&mut self.was_sent);
        self.driver.receive(id, was_sent, result)
    }
}

/// Its runtime shut down: no caller is to wait for ever, for this statement or for the next.
impl Drop for Worker {
    fn drop(&mut self) {
        let answers = self.receive(Err(match self.was_sent {
            true => Fault::lost("the runtime stopped while the statement ran"),
            false => Fault::not_sent("the runtime stopped before the statement was sent"),
        }));
        self.driver.give(answers);
        if self.polls {
            self.driver.poll_later();
        }
    }
}
