//! What the schedules met. A simulation in which no time runs out proves nothing about time limits.

use std::collections::BTreeMap;

/// What has to happen now and then: a kind, and which of it.
const EXPECTED: &[(&str, &str)] = &[
    ("validate", "granted"),
    ("validate", "invalid"),
    ("validate", "revoked"),
    ("validate", "expired"),
    ("validate", "budget_exceeded"),
    ("charge", "recorded"),
    ("charge", "invalid_key"),
    ("charge", "budget_exceeded"),
    ("spend", "held"),
    ("spend", "recorded"),
    ("spend", "recorded past the cap"),
    ("spend", "replayed"),
    ("spend", "decided anew"),
    ("spend", "already_settled"),
    ("spend", "invalid_key"),
    ("spend", "revoked"),
    ("spend", "expired"),
    ("spend", "insufficient_scope"),
    ("spend", "budget_exceeded"),
    ("spend", "of a whole chain"),
    ("spend", "tried again"),
    ("settle", "recorded"),
    ("settle", "replayed"),
    ("settle", "released before"),
    ("settle", "unknown"),
    ("release", "given back"),
    ("extend", "extended"),
    ("sweep", "ended a reservation"),
    ("revoke", "revoked"),
    ("revoke", "nothing"),
    ("create", "created"),
    ("subject", "there now"),
    ("subject", "there before"),
    ("migrate", "migrated"),
    ("error", "database"),
    ("error", "timeout"),
    ("error", "migration_required"),
    ("error", "overloaded"),
    ("error", "closed"),
    ("statement", "shared by charges of one key"),
    ("statement", "shared by charges of several keys"),
    ("statement", "sent by an engine that is gone"),
    ("statement", "outlived by the callers' time"),
    ("statement", "left a locked row out"),
    ("statement", "waited for a locked row"),
    ("statement", "left out, for somebody is gone"),
    ("statement", "asked what changed"),
    ("reply", "for an engine that is gone"),
    ("fault", "aborted"),
    ("fault", "refused for one row"),
    ("fault", "never sent"),
    ("fault", "reply lost"),
    ("fault", "cut off after execution"),
    ("fault", "cut off and no execution"),
    ("fault", "request lost"),
    ("fault", "no reply after execution"),
    ("fault", "no reply and no execution"),
    ("engine", "restarted"),
    ("caller", "gone before its statement was sent"),
    ("caller", "gone after its statement was sent"),
    ("database", "charged by another client"),
    ("database", "a period ended"),
    ("database", "a budget was used to the last"),
];

#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<(&'static str, &'static str), u64>);

impl Coverage {
    pub fn count(&mut self, kind: &'static str, which: &'static str) {
        *self.0.entry((kind, which)).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Coverage) {
        for (event, count) in &other.0 {
            *self.0.entry(*event).or_default() += count;
        }
    }

    pub fn of(&self, kind: &'static str, which: &'static str) -> u64 {
        self.0.get(&(kind, which)).copied().unwrap_or_default()
    }

    /// What never happened though it should.
    pub fn missing(&self) -> Vec<(&'static str, &'static str)> {
        EXPECTED.iter().copied().filter(|event| !self.0.contains_key(event)).collect()
    }
}
