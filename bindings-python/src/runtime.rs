//! What exists once per process: the tokio runtime, and each client's pool.

use std::mem;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use once_cell::unsync::OnceCell;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

/// Statements and rows need little of a processor beside the interpreter itself.
const WORKER_THREADS: usize = 1;

static RUNTIME: PerProcess<Runtime> = PerProcess::new();

/// The runtime of this process.
pub(crate) fn handle(process: Process) -> PyResult<Handle> {
    let runtime = RUNTIME.get_or_try_init(process, || {
        Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("agentkey")
            .enable_all()
            .build()
            .map_err(|e| PyRuntimeError::new_err(format!("cannot start threads: {e}")))
    })?;
    Ok(runtime.handle().clone())
}

/// A process, by its id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// The one that this is. A system call.
    pub(crate) fn current() -> Self {
        Process(process::id())
    }
}

/// A value that is made when it is first needed, and once more in a forked child: threads do not survive a fork, and
/// connections must not be shared across one. The parent's is never dropped there: it may be locked by a thread that
/// does not exist, and its sockets are the parent's.
///
/// The process id tells them apart. Servers that fork by themselves (uWSGI) do not run `os.register_at_fork`'s hooks.
///
/// Locked by threads that hold the interpreter's lock and keep it, so never while another one forks.
pub(crate) struct PerProcess<T>(Mutex<Slot<T>>);

struct Slot<T> {
    process: Option<Process>,
    value: OnceCell<Arc<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess(Mutex::new(Slot { process: None, value: OnceCell::new() }))
    }

    pub(crate) fn get_or_try_init(
        &self,
        process: Process,
        make: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<Arc<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.leave_parent_behind(process);
        slot.value.get_or_try_init(|| make().map(Arc::new)).cloned()
    }

    pub(crate) fn get(&self) -> Option<Arc<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.leave_parent_behind(Process::current());
        slot.value.get().cloned()
    }
}

impl<T> Slot<T> {
    fn leave_parent_behind(&mut self, process: Process) {
        if self.process != Some(process) {
            self.process = Some(process);
            mem::forget(mem::take(&mut self.value));
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).leave_parent_behind(Process::current());
    }
}
