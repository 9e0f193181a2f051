//! From the runtime to an event loop, and to threads that block.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentkey::Error;
use agentkey::engine::{Answer, Sink};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::call::{Call, Inbox, Reply};
use crate::runtime::Process;

/// Replies for one event loop, which watches `fileno()` and calls `take()`.
///
/// Futures are Python's business: a thread that the ending interpreter stops in the middle of Python code must have no
/// Rust below it, or the process aborts.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Mailbox {
    queue: Arc<Queue>,
    wakened: UnixStream,
    waiting: Mutex<Waiting>,
    process: Process,
}

struct Queue {
    replies: Mutex<Vec<(u64, Reply)>>,
    waker: UnixStream,
}

/// A future with the result of its call, or the exception to raise.
type Delivery = (Py<PyAny>, Option<Py<PyAny>>, Option<Py<PyBaseException>>);

#[pymethods]
impl Mailbox {
    #[new]
    fn new() -> PyResult<Self> {
        let (wakened, waker) = UnixStream::pair()?;
        wakened.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let queue = Arc::new(Queue { replies: Mutex::default(), waker });
        Ok(Mailbox { queue, wakened, waiting: Mutex::default(), process: Process::current() })
    }

    /// Becomes readable when there are replies.
    fn fileno(&self) -> i32 {
        self.wakened.as_raw_fd()
    }

    /// Starts a call, whose reply is for this future. Not in a child of the process that made this, for the two would
    /// share the pipe: then it does nothing, and answers no.
    fn start(&self, py: Python<'_>, call: &Bound<'_, Call>, future: Py<PyAny>) -> PyResult<bool> {
        let mut waiting = self.waiting();
        // Servers that fork by themselves (uWSGI) run no hooks of Python's. They do not while a loop waits for answers:
        // the system need not be asked each time.
        if waiting.count == 0 && Process::current() != self.process {
            return Ok(false);
        }
        let token = waiting.insert(future);
        drop(waiting);
        let started = call.get().start(py, self.process, Arc::clone(&self.queue), token);
        if started.is_err() {
            self.forget(token);
        }
        started.map(|()| true)
    }

    /// Nobody waits for a call any more that was started here: what is not sent yet never will be.
    fn cancel(&self, call: &Bound<'_, Call>) {
        if let Some(token) = call.get().cancel() {
            self.forget(token);
        }
    }

    /// All replies that came.
    fn take(&self, py: Python<'_>) -> PyResult<Vec<Delivery>> {
        self.drain()?;
        let replies = std::mem::take(&mut *self.queue.replies());
        let mut waiting = self.waiting();
        let answered = replies.into_iter().filter_map(|(token, reply)| Some((waiting.remove(token)?, reply)));
        let answered: Vec<_> = answered.collect();
        drop(waiting);
        let delivery = |(future, reply): (Py<PyAny>, Reply)| match reply.into_result(py) {
            Ok(result) => (future, Some(result), None),
            Err(error) => (future, None, Some(error.into_value(py))),
        };
        Ok(answered.into_iter().map(delivery).collect())
    }

    /// How many calls wait for their reply.
    fn __len__(&self) -> usize {
        self.waiting().count
    }
}

/// The futures of calls, by token: a place, and how often it was used before.
#[derive(Default)]
struct Waiting {
    places: Vec<(u32, Option<Py<PyAny>>)>,
    free: Vec<u32>,
    count: usize,
}

impl Waiting {
    fn insert(&mut self, future: Py<PyAny>) -> u64 {
        self.count += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            // Each is a call that waits: memory ends long before.
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let (used, slot) = &mut self.places[place as usize];
        *slot = Some(future);
        u64::from(*used) << 32 | u64::from(place)
    }

    /// `None` where it was removed before.
    fn remove(&mut self, token: u64) -> Option<Py<PyAny>> {
        let place = (token & u64::from(u32::MAX)) as u32;
        let (used, slot) =
            self.places.get_mut(place as usize).filter(|(used, _)| u64::from(*used) == token >> 32)?;
        let future = slot.take()?;
        *used = used.wrapping_add(1);
        self.free.push(place);
        self.count -= 1;
        Some(future)
    }
}

impl Mailbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, token: u64) {
        // Unlocked: what is freed with a future may come back here.
        let future = self.waiting().remove(token);
        drop(future);
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
    call.start(py, Process::current(), Arc::clone(&slot), 0)?;
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
