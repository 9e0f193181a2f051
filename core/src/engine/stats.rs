//! Counters for watching an engine, as plain data.

use serde::Serialize;

/// Names a request between `submit` and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct Ticket(pub u64);

/// Counters for watching an engine, since it was made. Nothing in them names a key, so that there are few of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Stats {
    /// Requests that wait or are under way.
    pub pending: usize,
    /// Statements sent.
    pub statements: u64,
    /// Statements that were tried again.
    pub retries: u64,
    /// How often a row that calls needed was found locked by somebody else.
    pub busy_rows: u64,
    /// Statements whose callers' time was over before the database answered.
    pub given_up_statements: u64,
    /// Background writes of `last_used_at` that failed. They fail no call.
    pub failed_touches: u64,
    /// Keys looked up whose remembered row the database found unchanged.
    pub unchanged_keys: u64,
    /// What became of calls, in the order in which it was first seen.
    pub calls: Vec<CallCount>,
    /// Statements by what they are for. Those that were never sent are left out.
    pub families: Vec<FamilyStats>,
}

impl Stats {
    /// The counters as JSON.
    pub fn to_json(&self) -> String {
        // Texts and numbers: nothing that JSON could refuse.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// How many calls of one operation came to one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CallCount {
    /// What was asked for: `validate`, `track_usage`, ...
    pub operation: &'static str,
    /// What became of it.
    pub outcome: CallOutcome,
    /// The reason of a refusal, the code of an error.
    pub reason: Option<&'static str>,
    /// How many.
    pub count: u64,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallOutcome {
    /// It did what was asked.
    Success,
    /// It was refused: of a key that is revoked, say, or a budget without room.
    Refused,
    /// It failed.
    Error,
}

impl CallOutcome {
    /// The outcome's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            CallOutcome::Success => "success",
            CallOutcome::Refused => "refused",
            CallOutcome::Error => "error",
        }
    }
}

/// Statements of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FamilyStats {
    /// `validate`, `charge` (plain charges), `spend` (other charges, and reserves), `settle` (ends of reservations),
    /// `resolve` (finding keys by their ids or former secrets), `admin`, `touch` (`last_used_at`) or `catalogue`.
    pub family: &'static str,
    /// How many calls shared a statement.
    pub batch_sizes: Histogram,
    /// How long a call waited for each of its statements, from when it came, or from the end of its last one, until the
    /// statement was sent. In microseconds.
    pub wait_micros: Histogram,
    /// How long a statement took, from when it was sent, whatever became of it. In microseconds.
    pub statement_micros: Histogram,
}

impl FamilyStats {
    pub(super) fn is_used(&self) -> bool {
        self.batch_sizes.count() > 0 || self.statement_micros.count() > 0
    }
}

/// How values are spread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Histogram {
    /// Upper bounds, included, in rising order.
    pub bounds: &'static [u64],
    /// How many values each bucket has: those up to its bound and above the one before. The last one has no bound.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    pub(super) fn record(&mut self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_the_bucket_whose_bound_it_does_not_pass() {
        let mut histogram = Histogram::new(&[1, 10]);
        for value in [0, 1, 2, 10, 11, u64::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.counts, [2, 2, 2]);
        assert_eq!((histogram.count(), histogram.sum), (6, u64::MAX));
    }
}
