//! From the runtime to an event loop, and to threads that block.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentkey::Error;
use agentkey::engine::{Answer, Sink};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::call::{Call, Inbox, Reply};

/// Replies for one event loop, which watches `fileno()` and calls `take()`.
///
/// Futures are Python's business: a thread that the ending interpreter stops in the middle of Python code must have no
/// Rust below it, or the process aborts.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Mailbox {
    queue: Arc<Queue>,
    wakened: UnixStream,
    last_token: AtomicU64,
}

struct Queue {
    replies: Mutex<Vec<(u64, Reply)>>,
    waker: UnixStream,
}

/// A token with the result of its call, or the exception to raise.
type Delivery = (u64, Option<Py<PyAny>>, Option<Py<PyBaseException>>);

#[pymethods]
impl Mailbox {
    #[new]
    fn new() -> PyResult<Self> {
        let (wakened, waker) = UnixStream::pair()?;
        wakened.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let queue = Arc::new(Queue { replies: Mutex::default(), waker });
        Ok(Mailbox { queue, wakened, last_token: AtomicU64::new(0) })
    }

    /// Becomes readable when there are replies.
    fn fileno(&self) -> i32 {
        self.wakened.as_raw_fd()
    }

    /// Starts a call. Answers the token that its reply will have.
    fn start(&self, call: &Bound<'_, Call>) -> PyResult<u64> {
        let token = self.last_token.fetch_add(1, Ordering::Relaxed) + 1;
        call.get().start(Arc::clone(&self.queue), token)?;
        Ok(token)
    }

    /// All replies that came.
    fn take(&self, py: Python<'_>) -> PyResult<Vec<Delivery>> {
        self.drain()?;
        let replies = std::mem::take(&mut *self.queue.replies());
        let delivery = |(token, reply): (u64, Reply)| match reply.into_result(py) {
            Ok(result) => (token, Some(result), None),
            Err(error) => (token, None, Some(error.into_value(py))),
        };
        Ok(replies.into_iter().map(delivery).collect())
    }
}

impl Mailbox {
    /// Takes the wake-ups, before the replies: one that comes in between wakes the loop again.
    fn drain(&self) -> PyResult<()> {
        let mut bytes = [0; 64];
        loop {
            match (&self.wakened).read(&mut bytes) {
                Ok(read) if read == bytes.len() => {}
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Queue {
    fn replies(&self) -> MutexGuard<'_, Vec<(u64, Reply)>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, new: impl Iterator<Item = (u64, Reply)>) {
        let mut replies = self.replies();
        let is_first = replies.is_empty();
        replies.extend(new);
        drop(replies);
        if is_first {
            // A full pipe has a wake-up in it already; a closed one has nobody left to wake.
            let _ = (&self.waker).write(&[1]);
        }
    }
}

impl Sink for Queue {
    fn deliver(&self, answers: Vec<(u64, Result<Answer, Error>)>) {
        self.append(answers.into_iter().map(|(token, answer)| (token, Reply::Answer(answer))));
    }
}

impl Inbox for Queue {
    fn put(&self, token: u64, reply: Reply) {
        self.append(std::iter::once((token, reply)));
    }
}

/// The reply for a thread that blocks.
#[derive(Default)]
struct Slot {
    reply: Mutex<Option<Reply>>,
    filled: Condvar,
}

impl Sink for Slot {
    fn deliver(&self, answers: Vec<(u64, Result<Answer, Error>)>) {
        for (token, answer) in answers {
            self.put(token, Reply::Answer(answer));
        }
    }
}

impl Inbox for Slot {
    fn put(&self, _: u64, reply: Reply) {
        *self.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
        self.filled.notify_one();
    }
}

/// How often a blocked thread looks whether Ctrl-C was pressed.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

/// Runs a call and waits for its result, with the interpreter's lock released.
pub(crate) fn wait(py: Python<'_>, call: &Call) -> PyResult<Py<PyAny>> {
    let slot = Arc::new(Slot::default());
    call.start(Arc::clone(&slot), 0)?;
    loop {
        let reply = py.detach(|| {
            let reply = slot.reply.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = slot.filled.wait_timeout_while(reply, SIGNAL_CHECK, |reply| reply.is_none());
            waited.unwrap_or_else(PoisonError::into_inner).0.take()
        });
        if let Some(reply) = reply {
            return reply.into_result(py);
        }
        if let Err(interrupt) = py.check_signals() {
            call.cancel();
            return Err(interrupt);
        }
    }
}
