//! Those who wait for answers.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::driver::Driver;
use super::report::Reporter;
use crate::engine::{Answer, Sink, Ticket};
use crate::error::Error;

/// What a call comes to.
pub(super) type CallResult = Result<Answer, Error>;
/// Answers to one sink, with their tokens.
type SinkBatch = (Arc<dyn Sink>, Vec<(u64, CallResult)>);

pub(super) enum Caller {
    Future(oneshot::Sender<CallResult>),
    Sink(Arc<dyn Sink>, u64),
}

/// What is to be told once the state is unlocked: a sink may take a lock whose holder waits for ours (Python's, say).
#[derive(Default)]
pub(super) struct Ready {
    pub(super) answers: Vec<(Caller, CallResult)>,
    /// Faults that nobody waits for.
    pub(super) reports: Vec<String>,
}

/// Gives answers to their callers; to a sink, all of a batch at once.
pub(super) fn give(ready: Ready, reporter: &Reporter) {
    let Ready { answers, reports } = ready;
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
    reports.iter().for_each(|message| reporter.report(message));
}

/// Tells the engine of a caller that is gone.
pub(super) struct CancelOnDrop<'d> {
    pub(super) driver: &'d Arc<Driver>,
    /// `None` once it was answered.
    pub(super) ticket: Option<Ticket>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.driver.cancel(ticket);
        }
    }
}
