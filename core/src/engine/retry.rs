//! Which failed statements are tried again, and when.

use std::time::Duration;

use super::batch::Pending;
use super::{Engine, Fault};
use crate::error::Effect;

/// How far a request is repeated through faults that may have let it take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Repeats {
    /// Not at all: a second attempt might do the same thing twice.
    Never,
    /// A few times: it changes nothing, and its caller would rather hear of a database that is down.
    Few,
    /// Until its time is over: money depends on it, and a second attempt does nothing twice.
    UntilDeadline,
}

/// Requests that wait in a lane.
pub(super) trait Repeatable {
    /// See [`Repeats`].
    fn repeats(&self) -> Repeats;
}

/// So many conflicts in a row end a call: with many writers a few are nothing unusual.
const MAX_CONFLICTS: u32 = 20;
/// Their pauses stop growing sooner, at 20 ms: they are one key's, and whoever waits longer meets the next writer as well.
const LONGEST_PAUSE_OF_CONFLICTS: u32 = 2;
/// Pauses stop growing after so many attempts, at about a third of a second.
const LONGEST_PAUSE: u32 = 6;

impl Engine {
    /// Whether a request whose statement failed is sent again. Counts the attempt.
    pub(super) fn may_be_repeated<T: Repeatable>(&self, request: &mut Pending<T>, fault: &Fault) -> bool {
        request.attempts += 1;
        let is_uncertain = fault.effect() == Effect::Unknown;
        request.is_uncertain |= is_uncertain;
        if fault.is_outdated() {
            return request.attempts == 1;
        }
        let is_transient = fault.is_transient() || fault.is_duplicate();
        let most = self.options.max_attempts;
        let has_attempts =
            request.attempts < if fault.is_conflict() { MAX_CONFLICTS.max(most) } else { most };
        match request.work.repeats() {
            Repeats::Never => is_transient && !is_uncertain && has_attempts,
            Repeats::Few => (is_transient || is_uncertain) && has_attempts,
            Repeats::UntilDeadline => is_transient || is_uncertain,
        }
    }

    /// Notes that a statement is tried again, after this many attempts. Answers when.
    pub(super) fn retry_at(&mut self, now: Duration, fault: &Fault, attempts: u32) -> Duration {
        self.meter.retried(attempts, fault);
        if fault.is_outdated() {
            self.forget_table();
            return now;
        }
        let most = if fault.is_conflict() { LONGEST_PAUSE_OF_CONFLICTS } else { LONGEST_PAUSE };
        now + self.retry_delay(attempts.min(most))
    }

    /// 5 ms, doubling, each spread over half to one and a half of it.
    pub(super) fn retry_delay(&mut self, attempts: u32) -> Duration {
        let base = 5_000u64 << attempts.min(LONGEST_PAUSE);
        // SplitMix64: enough to keep engines from retrying in step.
        let mut z = self.options.seed ^ self.next_id().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Duration::from_micros(base / 2 + (z ^ (z >> 31)) % base)
    }
}
