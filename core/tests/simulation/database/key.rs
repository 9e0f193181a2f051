//! A row of the keys table, and how a statement finds it.

use agentkey::engine::{MAX_CENTS, MICROCENTS_PER_CENT};

use super::Money;

/// A budget or a use further below nothing counts as this.
const MAX_CREDIT_CENTS: i64 = 1_000_000_000_000;

/// A row of the keys table. Money is in micro-cents, times are seconds.
#[derive(Debug, Clone)]
pub struct Key {
    pub id: i64,
    /// The hash or subject: what the row is looked up by.
    pub lookup: String,
    pub name: String,
    /// The only scope that it has; `None` is every scope.
    pub scope: Option<&'static str>,
    pub budget_cents: Option<i64>,
    /// What the budget is raised by, and until when.
    pub boost: Option<(i64, i64)>,
    pub used: i64,
    /// Somebody who knows only cents has reset it since: its fraction of a cent is over.
    pub is_stale: bool,
    pub reserved: i64,
    /// What others hold, of which the model knows nothing more.
    pub reserved_before: i64,
    /// Ids, nearest first: its limits, then its parent and what is above that one.
    pub ancestors: Vec<i64>,
    /// Of a limit, which is no key: what a charge does that would pass it.
    pub when_exceeded: Option<&'static str>,
    pub period: Option<Period>,
    pub reset_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub revoked: bool,
    pub last_used_at: Option<i64>,
}

/// A budget period. Resets are at the anchor and every so many seconds after it.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    pub name: &'static str,
    pub seconds: i64,
    pub anchor: i64,
}

impl Period {
    pub fn named(name: &str, anchor: i64) -> Option<Self> {
        let of_seconds = |name, seconds| Some(Period { name, seconds, anchor });
        match name {
            "hour" => of_seconds("hour", 3_600),
            "day" => of_seconds("day", 86_400),
            "week" => of_seconds("week", 604_800),
            "5m" => of_seconds("5m", 300),
            "36h" => of_seconds("36h", 129_600),
            _ => None,
        }
    }

    fn number(&self, now: i64) -> i64 {
        (now - self.anchor).div_euclid(self.seconds)
    }

    pub fn next_reset(&self, now: i64) -> i64 {
        self.anchor + (self.number(now) + 1) * self.seconds
    }
}

/// A key as a statement finds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    pub id: i64,
    /// The only scope that it has; `None` is every scope.
    pub scope: Option<&'static str>,
    pub revoked: bool,
    pub expired: bool,
    /// Whether its budget, or that of an ancestor, is used up.
    pub exhausted: bool,
    pub budget_cents: Option<i64>,
    /// Used in this period, also where the reset is not written yet.
    pub used: i64,
    pub reserved: i64,
    /// Which period this is, counted from the anchor.
    pub period: i64,
}

impl View {
    /// What limits the key: its budget, or what can be stored.
    pub fn cap(&self) -> i64 {
        self.budget_cents.map_or(MAX_CENTS, |cents| cents.clamp(-MAX_CREDIT_CENTS, MAX_CENTS))
            * MICROCENTS_PER_CENT
    }

    /// What can be stored, whatever the budget.
    pub fn storable(&self) -> i64 {
        MAX_CENTS * MICROCENTS_PER_CENT
    }

    pub fn is_over(&self) -> bool {
        self.used + self.reserved > self.cap()
    }

    /// The first reason to refuse the key, as look-ups name it.
    pub fn denial(&self) -> Option<&'static str> {
        match self {
            View { revoked: true, .. } => Some("revoked"),
            View { expired: true, .. } => Some("expired"),
            View { exhausted: true, .. } => Some("budget_exceeded"),
            _ => None,
        }
    }
}

impl Key {
    /// The same as a limit of a key: it has a budget and a period, and nothing else.
    pub fn into_limit(self) -> Self {
        let when_exceeded = Some("refuse");
        Key { scope: None, expires_at: None, revoked: false, last_used_at: None, when_exceeded, ..self }
    }

    pub fn is_due(&self, now: i64) -> bool {
        self.period.is_some() && self.reset_at.is_some_and(|at| at <= now)
    }

    pub fn cents(&self) -> i64 {
        self.used / MICROCENTS_PER_CENT
    }

    /// What counts of it beyond whole cents.
    pub fn fraction(&self) -> i64 {
        if self.is_stale { 0 } else { self.used % MICROCENTS_PER_CENT }
    }

    /// Whether a reset may be due: the plain statements cannot tell.
    pub fn may_be_due(&self, now: i64) -> bool {
        self.reset_at.is_some_and(|at| at <= now)
    }

    /// The budget with what it is raised by.
    pub fn budget(&self, now: i64) -> Option<i64> {
        let cents = self.budget_cents?;
        let room = MAX_CENTS - cents.clamp(-MAX_CREDIT_CENTS, MAX_CENTS);
        let boost = self.boost.filter(|(_, until)| *until > now).map_or(0, |(boost, _)| boost);
        Some(cents + boost.min(room).max(0))
    }

    pub fn money(&self, now: i64) -> Money {
        let view = self.own_view(now);
        (view.budget_cents, view.used, view.reserved)
    }

    /// The key as if it had no ancestors.
    pub fn own_view(&self, now: i64) -> View {
        let used = if self.is_due(now) { 0 } else { self.cents() * MICROCENTS_PER_CENT + self.fraction() };
        View {
            id: self.id,
            scope: self.scope,
            revoked: self.revoked,
            expired: self.expires_at.is_some_and(|at| at <= now),
            budget_cents: self.budget(now),
            exhausted: self
                .budget(now)
                .is_some_and(|cents| used >= cents.saturating_mul(MICROCENTS_PER_CENT)),
            used,
            reserved: self.reserved,
            period: self.period.map_or(0, |period| period.number(now)),
        }
    }

    pub fn write_used(&mut self, used: i64, now: i64) {
        if self.is_due(now) {
            self.reset_at = self.period.map(|period| period.next_reset(now));
        }
        self.used = used;
        self.is_stale = false;
    }
}
