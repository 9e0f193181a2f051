//! A password that the application answers, because it changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// For so long an answer is good. Connections are opened by threads that never touch Python, so that the application is
/// asked by the calls themselves.
const GOOD_FOR: Duration = Duration::from_secs(10);

pub(crate) struct Password {
    ask: Py<PyAny>,
    asked: Mutex<Option<Instant>>,
    answer: Arc<Mutex<String>>,
}

impl Password {
    pub(crate) fn new(ask: Py<PyAny>) -> Self {
        Password { ask, asked: Mutex::default(), answer: Arc::default() }
    }

    /// What connections are opened with.
    pub(crate) fn answer(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let answer = Arc::clone(&self.answer);
        move || locked(&answer).clone()
    }

    /// Asks the application, if its last answer is old.
    pub(crate) fn renew(&self, py: Python<'_>) -> PyResult<()> {
        if locked(&self.asked).is_some_and(|at| at.elapsed() < GOOD_FOR) {
            return Ok(());
        }
        // Unlocked: it may let other threads run, which call, too.
        let answer: String = self.ask.call0(py)?.extract(py)?;
        *locked(&self.answer) = answer;
        *locked(&self.asked) = Some(Instant::now());
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
