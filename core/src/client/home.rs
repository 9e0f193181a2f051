//! Where a client's tasks run.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::runtime::{Builder, EnterGuard, Handle, RuntimeFlavor};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};

use crate::error::{Error, ErrorCode};

/// The runtime of a client's tasks and connections.
pub(super) enum Home {
    /// That of whoever calls.
    Callers,
    /// The one that a client with a pool of its own was made in, if that has threads of its own. Once it has shut down, a
    /// thread of the client's own.
    Shared(Shared),
    /// A thread of the client's own: a runtime that only moves on while somebody waits in it might keep others waiting.
    Own(Own),
}

pub(super) struct Shared {
    runtime: Handle,
    is_over: AtomicBool,
    /// `None` if no thread could be started.
    own: OnceLock<Option<Own>>,
    sentinel: OnceLock<AbortHandle>,
}

pub(super) struct Own {
    handle: Handle,
    stop: Arc<Notify>,
}

impl Home {
    /// For a client with a pool of its own: its calls may come from any runtime, and none that stops or that nobody
    /// drives keeps others waiting.
    pub(super) fn of_client() -> Result<Self, Error> {
        match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
                let is_over = AtomicBool::new(false);
                Ok(Home::Shared(Shared { runtime, is_over, own: OnceLock::new(), sentinel: OnceLock::new() }))
            }
            _ => Own::start().map(Home::Own),
        }
    }

    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self.handle() {
            Some(handle) => handle.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// Where tasks of doors run; `None` outside of any runtime. A door ends requests also where it is dropped.
    #[cfg(feature = "tower")]
    pub(super) fn runtime(&self) -> Option<Handle> {
        self.handle().cloned().or_else(|| Handle::try_current().ok())
    }

    /// What is made while the guard lives belongs to this runtime.
    pub(super) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.handle().map(Handle::enter)
    }

    /// Whether the runtime that it was made in has shut down, and there is another.
    pub(super) fn has_moved(&self) -> bool {
        matches!(self, Home::Shared(shared) if shared.own().is_some())
    }

    /// Calls `moved` when the runtime that it was made in shuts down.
    pub(super) fn watch(&self, moved: impl FnOnce() + Send + 'static) {
        if let Home::Shared(shared) = self {
            let sentinel = Sentinel(Some(moved));
            let task = shared.runtime.spawn(async move {
                let _sentinel = sentinel;
                pending::<()>().await;
            });
            let _ = shared.sentinel.set(task.abort_handle());
        }
    }

    /// The runtime that it was made in shuts down.
    pub(super) fn leave(&self) {
        if let Home::Shared(shared) = self {
            shared.is_over.store(true, Ordering::SeqCst);
        }
    }

    fn handle(&self) -> Option<&Handle> {
        match self {
            Home::Callers => None,
            Home::Shared(shared) => Some(shared.own().map_or(&shared.runtime, |own| &own.handle)),
            Home::Own(own) => Some(&own.handle),
        }
    }
}

impl Shared {
    fn own(&self) -> Option<&Own> {
        let is_over = self.is_over.load(Ordering::SeqCst);
        is_over.then(|| self.own.get_or_init(|| Own::start().ok()).as_ref())?
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(sentinel) = self.sentinel.get() {
            sentinel.abort();
        }
    }
}

impl Own {
    fn start() -> Result<Self, Error> {
        let failed =
            |e: std::io::Error| Error::new(ErrorCode::Database, format!("cannot start a thread: {e}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("agentkey".to_owned())
            .spawn(move || runtime.block_on(stopped.notified()))
            .map_err(failed)?;
        Ok(Own { handle, stop })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

/// Dropped with the task that holds it: by its runtime when that shuts down.
struct Sentinel<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Sentinel<F> {
    fn drop(&mut self) {
        if let Some(moved) = self.0.take() {
            moved();
        }
    }
}
