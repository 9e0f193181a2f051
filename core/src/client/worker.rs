//! The tasks that run a client's statements.

use std::sync::Arc;

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
            loop {
                if let Some(statement) = next.take() {
                    self.run_one(statement).await;
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

    async fn run_one(&mut self, statement: Statement) {
        self.statement = Some(statement.id);
        match self.driver.connector().acquire().await {
            Err(fault) => self.receive(Err(fault)),
            Ok(connection) => {
                let statement = self.driver.begin(statement);
                self.statement = statement.as_ref().map(|statement| statement.id);
                self.was_sent = statement.is_some();
                if let Some(statement) = statement {
                    let result = self.driver.run(connection, &statement).await;
                    self.receive(result);
                }
            }
        }
    }

    fn receive(&mut self, result: Result<Vec<String>, Fault>) {
        if let Some(id) = self.statement.take() {
            self.polls = true;
            let was_sent = std::mem::take(&mut self.was_sent);
            self.driver.receive(id, was_sent, result);
        }
    }
}

/// Its runtime shut down: no caller is to wait for ever, for this statement or for the next.
impl Drop for Worker {
    fn drop(&mut self) {
        self.receive(Err(match self.was_sent {
            true => Fault::lost("the runtime stopped while the statement ran"),
            false => Fault::not_sent("the runtime stopped before the statement was sent"),
        }));
        if self.polls {
            self.driver.poll_later();
        }
    }
}
