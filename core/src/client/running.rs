//! A statement on its connection.

use std::sync::{Arc, Weak};

use super::driver::Driver;
use super::kept::{LONGEST_REST, Lent};
use super::transport::{failed, in_transaction, query};
use super::{statement_timeout, traces};
use crate::engine::{Fault, Statement};

impl Driver {
    pub(super) async fn run(
        self: &Arc<Self>,
        lent: Lent,
        statement: &Statement,
    ) -> Result<Vec<String>, Fault> {
        traces::statement(statement, self.run_on(lent, statement)).await
    }

    async fn run_on(self: &Arc<Self>, mut lent: Lent, statement: &Statement) -> Result<Vec<String>, Fault> {
        let running = async {
            match self.pooler.is_needed(&self.home, || self.connector().options()).await {
                true => in_transaction(&mut lent.connection, statement).await,
                false => query(statement).fetch_all(&mut *lent.connection).await,
            }
        };
        let result = if statement.is_unlimited() {
            running.await
        } else {
            match tokio::time::timeout(statement_timeout(self.options().timeout), running).await {
                Ok(result) => result,
                Err(_) => {
                    // Its answer may still be on the way: nobody else may use this connection.
                    drop(lent.connection.detach());
                    return Err(Fault::timed_out("the database did not answer in time"));
                }
            }
        };
        match result {
            Ok(rows) => {
                if self.connector().give_back(lent) {
                    self.mind_kept();
                }
                Ok(rows)
            }
            Err(error) => {
                let fault = failed(error);
                if self.connector().note(&fault) {
                    drop(lent.connection.detach());
                }
                Err(fault)
            }
        }
    }

    /// Gives connections back that rest too long.
    fn mind_kept(self: &Arc<Self>) {
        let minder = Minder(Arc::downgrade(self));
        self.home.spawn(async move {
            loop {
                tokio::time::sleep(LONGEST_REST).await;
                match minder.0.upgrade() {
                    Some(driver) if driver.connector().kept.give_back() => {}
                    _ => return,
                }
            }
        });
    }
}

/// Lets another one start if this one's runtime stops.
struct Minder(Weak<Driver>);

impl Drop for Minder {
    fn drop(&mut self) {
        if let Some(driver) = self.0.upgrade() {
            driver.connector().kept.leave();
        }
    }
}
