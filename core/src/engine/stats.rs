//! Names of requests, and counters.

/// Names a request between `submit` and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct Ticket(pub u64);

/// Counters for watching an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Statements sent.
    pub statements: u64,
    /// Requests that wait or are under way.
    pub pending: usize,
    /// Statements that were tried again.
    pub retries: u64,
    /// Background writes of `last_used_at` that failed. They fail no call.
    pub failed_touches: u64,
    /// Keys looked up whose remembered row the database found unchanged.
    pub unchanged_keys: u64,
}
