//! What an engine counts as it goes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::operation::Operation;
use super::stats::{CallCount, CallOutcome, FamilyStats, Histogram, Stats};
use super::{Answer, Engine, Fault, StatementId, Work};
use crate::error::Error;

const BATCH_SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
/// From a tenth of a millisecond to a minute.
const MICROS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 60_000_000,
];
/// A driver that takes none keeps the first ones.
const MAX_REPORTS: usize = 100;

/// Tells a subscriber of `tracing`, where there is one.
#[cfg(feature = "tracing")]
macro_rules! event {
    ({ $($field:tt)* }, $message:literal) => { tracing::debug!(target: "agentkey", { $($field)* }, $message) };
}
#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($($event:tt)*) => {};
}

/// What a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Validate,
    Charge,
    Spend,
    Settle,
    Resolve,
    Admin,
    Touch,
    Catalogue,
}

impl Family {
    const ALL: [Family; 8] = [
        Family::Validate,
        Family::Charge,
        Family::Spend,
        Family::Settle,
        Family::Resolve,
        Family::Admin,
        Family::Touch,
        Family::Catalogue,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Family::Validate => "validate",
            Family::Charge => "charge",
            Family::Spend => "spend",
            Family::Settle => "settle",
            Family::Resolve => "resolve",
            Family::Admin => "admin",
            Family::Touch => "touch",
            Family::Catalogue => "catalogue",
        }
    }

    const fn of(work: &Work) -> Family {
        match work {
            Work::Validate(..) => Family::Validate,
            Work::Charge(..) => Family::Charge,
            Work::Spend(..) => Family::Spend,
            Work::Change(..) => Family::Settle,
            Work::Resolve(..) => Family::Resolve,
            Work::Admin(..) => Family::Admin,
            Work::Touch => Family::Touch,
            Work::Catalogue(_) | Work::Refresh(_) => Family::Catalogue,
        }
    }
}

/// How the calls of one operation ended. Reasons are of closed lists: there is a handful of each.
#[derive(Debug, Clone, Default)]
struct Ends {
    successes: u64,
    others: Vec<(CallOutcome, &'static str, u64)>,
}

/// The counters.
#[derive(Debug)]
pub(super) struct Meter {
    statements: u64,
    retries: u64,
    busy_rows: u64,
    given_up_statements: u64,
    pub(super) failed_touches: u64,
    pub(super) unchanged_keys: u64,
    ends: Vec<Ends>,
    families: Vec<FamilyStats>,
    /// Statements that the driver has not reported on, and when they were sent.
    sent: BTreeMap<StatementId, (Family, Duration)>,
    /// Faults that nobody waits for.
    reports: Vec<String>,
}

impl Meter {
    pub(super) fn new() -> Self {
        let family = |family: Family| FamilyStats {
            family: family.as_str(),
            batch_sizes: Histogram::new(BATCH_SIZES),
            wait_micros: Histogram::new(MICROS),
            statement_micros: Histogram::new(MICROS),
        };
        Meter {
            statements: 0,
            retries: 0,
            busy_rows: 0,
            given_up_statements: 0,
            failed_touches: 0,
            unchanged_keys: 0,
            ends: vec![Ends::default(); Operation::ALL.len()],
            families: Family::ALL.map(family).to_vec(),
            sent: BTreeMap::new(),
            reports: Vec::new(),
        }
    }

    /// A statement is on its way.
    pub(super) fn sent(&mut self, id: StatementId, work: &Work, now: Duration) {
        self.statements += 1;
        self.sent.insert(id, (Family::of(work), now));
    }

    /// It is not yet.
    pub(super) fn held(&mut self, id: StatementId) {
        self.statements -= u64::from(self.sent.remove(&id).is_some());
    }

    /// The database has answered a statement, or never will.
    pub(super) fn over(&mut self, id: StatementId, now: Duration) {
        if let Some((family, sent_at)) = self.sent.remove(&id) {
            self.families[family as usize].statement_micros.record(micros(now.saturating_sub(sent_at)));
        }
    }

    /// What the calls of a statement have waited for it. What comes next is waited for from now on.
    pub(super) fn waited(&mut self, id: StatementId, work: &mut Work, now: Duration) {
        let Some((family, sent_at)) = self.sent.get(&id).copied() else { return };
        let Some(callers) = work.callers() else { return };
        let family = &mut self.families[family as usize];
        let mut calls = 0;
        callers.each_queued(&mut |queued_at| {
            let since = std::mem::replace(queued_at, now);
            family.wait_micros.record(micros(sent_at.saturating_sub(since)));
            calls += 1;
        });
        family.batch_sizes.record(calls);
    }

    pub(super) fn answered(&mut self, operation: Operation, answer: &Result<Answer, Error>) {
        match answer.as_ref().map(Answer::refusal) {
            Ok(None) => self.ends[operation as usize].successes += 1,
            Ok(Some(reason)) => self.ended(operation, CallOutcome::Refused, reason),
            Err(error) => self.ended(operation, CallOutcome::Error, error.code().as_str()),
        }
    }

    /// A call did not do what was asked.
    pub(super) fn ended(&mut self, operation: Operation, outcome: CallOutcome, reason: &'static str) {
        let ends = &mut self.ends[operation as usize];
        match ends.others.iter_mut().find(|(o, r, _)| (*o, *r) == (outcome, reason)) {
            Some((_, _, count)) => *count += 1,
            None => ends.others.push((outcome, reason, 1)),
        }
    }

    /// A statement is tried again.
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "only traced"))]
    pub(super) fn retried(&mut self, attempts: u32, fault: &Fault) {
        self.retries += 1;
        event!({ attempts, sqlstate = fault.sqlstate() }, "a statement failed and is tried again");
    }

    /// A row was found locked.
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "only traced"))]
    pub(super) fn found_busy(&mut self, row: Option<&str>) {
        self.busy_rows += 1;
        event!({ agentkey.key.id = row }, "somebody else has a row locked: it is looked at again");
    }

    /// Nobody waits for a statement any more that was sent.
    pub(super) fn gave_up(&mut self, id: StatementId) {
        if let Some((_family, _)) = self.sent.get(&id) {
            self.given_up_statements += 1;
            event!({ agentkey.family = _family.as_str() }, "a statement took longer than its callers wait");
        }
    }

    /// A fault that nobody waits for.
    pub(super) fn report(&mut self, message: String) {
        if self.reports.len() < MAX_REPORTS {
            self.reports.push(message);
        }
    }

    fn stats(&self, pending: usize) -> Stats {
        let ends = Operation::ALL.iter().zip(&self.ends);
        let calls = ends.flat_map(|(operation, ends)| {
            let count =
                |outcome, reason, count| CallCount { operation: operation.as_str(), outcome, reason, count };
            let successes = (ends.successes > 0).then(|| count(CallOutcome::Success, None, ends.successes));
            let others = ends.others.iter().map(move |&(o, reason, n)| count(o, Some(reason), n));
            successes.into_iter().chain(others)
        });
        Stats {
            pending,
            statements: self.statements,
            retries: self.retries,
            busy_rows: self.busy_rows,
            given_up_statements: self.given_up_statements,
            failed_touches: self.failed_touches,
            unchanged_keys: self.unchanged_keys,
            calls: calls.collect(),
            families: self.families.iter().filter(|family| family.is_used()).cloned().collect(),
        }
    }
}

impl Engine {
    /// Counters.
    pub fn stats(&self) -> Stats {
        self.meter.stats(self.pending)
    }

    /// How many requests wait or are under way.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Faults that no caller is told of, for people: of writes of `last_used_at`, and of sweeps of the engine's own. A
    /// driver asks after `poll`, `receive` and `expire`, and tells the application. No message has a raw key.
    pub fn reports(&mut self) -> Vec<String> {
        std::mem::take(&mut self.meter.reports)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
