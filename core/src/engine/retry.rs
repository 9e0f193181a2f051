//! Which failed statements are tried again, and when.

use std::time::Duration;

use super::Engine;
use crate::statement::Fault;

/// What the database said of a failed statement. With a SQLSTATE it certainly had no effect; without, nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It lost against concurrent ones.
    Aborted,
    /// The table is not as the catalogue said: somebody changed it meanwhile.
    Outdated,
    /// Another attempt would do no better, or might do the same thing twice.
    Final,
}

impl Failure {
    pub(super) fn of(fault: &Fault) -> Self {
        match fault.sqlstate.as_deref().unwrap_or_default() {
            // serialization_failure, deadlock_detected, lock_not_available
            "40001" | "40P01" | "55P03" => Failure::Aborted,
            // undefined_column, undefined_table
            "42703" | "42P01" => Failure::Outdated,
            _ => Failure::Final,
        }
    }

    /// Whether a request that was tried so often is tried again.
    pub(super) fn may_be_retried(self, attempts: u32, max_attempts: u32) -> bool {
        match self {
            Failure::Aborted => attempts < max_attempts,
            Failure::Outdated => attempts == 1,
            Failure::Final => false,
        }
    }
}

impl Engine {
    /// Notes that a statement is tried again, after this many attempts. Answers when.
    pub(super) fn retry_at(&mut self, now: Duration, failure: Failure, attempts: u32) -> Duration {
        self.stats.retries += 1;
        if failure == Failure::Outdated {
            self.forget_table();
            return now;
        }
        now + self.retry_delay(attempts)
    }

    /// 5 ms, doubling, each spread over half to one and a half of it.
    pub(super) fn retry_delay(&mut self, attempts: u32) -> Duration {
        let base = 5_000u64 << attempts.min(10);
        // SplitMix64: enough to keep engines from retrying in step.
        let mut z = self.options.seed ^ self.next_id().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Duration::from_micros(base / 2 + (z ^ (z >> 31)) % base)
    }
}
