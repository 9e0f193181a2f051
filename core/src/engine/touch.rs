//! `last_used_at`: written in the background, at most once per key and interval, never waited for.

use std::collections::BTreeSet;
use std::time::Duration;

/// More keys than this do not wait: their next use notes them.
const MAX_WAITING: usize = 10_000;
/// After a failed touch there is none for this long, so that a role that may not write costs no second statement a call.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Ids of keys that were used and whose `last_used_at` is old.
#[derive(Debug, Default)]
pub(super) struct Touches {
    waiting: BTreeSet<String>,
    in_flight: bool,
    paused_until: Duration,
}

impl Touches {
    pub(super) fn note(&mut self, id: &str, now: Duration) {
        if self.paused_until <= now && self.waiting.len() < MAX_WAITING && !self.waiting.contains(id) {
            self.waiting.insert(id.to_owned());
        }
    }

    pub(super) fn take(&mut self, max: usize) -> Option<Vec<String>> {
        if self.in_flight || self.waiting.is_empty() {
            return None;
        }
        self.in_flight = true;
        let rest = self.waiting.iter().nth(max).cloned();
        let taken = match rest {
            Some(first_left) => {
                let left = self.waiting.split_off(&first_left);
                std::mem::replace(&mut self.waiting, left)
            }
            None => std::mem::take(&mut self.waiting),
        };
        Some(taken.into_iter().collect())
    }

    pub(super) fn finish(&mut self, failed: bool, now: Duration) {
        self.in_flight = false;
        if failed {
            self.waiting.clear();
            self.paused_until = now + PAUSE_AFTER_FAILURE;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_wait_once_and_go_in_batches() {
        let mut touches = Touches::default();
        for id in ["b", "a", "b", "c"] {
            touches.note(id, Duration::ZERO);
        }
        assert_eq!(touches.take(2).unwrap(), ["a", "b"]);
        assert_eq!(touches.take(2), None);
        touches.finish(false, Duration::ZERO);
        assert_eq!(touches.take(2).unwrap(), ["c"]);
    }

    #[test]
    fn a_failure_is_not_repeated_at_every_use() {
        let mut touches = Touches::default();
        touches.note("a", Duration::ZERO);
        touches.take(9).unwrap();
        touches.finish(true, Duration::ZERO);
        touches.note("a", Duration::from_secs(59));
        assert!(touches.is_idle());
        touches.note("a", Duration::from_secs(60));
        assert!(!touches.is_idle());
    }
}
