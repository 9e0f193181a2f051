//! What the keys of one sequence must be like: what was done to them, and what was spent with them.

use agentkey::{DenialReason, KeyId};

/// Micro-cents of a cent.
pub const CENT: i64 = 1_000_000;

#[derive(Debug, Clone)]
pub struct Key {
    pub id: KeyId,
    pub parent: Option<usize>,
    pub human: String,
    pub name: String,
    pub budget_cents: Option<i64>,
    pub boost_cents: i64,
    /// The largest budget that it had, as long as it always had one.
    pub most_cents: Option<i64>,
    pub period: Option<String>,
    pub is_disabled: bool,
    pub is_revoked: bool,
    pub secret: String,
    /// The one before, while it counts.
    pub former: Option<String>,
    /// Secrets that count no more.
    pub dead: Vec<String>,
    /// Entries of the ledger that say what was done to it.
    pub entries: Entries,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    pub update: i64,
    pub disable: i64,
    pub enable: i64,
    pub rotate: i64,
    pub revoke: i64,
    pub refund: i64,
    pub request_increase: i64,
    pub approve_increase: i64,
    pub deny_increase: i64,
}

impl Entries {
    pub fn counts(&self) -> [(&'static str, i64); 9] {
        [
            ("update", self.update),
            ("disable", self.disable),
            ("enable", self.enable),
            ("rotate", self.rotate),
            ("revoke", self.revoke),
            ("refund", self.refund),
            ("request_increase", self.request_increase),
            ("approve_increase", self.approve_increase),
            ("deny_increase", self.deny_increase),
        ]
    }
}

impl Key {
    /// The budget that counts now.
    pub fn cap(&self) -> Option<i64> {
        self.budget_cents.map(|cents| cents + self.boost_cents)
    }

    pub fn budget_changed(&mut self) {
        self.most_cents = self.most_cents.zip(self.cap()).map(|(most, cap)| most.max(cap));
    }

    pub fn rotated(&mut self, secret: String, counts: bool) {
        self.dead.extend(self.former.take());
        let before = std::mem::replace(&mut self.secret, secret);
        if counts {
            self.former = Some(before);
        } else {
            self.dead.push(before);
        }
        self.entries.rotate += 1;
    }
}

#[derive(Debug, Default)]
pub struct Model {
    pub keys: Vec<Key>,
}

impl Model {
    /// A key and those above it, the nearest first.
    pub fn chain(&self, key: usize) -> Vec<usize> {
        let mut chain = vec![key];
        while let Some(parent) = chain.last().and_then(|last| self.keys[*last].parent) {
            chain.push(parent);
        }
        chain
    }

    pub fn is_below(&self, key: usize, ancestor: usize) -> bool {
        key != ancestor && self.chain(key).contains(&ancestor)
    }

    /// Why a look-up refuses a key, whatever is used.
    pub fn denial(&self, key: usize) -> Option<DenialReason> {
        let chain = self.chain(key);
        if chain.iter().any(|key| self.keys[*key].is_revoked) {
            Some(DenialReason::Revoked)
        } else if chain.iter().any(|key| self.keys[*key].is_disabled) {
            Some(DenialReason::Disabled)
        } else {
            None
        }
    }

    pub fn can_be_charged(&self, key: usize) -> bool {
        self.denial(key) != Some(DenialReason::Revoked)
    }
}
