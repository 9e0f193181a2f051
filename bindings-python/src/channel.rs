//! From the runtime to an event loop, and to threads that block.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentkey::{Answer, Sink};
use pyo3::intern;
use pyo3::prelude::*;

use crate::call::{Call, Inbox, Reply};

/// Replies for one event loop, which watches `fileno()` and calls `deliver()`. All but the queue is used by the loop's
/// thread alone.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Channel {
    queue: Arc<Queue>,
    wakened: UnixStream,
    create_future: Py<PyAny>,
    waiting: Mutex<HashMap<u64, Py<PyAny>>>,
    last_token: AtomicU64,
}

struct Queue {
    replies: Mutex<Vec<(u64, Reply)>>,
    waker: UnixStream,
}

#[pymethods]
impl Channel {
    #[new]
    fn new(create_future: Py<PyAny>) -> PyResult<Self> {
        let (wakened, waker) = UnixStream::pair()?;
        wakened.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        Ok(Channel {
            queue: Arc::new(Queue { replies: Mutex::default(), waker }),
            wakened,
            create_future,
            waiting: Mutex::default(),
            last_token: AtomicU64::new(0),
        })
    }

    /// Becomes readable when there are replies.
    fn fileno(&self) -> i32 {
        self.wakened.as_raw_fd()
    }

    /// Starts a call. Answers its token, and a future of the loop for its result.
    fn start<'py>(&self, py: Python<'py>, call: &Bound<'py, Call>) -> PyResult<(u64, Bound<'py, PyAny>)> {
        let token = self.last_token.fetch_add(1, Ordering::Relaxed) + 1;
        let future = self.create_future.bind(py).call0()?;
        call.get().start(Arc::clone(&self.queue), token)?;
        self.waiting().insert(token, future.clone().unbind());
        Ok((token, future))
    }

    /// Forgets a call that nobody waits for any more.
    fn cancel(&self, token: u64, call: &Bound<'_, Call>) {
        if self.waiting().remove(&token).is_some() {
            call.get().cancel();
        }
    }

    /// Gives all replies that came to their futures.
    fn deliver(&self, py: Python<'_>) -> PyResult<()> {
        self.drain()?;
        let replies = std::mem::take(&mut *self.queue.replies());
        for (token, reply) in replies {
            let Some(future) = self.waiting().remove(&token) else { continue };
            let future = future.bind(py);
            // Its task was cancelled and has not run since.
            if future.call_method0(intern!(py, "done"))?.is_truthy()? {
                continue;
            }
            match reply.into_result(py) {
                Ok(result) => future.call_method1(intern!(py, "set_result"), (result,))?,
                Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?,
            };
        }
        Ok(())
    }

    /// Calls that wait for a reply.
    fn __len__(&self) -> usize {
        self.waiting().len()
    }
}

impl Channel {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Py<PyAny>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
    fn deliver(&self, answers: Vec<(u64, Answer)>) {
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
    fn deliver(&self, answers: Vec<(u64, Answer)>) {
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
