//! Connections that stay out of the pool from one statement to the next: to give one back costs a round trip.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Postgres;
use sqlx::pool::PoolConnection;

/// One that nobody uses for so long goes back.
pub(super) const LONGEST_REST: Duration = Duration::from_millis(100);
/// So does one that was taken from the pool so long ago: the pool minds its age.
const LONGEST_LOAN: Duration = Duration::from_secs(10);

/// A connection of the pool.
pub(super) struct Lent {
    pub(super) connection: PoolConnection<Postgres>,
    lent_at: Instant,
}

impl Lent {
    pub(super) fn new(connection: PoolConnection<Postgres>) -> Self {
        Lent { connection, lent_at: Instant::now() }
    }
}

/// Connections that rest.
pub(super) struct Kept {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    resting: Vec<(Lent, Instant)>,
    /// Whether somebody gives back what rests too long.
    is_minded: bool,
}

impl Kept {
    /// No more than half of a pool: the application may use the others.
    pub(super) fn of_pool(max_connections: u32) -> Self {
        Kept { most: max_connections as usize / 2, state: Mutex::default() }
    }

    /// Of a pool that is somebody else's none is kept.
    pub(super) fn none() -> Self {
        Kept { most: 0, state: Mutex::default() }
    }

    /// The one that was used last.
    pub(super) fn take(&self) -> Option<Lent> {
        if self.most == 0 {
            return None;
        }
        self.state().resting.pop().map(|(lent, _)| lent)
    }

    /// Keeps a connection, or gives it back to its pool. Whether somebody has to mind what rests from now on.
    pub(super) fn put(&self, lent: Lent) -> bool {
        let now = Instant::now();
        if self.most == 0 || now.duration_since(lent.lent_at) > LONGEST_LOAN {
            return false;
        }
        let mut state = self.state();
        if state.resting.len() >= self.most {
            return false;
        }
        state.resting.push((lent, now));
        !std::mem::replace(&mut state.is_minded, true)
    }

    /// Gives back what rests too long. Whether anything is left.
    pub(super) fn give_back(&self) -> bool {
        let mut state = self.state();
        let late: Vec<_> =
            state.resting.extract_if(.., |(_, since)| since.elapsed() >= LONGEST_REST).collect();
        state.is_minded = !state.resting.is_empty();
        let is_left = state.is_minded;
        drop(state);
        drop(late);
        is_left
    }

    /// Gives everything back.
    pub(super) fn clear(&self) {
        let resting = std::mem::take(&mut self.state().resting);
        drop(resting);
    }

    /// Nobody minds what rests any more: whoever puts a connection here next has to.
    pub(super) fn leave(&self) {
        self.state().is_minded = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    /// Closes them: to be given back they need a runtime, and there may be none.
    fn drop(&mut self) {
        for (lent, _) in std::mem::take(&mut self.state().resting) {
            drop(lent.connection.detach());
        }
    }
}
