//! Requests that a door let pass, and whose ends are still to be recorded: what was spent must not be lost when the
//! client is closed first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::report::Reporter;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls are answered when the driver is closed: all that is left to do is to report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// A request whose end is not recorded yet.
pub(crate) trait OpenRequest: Send + Sync {
    /// The client is closed. Reports what that leaves, unless it is being recorded already: that goes on.
    fn abandon(&self);
}

/// Those of one client.
pub(crate) struct Ends {
    close_timeout: Duration,
    reporter: Reporter,
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Default)]
struct Open {
    last: u64,
    /// `None` until the request passes.
    requests: HashMap<u64, Option<Weak<dyn OpenRequest>>>,
}

impl Ends {
    pub(super) fn new(close_timeout: Option<Duration>, reporter: Reporter) -> Self {
        Ends {
            close_timeout: close_timeout.unwrap_or(CLOSE_TIMEOUT),
            reporter,
            open: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// A request is about to be admitted. It is open until the ticket is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> EndTicket {
        let mut open = self.open();
        open.last += 1;
        let id = open.last;
        open.requests.insert(id, None);
        EndTicket { ends: Arc::clone(self), id }
    }

    /// Tells the log and the application of a fault that nobody waits for.
    pub(crate) fn report(&self, message: &str) {
        self.reporter.report(message);
    }

    /// Waits for all that are open. What has not ended in time is abandoned.
    pub(super) async fn wait(&self) {
        self.closed_within(self.close_timeout).await;
        let late: Vec<_> = self.open().requests.values().flatten().filter_map(Weak::upgrade).collect();
        late.iter().for_each(|request| request.abandon());
    }

    /// What was being recorded when the driver was closed has its answer: whoever waits for it reports what it is.
    pub(super) async fn wait_for_reports(&self) {
        self.closed_within(REPORT_TIMEOUT).await;
    }

    async fn closed_within(&self, limit: Duration) {
        // Without requests it needs no timer, which the caller's runtime may lack.
        if !self.open().requests.is_empty() {
            // Whether its time is over is seen by what is still open.
            let _ = timeout(limit, self.closed()).await;
        }
    }

    async fn closed(&self) {
        loop {
            let changed = self.changed.notified();
            if self.open().requests.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open request.
pub(crate) struct EndTicket {
    ends: Arc<Ends>,
    id: u64,
}

impl EndTicket {
    /// The request passed.
    pub(crate) fn pass(&self, request: Weak<dyn OpenRequest>) {
        self.ends.open().requests.insert(self.id, Some(request));
    }
}

impl Drop for EndTicket {
    fn drop(&mut self) {
        self.ends.open().requests.remove(&self.id);
        self.ends.changed.notify_waiters();
    }
}
