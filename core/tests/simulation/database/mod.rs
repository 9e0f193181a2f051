//! A model of the database: every statement of the engine as one atomic step, as its file in `src/table/sql` says.
//! Periods are those of a fixed length; calendars are for the tests on a real Postgres.

mod charges;
mod key;
mod lookups;
mod reservations;
mod spends;
pub mod text;

use agentkey::engine::{Statement, StatementKind};

pub use key::{Key, Period, View};
pub use reservations::Companions;
pub use spends::Spent;
use text::{array, number, optional};

/// Money of a key after an operation: budget in cents, used and reserved in micro-cents.
pub type Money = (Option<i64>, i64, i64);

/// What a statement read and did, for the promises.
#[derive(Debug)]
pub enum Effect {
    /// A look-up; `None` if there is no such key.
    Read { lookup: String, view: Option<View> },
    /// Charges were decided, in ascending order of their costs, or all that a key was charged. `before` is the key before them, `None` if there is no
    /// live key; `after` is what is used after them.
    Charged { lookup: String, costs: Vec<i64>, before: Option<View>, after: i64 },
    /// A spend was decided.
    Spent(Spent),
    /// A reservation was found; what it became, if it changed.
    Finished { changed_to: Option<&'static str> },
    /// Nothing was decided: somebody else has locked a row.
    Busy,
    /// A plain statement for one key left the decision to the general one.
    Undecided,
    /// A row was inserted.
    Inserted,
    /// A subject had its row already.
    InsertedBefore,
    /// Anything that no promise is about.
    Other,
}

/// The database: its clock and the keys table.
#[derive(Clone)]
pub struct Database {
    pub now: i64,
    pub keys: Vec<Key>,
    /// Whether the table has all columns, or only those of the original package before its own migration.
    pub migrated: bool,
    pub companions: Companions,
    /// A row that somebody else has locked while a statement runs.
    pub locked: Option<i64>,
}

impl Database {
    pub fn find(&self, lookup: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.lookup == lookup)
    }

    /// A key that is there.
    fn by_id(&self, id: i64) -> &Key {
        self.keys.iter().find(|key| key.id == id).expect("a key")
    }

    /// The ids of a key and its ancestors, nearest first.
    pub fn chain_of(&self, key: &Key) -> Vec<i64> {
        std::iter::once(key.id).chain(key.ancestors.iter().copied()).collect()
    }

    /// The key that a row of a chain is, or limits.
    fn owner_in(&self, chain: &[i64], row: i64) -> i64 {
        let place = chain.iter().position(|id| *id == row).expect("a row of the chain");
        let keys = chain[..=place].iter().rev().copied();
        keys.into_iter().find(|id| self.by_id(*id).when_exceeded.is_none()).expect("a key")
    }

    /// The lookups of a key and its ancestors, nearest first.
    pub fn lookups_of_chain(&self, key: &Key) -> Vec<String> {
        self.chain_of(key).into_iter().map(|id| self.by_id(id).lookup.clone()).collect()
    }

    /// A key with what its ancestors mean for it.
    pub fn view(&self, lookup: &str) -> Option<View> {
        self.find(lookup).map(|key| self.view_of(key))
    }

    fn view_of(&self, key: &Key) -> View {
        let mut view = key.own_view(self.now);
        for ancestor in key.ancestors.iter().map(|id| self.by_id(*id).own_view(self.now)) {
            view.revoked |= ancestor.revoked;
            view.expired |= ancestor.expired;
            view.exhausted |= ancestor.exhausted;
        }
        view
    }

    /// Whether a statement moves money on a row.
    pub fn draws_on(&self, statement: &Statement, id: i64) -> bool {
        let first = statement.params.first().and_then(|param| param.as_deref()).unwrap_or_default();
        let keys: Vec<&Key> = match statement.kind {
            StatementKind::ChargeOne => self.find(first).into_iter().collect(),
            StatementKind::ChargeMany
            | StatementKind::ChargeContended
            | StatementKind::ChargeBatch
            | StatementKind::ChargeTree
            | StatementKind::ChargeTreeContended
            | StatementKind::SpendFlat
            | StatementKind::SpendFresh
            | StatementKind::Spend => array(first).iter().filter_map(|lookup| self.find(lookup)).collect(),
            StatementKind::SettleFlat | StatementKind::Settle => {
                let reservations = array(first);
                let found = reservations.iter().filter_map(|id| self.reservation(id));
                found.map(|reservation| self.by_id(reservation.key)).collect()
            }
            _ => Vec::new(),
        };
        keys.into_iter().any(|key| self.chain_of(key).contains(&id))
    }

    /// Whether somebody else has locked a row that a statement needs. The one that it waits for is free by then.
    fn is_locked(&self, id: i64, waits_for: &str) -> bool {
        self.locked == Some(id) && waits_for != id.to_string()
    }

    /// Runs a statement: its rows, and what it did. `locked`: the id of a row that somebody else has locked for the
    /// moment.
    pub fn execute(&mut self, statement: &Statement, locked: Option<i64>) -> (Vec<String>, Vec<Effect>) {
        self.locked = locked;
        let params: Vec<&str> = statement.params.iter().map(|p| p.as_deref().unwrap_or_default()).collect();
        match (statement.kind, params.as_slice()) {
            (StatementKind::Catalogue, _) => (self.catalogue(), vec![Effect::Other]),
            (StatementKind::Validate, [lookups]) => self.validate(&array(lookups), Self::general_row),
            (StatementKind::ValidateMany, [lookups]) => self.validate(&array(lookups), Self::plain_row),
            (StatementKind::ValidateVersions, [lookups]) => self.validate_versions(&array(lookups), None),
            (StatementKind::ValidateChanged, [lookups, xmins, _, _, run]) => {
                self.validate_versions(&array(lookups), Some((&array(xmins), run)))
            }
            (StatementKind::ValidateOne, [lookup]) => self.validate(&[(*lookup).to_owned()], Self::plain_row),
            // No key of the model was ever rotated.
            (StatementKind::FormerKeys, [_]) => (Vec::new(), vec![Effect::Other]),
            (StatementKind::KeysById, [ids]) => (self.hashes(&array(ids)), vec![Effect::Other]),
            (StatementKind::ChargeOne, [lookup, total]) => self.charge_one(lookup, number(total)),
            (kind @ (StatementKind::ChargeMany | StatementKind::ChargeContended), [lookups, totals]) => {
                let tells_busy = kind == StatementKind::ChargeContended;
                self.charge_many(&array(lookups), &array(totals), tells_busy)
            }
            (StatementKind::ChargeBatch, [lookups, totals, costs, row]) => {
                self.charge_batch(&array(lookups), &array(totals), &array(costs), row)
            }
            (StatementKind::ChargeTree, [lookups, amounts]) => {
                self.charge_tree(&array(lookups), &array(amounts), None)
            }
            (StatementKind::ChargeTreeContended, [lookups, amounts, row]) => {
                self.charge_tree(&array(lookups), &array(amounts), Some(row))
            }
            (StatementKind::SpendFlat, params) => self.spend(params, true),
            (StatementKind::SpendFresh | StatementKind::Spend, params) => self.spend(params, false),
            (StatementKind::SettleFlat, params) => self.settle_flat(params),
            (StatementKind::Settle, params) => self.settle(params),
            (StatementKind::ExpiredReservations, [limit, skip]) => {
                (self.expired_reservations(limit, skip, None), vec![Effect::Other])
            }
            (StatementKind::ExpiredOfKey, [limit, skip, of]) => {
                (self.expired_reservations(limit, skip, Some(number(of))), vec![Effect::Other])
            }
            (StatementKind::Refund, [id, amount, ..]) => {
                (self.refund(number(id), number(amount)), vec![Effect::Other])
            }
            (StatementKind::Touch, [ids, stale]) => {
                (self.touch(&array(ids), number(stale)), vec![Effect::Other])
            }
            (StatementKind::Insert, [row]) => self.insert(row),
            (StatementKind::Revoke, [id, ..]) => (self.revoke(number(id)), vec![Effect::Other]),
            (StatementKind::Migrate, []) => {
                self.migrated = true;
                (Vec::new(), vec![Effect::Other])
            }
            _ => panic!("the model does not know this statement: {statement:?}"),
        }
    }

    fn catalogue(&self) -> Vec<String> {
        let original = ["id", "account_id", "key_hash", "key_prefix", "revoked_at", "name", "budget_cents"];
        let counted = [
            "scopes",
            "budget_used_cents",
            "budget_period",
            "budget_reset_at",
            "expires_at",
            "last_used_at",
            "created_at",
        ];
        let added = [
            "user_id",
            "delegated_by",
            "external_subject",
            "budget_reserved_cents",
            "budget_reserved_microcents",
            "budget_used_microcents",
            "budget_microcents_reset_at",
            "budget_anchor_at",
            "disabled_at",
            "parent_id",
            "ancestor_ids",
            "when_exceeded",
            "has_children",
            "metadata",
            "prev_key_hash",
            "prev_key_expires_at",
            "budget_boost_cents",
            "budget_boost_until",
            "+reservations",
            "+events",
            "+requests",
            "+deliveries",
            "+signups",
        ];
        let columns = original.iter().chain(&counted).chain(added.iter().filter(|_| self.migrated));
        let columns = columns.chain(&["+versions"]);
        columns.map(|column| format!("({column},bigint,bigint,f)")).collect()
    }

    /// The hashes of keys that are named by their ids.
    fn hashes(&self, ids: &[String]) -> Vec<String> {
        let found = |id: &String| self.keys.iter().find(|key| key.id.to_string() == *id);
        ids.iter().zip(1..).filter_map(|(id, n)| Some(format!("({n},{})", found(id)?.lookup))).collect()
    }

    fn touch(&mut self, ids: &[String], stale_after: i64) -> Vec<String> {
        let locked = self.locked;
        let mut left_out = Vec::new();
        for key in self.keys.iter_mut().filter(|key| ids.contains(&key.id.to_string())) {
            if key.last_used_at.is_none_or(|at| at < self.now - stale_after) {
                if locked == Some(key.id) {
                    left_out.push(format!("({})", key.id));
                } else {
                    key.last_used_at = Some(self.now);
                }
            }
        }
        left_out
    }

    fn insert(&mut self, row: &str) -> (Vec<String>, Vec<Effect>) {
        let row: serde_json::Value = serde_json::from_str(row).expect("a JSON object");
        let subject = row["external_subject"].as_str();
        let lookup = subject.or(row["key_hash"].as_str()).expect("a lookup");
        if self.find(lookup).is_some() {
            assert!(subject.is_some(), "a hash that is taken");
            return (Vec::new(), vec![Effect::InsertedBefore]);
        }
        let period = row["budget_period"].as_str().and_then(|name| Period::named(name, self.now));
        let key = Key {
            id: self.keys.len() as i64 + 1,
            lookup: lookup.to_owned(),
            name: row["name"].as_str().expect("a name").to_owned(),
            scope: None,
            budget_cents: row["budget_cents"].as_i64(),
            boost: None,
            used: 0,
            is_stale: false,
            reserved: 0,
            reserved_before: 0,
            ancestors: Vec::new(),
            when_exceeded: None,
            period,
            reset_at: period.map(|period| period.next_reset(self.now)),
            expires_at: row["expires_in_seconds"].as_i64().map(|seconds| self.now + seconds),
            revoked: false,
            last_used_at: None,
        };
        let answer = format!("({},{})", key.id, optional(key.expires_at));
        self.keys.push(key);
        (vec![answer], vec![Effect::Inserted])
    }

    fn revoke(&mut self, id: i64) -> Vec<String> {
        match self.keys.iter_mut().find(|key| key.id == id && !key.revoked) {
            Some(key) => {
                key.revoked = true;
                vec![format!("({id},t)")]
            }
            None => Vec::new(),
        }
    }
}
