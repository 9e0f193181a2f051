//! Those who wait for answers.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::engine::{Answer, Sink};
use crate::error::Error;

/// What a call comes to.
pub(super) type CallResult = Result<Answer, Error>;
/// Answers to one sink, with their tokens.
type SinkBatch = (Arc<dyn Sink>, Vec<(u64, CallResult)>);

pub(super) enum Caller {
    Future(oneshot::Sender<CallResult>),
    Sink(Arc<dyn Sink>, u64),
}

/// Answers to give once the state is unlocked: a sink may take a lock whose holder waits for ours (Python's, say).
pub(super) type Ready = Vec<(Caller, CallResult)>;

/// Gives answers to their callers; to a sink, all of a batch at once.
pub(super) fn give(answers: Ready) {
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
