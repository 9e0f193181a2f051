//! Faults that nobody waits for: to the log, and to the application.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Gets each message about a fault that nobody waits for.
#[derive(Clone)]
pub(super) struct OnError(pub(super) Arc<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for OnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnError")
    }
}

/// Where they are told.
#[derive(Debug, Clone, Default)]
pub(super) struct Reporter(pub(super) Option<OnError>);

impl Reporter {
    pub(super) fn report(&self, message: &str) {
        log(message);
        let Some(OnError(on_error)) = &self.0 else { return };
        // It may be called while a thread panics: a second panic would end the process.
        if catch_unwind(AssertUnwindSafe(|| on_error(message))).is_err() {
            log("on_error panicked");
        }
    }
}

#[cfg(feature = "tracing")]
fn log(message: &str) {
    tracing::error!(target: "agentkey", "{message}");
}

/// Without the feature there is no log: `on_error` alone hears of it.
#[cfg(not(feature = "tracing"))]
fn log(_: &str) {}
