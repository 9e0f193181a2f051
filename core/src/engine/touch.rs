//! `last_used_at`: written in the background, at most once per key and interval, never waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rows::only_field;
use super::{Engine, Fault, Statement, Work};
use crate::error::Error;
use crate::table::literal::text_array;
use crate::table::template::{StatementKind, Statements};

/// More keys than this do not wait: their next use notes them.
const MAX_WAITING: usize = 10_000;
/// A key whose row is being written is left out; it is tried this often, after growing pauses.
const MAX_ATTEMPTS: u32 = 6;
const PAUSE_AFTER_LEFT_OUT: Duration = Duration::from_millis(20);
/// After a failed touch there is none for this long, so that a role that may not write costs no second statement a call.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Ids of keys that were used and whose `last_used_at` is old, with the attempts to write it.
#[derive(Debug, Default)]
pub(super) struct Touches {
    waiting: BTreeMap<String, u32>,
    in_flight: Option<BTreeMap<String, u32>>,
    paused_until: Duration,
    failing_until: Duration,
}

impl Touches {
    pub(super) fn note(&mut self, id: &str, now: Duration) {
        let is_known = || {
            self.waiting.contains_key(id) || self.in_flight.as_ref().is_some_and(|ids| ids.contains_key(id))
        };
        if self.failing_until <= now && self.waiting.len() < MAX_WAITING && !is_known() {
            self.waiting.insert(id.to_owned(), 0);
        }
    }

    pub(super) fn take(&mut self, now: Duration, max: usize) -> Option<Vec<String>> {
        if !self.is_ready(now) {
            return None;
        }
        let first_left = self.waiting.keys().nth(max).cloned();
        let left = first_left.map(|id| self.waiting.split_off(&id)).unwrap_or_default();
        let taken = std::mem::replace(&mut self.waiting, left);
        let ids = taken.keys().cloned().collect();
        self.in_flight = Some(taken);
        Some(ids)
    }

    pub(super) fn is_ready(&self, now: Duration) -> bool {
        self.in_flight.is_none() && !self.waiting.is_empty() && self.paused_until <= now
    }

    pub(super) fn end_pause(&mut self, now: Duration) {
        if self.paused_until <= now {
            self.paused_until = Duration::ZERO;
        }
    }

    /// Takes the ids that were left out.
    pub(super) fn finish<'i>(&mut self, now: Duration, left_out: impl IntoIterator<Item = &'i str>) {
        let sent = self.in_flight.take().unwrap_or_default();
        for id in left_out {
            let attempts = sent.get(id).copied().unwrap_or(MAX_ATTEMPTS) + 1;
            if attempts < MAX_ATTEMPTS {
                self.waiting.insert(id.to_owned(), attempts);
                self.paused_until = self.paused_until.max(now + PAUSE_AFTER_LEFT_OUT * (1 << attempts));
            }
        }
    }

    pub(super) fn fail(&mut self, now: Duration) {
        self.in_flight = None;
        self.waiting.clear();
        self.failing_until = now + PAUSE_AFTER_FAILURE;
    }

    /// When those that were left out are tried again.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        let is_pausing =
            self.in_flight.is_none() && !self.waiting.is_empty() && self.paused_until > Duration::ZERO;
        is_pausing.then_some(self.paused_until)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.waiting.is_empty()
    }
}

impl Engine {
    pub(super) fn poll_touch(&mut self, now: Duration, statements: &Statements) -> Option<Statement> {
        let ids = self.touches.take(now, self.options.max_batch)?;
        let seconds = self.options.touch_interval_seconds.unwrap_or_default().to_string();
        let params = vec![Some(text_array(ids)), Some(seconds)];
        let sql = statements.sql(StatementKind::Touch);
        Some(self.send(StatementKind::Touch, sql, params, Work::Touch))
    }

    pub(super) fn receive_touch(&mut self, now: Duration, result: Result<&[String], Fault>) {
        // What the server does not let us write, it will not the next time.
        if matches!(&result, Err(fault) if matches!(fault.sqlstate(), Some("25006" | "42501"))) {
            self.options.touch_interval_seconds = None;
        }
        let left_out = result.map_err(|fault| fault.error()).and_then(|rows| {
            let ids: Option<Vec<_>> = rows.iter().map(|row| only_field(row)).collect();
            ids.ok_or_else(|| Error::unexpected("a key's id"))
        });
        match left_out {
            Ok(ids) => self.touches.finish(now, ids.iter().map(|id| &**id)),
            Err(error) => {
                self.meter.failed_touches += 1;
                self.meter.report(format!("last_used_at was not written: {error}"));
                self.touches.fail(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::ZERO;

    #[test]
    fn ids_wait_once_and_go_in_batches() {
        let mut touches = Touches::default();
        for id in ["b", "a", "b", "c"] {
            touches.note(id, START);
        }
        assert_eq!(touches.take(START, 2).unwrap(), ["a", "b"]);
        touches.note("a", START);
        assert_eq!(touches.take(START, 2), None);
        touches.finish(START, []);
        assert_eq!(touches.take(START, 2).unwrap(), ["c"]);
    }

    #[test]
    fn a_row_that_was_left_out_is_tried_again_but_not_for_ever() {
        let mut touches = Touches::default();
        touches.note("a", START);
        let mut now = START;
        let mut attempts = 0;
        while let Some(ids) = touches.take(now, 9) {
            attempts += 1;
            touches.finish(now, ids.iter().map(String::as_str));
            assert!(touches.is_idle() || touches.take(now, 9).is_none());
            now = touches.next_retry().unwrap_or(now);
        }
        assert_eq!(attempts, MAX_ATTEMPTS);
        assert!(touches.is_idle());
    }

    #[test]
    fn a_failure_is_not_repeated_at_every_use() {
        let mut touches = Touches::default();
        touches.note("a", START);
        touches.take(START, 9).unwrap();
        touches.fail(START);
        touches.note("a", Duration::from_secs(59));
        assert!(touches.is_idle());
        touches.note("a", Duration::from_secs(60));
        assert!(!touches.is_idle());
    }
}
