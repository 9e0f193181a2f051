//! Where a client's tasks run.

use std::sync::Arc;

use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorCode};

/// The runtime of a client's tasks and connections. A client with a pool of its own has a runtime of its own, on one
/// thread: so its calls may come from any runtime, and none that stops or that nobody drives keeps others waiting.
pub(super) struct Home(Option<Own>);

struct Own {
    handle: Handle,
    stop: Arc<Notify>,
}

impl Home {
    /// The runtime of whoever calls.
    pub(super) fn of_callers() -> Self {
        Home(None)
    }

    pub(super) fn own() -> Result<Self, Error> {
        let failed =
            |e: std::io::Error| Error::new(ErrorCode::Database, format!("cannot start a thread: {e}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("agentkey".to_owned())
            .spawn(move || runtime.block_on(stopped.notified()))
            .map_err(failed)?;
        Ok(Home(Some(Own { handle, stop })))
    }

    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match &self.0 {
            Some(own) => own.handle.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// What is made while the guard lives belongs to this runtime.
    pub(super) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(|own| own.handle.enter())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(own) = &self.0 {
            own.stop.notify_one();
        }
    }
}
