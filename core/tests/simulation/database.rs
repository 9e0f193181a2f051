//! A model of the database: every statement of the engine as one atomic step, as its file in `src/sql` says. Periods
//! are those of a fixed length; calendars are for the tests on a real Postgres.

use agentkey::{MAX_CENTS, MICROCENTS_PER_CENT, Statement, StatementKind, parse_row};

use crate::reservations::{Companions, Money, Spent};

/// A row of the keys table. Money is in micro-cents, times are seconds.
#[derive(Debug, Clone)]
pub struct Key {
    pub id: i64,
    /// The hash or subject: what the row is looked up by.
    pub lookup: String,
    pub budget_cents: Option<i64>,
    pub used: i64,
    pub reserved: i64,
    /// What others hold, of which the model knows nothing more.
    pub reserved_before: i64,
    /// Ids, nearest first.
    pub ancestors: Vec<i64>,
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
        self.budget_cents.map_or(MAX_CENTS, |cents| cents.min(MAX_CENTS)) * MICROCENTS_PER_CENT
    }

    /// What can be stored, whatever the budget.
    pub fn storable(&self) -> i64 {
        MAX_CENTS * MICROCENTS_PER_CENT
    }

    pub fn is_over(&self) -> bool {
        self.used + self.reserved > self.cap()
    }
}

impl Key {
    fn is_due(&self, now: i64) -> bool {
        self.period.is_some() && self.reset_at.is_some_and(|at| at <= now)
    }

    pub fn money(&self, now: i64) -> Money {
        let view = self.own_view(now);
        (view.budget_cents, view.used, view.reserved)
    }

    /// The key as if it had no ancestors.
    pub fn own_view(&self, now: i64) -> View {
        let used = if self.is_due(now) { 0 } else { self.used };
        View {
            revoked: self.revoked,
            expired: self.expires_at.is_some_and(|at| at <= now),
            budget_cents: self.budget_cents,
            exhausted: self.budget_cents.is_some_and(|cents| used >= cents * MICROCENTS_PER_CENT),
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
    }
}

/// What a statement read and did, for the promises.
#[derive(Debug)]
pub enum Effect {
    /// A look-up; `None` if there is no such key.
    Read { lookup: String, view: Option<View> },
    /// Charges were decided, in ascending order of their costs. `before` is the key before them, `None` if there is no
    /// live key; `after` is what is used after them.
    Charged { lookup: String, costs: Vec<i64>, before: Option<View>, after: i64 },
    /// A spend was decided.
    Spent(Spent),
    /// A reservation was found; what it became, if it changed.
    Finished { changed_to: Option<&'static str> },
    /// A plain statement for one key left the decision to the general one.
    Undecided,
    /// A live key was revoked.
    Revoked,
    /// A row was inserted.
    Inserted,
    /// Anything that no promise is about.
    Other,
}

/// The database: its clock and the keys table.
pub struct Database {
    pub now: i64,
    pub keys: Vec<Key>,
    /// Whether the table has all columns, or only those of the original package before its own migration.
    pub migrated: bool,
    pub companions: Companions,
}

impl Database {
    pub fn find(&self, lookup: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.lookup == lookup)
    }

    pub fn view(&self, lookup: &str) -> Option<View> {
        let at = self.keys.iter().position(|key| key.lookup == lookup)?;
        let mut view = self.keys[at].own_view(self.now);
        for ancestor in self.chain(at).into_iter().skip(1).map(|at| self.keys[at].own_view(self.now)) {
            view.revoked |= ancestor.revoked;
            view.expired |= ancestor.expired;
            view.exhausted |= ancestor.exhausted;
        }
        Some(view)
    }

    /// Runs a statement: its rows, and what it did. `skip_locked`: whether rows are locked by somebody else for the
    /// moment, which matters to touches alone.
    pub fn execute(&mut self, statement: &Statement, skip_locked: bool) -> (Vec<String>, Vec<Effect>) {
        let params: Vec<&str> = statement.params.iter().map(|p| p.as_deref().unwrap_or_default()).collect();
        match (statement.kind, params.as_slice()) {
            (StatementKind::Catalogue, _) => (self.catalogue(), vec![Effect::Other]),
            (StatementKind::Validate, [lookups]) => self.validate(&array(lookups), Self::general_row),
            (StatementKind::ValidateMany, [lookups]) => self.validate(&array(lookups), Self::plain_row),
            (StatementKind::ValidateOne, [lookup]) => self.validate(&[(*lookup).to_owned()], Self::plain_row),
            (StatementKind::ChargeOne, [lookup, cost]) => self.charge_one(lookup, number(cost)),
            (StatementKind::ChargeMany, [lookups, costs]) => self.charge_many(&array(lookups), &array(costs)),
            (StatementKind::ChargeBatch, [lookups, totals, costs]) => {
                self.charge_batch(&array(lookups), &array(totals), &array(costs))
            }
            (StatementKind::ChargeTree, [lookups, amounts]) => {
                self.charge_tree(&array(lookups), &array(amounts))
            }
            (StatementKind::Spend, params) => self.spend(params),
            (StatementKind::Settle, params) => self.settle(params),
            (StatementKind::ExpiredReservations, [limit]) => {
                (self.expired_reservations(limit), vec![Effect::Other])
            }
            (StatementKind::Touch, [ids, stale]) => {
                (self.touch(&array(ids), number(stale), skip_locked), vec![Effect::Other])
            }
            (StatementKind::Insert, [row]) => self.insert(row),
            (StatementKind::Revoke, [id, ..]) => self.revoke(number(id)),
            (StatementKind::Migrate, []) => {
                self.migrated = true;
                (Vec::new(), vec![Effect::Other])
            }
            _ => panic!("the model does not know this statement: {statement:?}"),
        }
    }

    fn catalogue(&self) -> Vec<String> {
        let original = ["id", "account_id", "key_hash", "key_prefix", "revoked_at", "name", "budget_cents"];
        let counted = ["budget_used_cents", "budget_period", "budget_reset_at", "expires_at", "last_used_at"];
        let added = [
            "external_subject",
            "budget_reserved_cents",
            "budget_used_microcents",
            "budget_anchor_at",
            "disabled_at",
            "parent_id",
            "ancestor_ids",
            "+reservations",
            "+events",
        ];
        let columns = original.iter().chain(&counted).chain(added.iter().filter(|_| self.migrated));
        columns.map(|column| format!("({column},bigint,bigint,f)")).collect()
    }

    /// Each `row` is what the statement answers of a key, without the place.
    fn validate(
        &self,
        lookups: &[String],
        row: fn(&Self, &Key) -> (String, bool),
    ) -> (Vec<String>, Vec<Effect>) {
        let mut rows = Vec::new();
        let mut effects = Vec::new();
        for (lookup, n) in lookups.iter().zip(1..) {
            let mut is_decided = true;
            if let Some(key) = self.find(lookup) {
                let (row, decided) = row(self, key);
                rows.push(format!("({n},{row})"));
                is_decided = decided;
            }
            effects.push(match is_decided {
                true => Effect::Read { lookup: lookup.clone(), view: self.view(lookup) },
                false => Effect::Undecided,
            });
        }
        (rows, effects)
    }

    fn plain_row(&self, key: &Key) -> (String, bool) {
        let has_parent = !key.ancestors.is_empty();
        // A reset that lies behind may not be due: the plain statement does not tell.
        let is_decided = !has_parent && key.reset_at.is_none_or(|at| at > self.now);
        (format!("{},{}", self.own_row(key), if has_parent { "t" } else { "f" }), is_decided)
    }

    fn general_row(&self, key: &Key) -> (String, bool) {
        let ancestors: Vec<String> = key.ancestors.iter().map(|id| self.ancestor_row(*id)).collect();
        let ancestors = match ancestors.as_slice() {
            [] => String::new(),
            some => format!("\"{{{}}}\"", some.join(",")),
        };
        (format!("{},{},{ancestors}", self.own_row(key), self.next_reset(key)), true)
    }

    /// The next reset, if one is due.
    fn next_reset(&self, key: &Key) -> String {
        optional(key.period.filter(|_| key.is_due(self.now)).map(|period| period.next_reset(self.now)))
    }

    /// The key as it is written.
    fn own_row(&self, key: &Key) -> String {
        format!(
            "{},7,\"a \"\"name\"\"\",,,,{},{},{},{},{},{},{},{},{},{},f",
            key.id,
            key.period.map_or("", |p| p.name),
            optional(key.budget_cents),
            key.used / MICROCENTS_PER_CENT,
            key.used % MICROCENTS_PER_CENT,
            key.reserved / MICROCENTS_PER_CENT,
            optional(key.reset_at),
            optional(key.expires_at),
            optional(key.last_used_at),
            self.now,
            if key.revoked { "t" } else { "f" }
        )
    }

    /// A row in an array in a row: its quotes are doubled.
    fn ancestor_row(&self, id: i64) -> String {
        let key = self.keys.iter().find(|key| key.id == id).expect("an ancestor");
        format!(
            "\"\"({id},t,{},{},{},{},{},{},{},f,{})\"\"",
            optional(key.budget_cents),
            key.used / MICROCENTS_PER_CENT,
            key.used % MICROCENTS_PER_CENT,
            key.reserved / MICROCENTS_PER_CENT,
            optional(key.reset_at),
            optional(key.expires_at),
            if key.revoked { "t" } else { "f" },
            self.next_reset(key)
        )
    }

    fn charge_one(&mut self, lookup: &str, cost: i64) -> (Vec<String>, Vec<Effect>) {
        let (row, effect) = self.charge_plain(lookup, vec![cost], 1);
        (row.into_iter().collect(), vec![effect])
    }

    fn charge_many(&mut self, lookups: &[String], costs: &[String]) -> (Vec<String>, Vec<Effect>) {
        assert_eq!(lookups.len(), costs.len(), "arrays of different lengths");
        let mut rows = Vec::new();
        let mut effects = Vec::new();
        for (n, (lookup, costs)) in lookups.iter().zip(costs).enumerate() {
            let costs = array(costs).iter().map(|cost| number(cost)).collect();
            let (row, effect) = self.charge_plain(lookup, costs, n + 1);
            rows.extend(row);
            effects.push(effect);
        }
        (rows, effects)
    }

    /// Charges a key in whole, in the common case.
    fn charge_plain(&mut self, lookup: &str, mut costs: Vec<i64>, place: usize) -> (Option<String>, Effect) {
        let now = self.now;
        let Some(key) = self
            .keys
            .iter_mut()
            .find(|key| key.lookup == lookup && key.ancestors.is_empty() && !key.revoked)
            .filter(|key| key.reset_at.is_none_or(|at| at > now))
        else {
            return (None, Effect::Undecided);
        };
        let before = key.own_view(now);
        let total = costs.iter().copied().map(i128::from).sum::<i128>();
        if total > i128::from(before.cap() - before.reserved - before.used) {
            return (None, Effect::Undecided);
        }
        costs.sort_unstable();
        key.used += costs.iter().sum::<i64>();
        let (cents, micro) = (key.used / MICROCENTS_PER_CENT, key.used % MICROCENTS_PER_CENT);
        let reserved = key.reserved / MICROCENTS_PER_CENT;
        let row = format!("({place},{},{cents},{micro},{reserved})", optional(key.budget_cents));
        let (lookup, after) = (lookup.to_owned(), key.used);
        (Some(row), Effect::Charged { lookup, costs, before: Some(before), after })
    }

    fn charge_batch(
        &mut self,
        lookups: &[String],
        totals: &[String],
        costs: &[String],
    ) -> (Vec<String>, Vec<Effect>) {
        assert!(lookups.len() == totals.len() && lookups.len() == costs.len(), "arrays of different lengths");
        let now = self.now;
        let mut rows = Vec::new();
        let mut effects = Vec::new();
        for (n, ((lookup, total), costs)) in lookups.iter().zip(totals).zip(costs).enumerate() {
            let mut costs: Vec<i64> = array(costs).iter().map(|cost| number(cost)).collect();
            costs.sort_unstable();
            let Some(key) = self.keys.iter_mut().find(|key| key.lookup == *lookup && !key.revoked) else {
                effects.push(Effect::Charged { lookup: lookup.clone(), costs, before: None, after: 0 });
                continue;
            };
            if !key.ancestors.is_empty() {
                rows.push(format!("({})", n + 1));
                effects.push(Effect::Undecided);
                continue;
            }
            let before = key.own_view(now);
            let room = before.cap() - before.reserved - before.used;
            let charged = if number(total) <= room { number(total) } else { longest_prefix(&costs, room) };
            if charged > 0 {
                key.write_used(before.used + charged, now);
            }
            let after = before.used + charged;
            rows.push(charged_row(n + 1, key.id, &before, after));
            effects.push(Effect::Charged { lookup: lookup.clone(), costs, before: Some(before), after });
        }
        (rows, effects)
    }

    /// One guarded UPDATE as the original package sends it. Whether the cost was recorded.
    pub fn charge_as_original(&mut self, lookup: &str, cents: i64) -> bool {
        let now = self.now;
        let Some(key) =
            self.keys.iter_mut().find(|key| key.lookup == lookup && !key.revoked && !key.is_due(now))
        else {
            return false;
        };
        let used = key.used + cents * MICROCENTS_PER_CENT;
        let fits = key.budget_cents.is_none_or(|cap| used <= cap * MICROCENTS_PER_CENT);
        if fits {
            key.used = used;
            // It knows nothing of reservations.
            if key.own_view(now).is_over() {
                let id = key.id;
                self.companions.may_be_over.push(id);
            }
        }
        fits
    }

    fn touch(&mut self, ids: &[String], stale_after: i64, skip_locked: bool) -> Vec<String> {
        let mut left_out = Vec::new();
        for key in self.keys.iter_mut().filter(|key| ids.contains(&key.id.to_string())) {
            if key.last_used_at.is_none_or(|at| at < self.now - stale_after) {
                if skip_locked {
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
            return (Vec::new(), vec![Effect::Other]);
        }
        let period = row["budget_period"].as_str().and_then(|name| Period::named(name, self.now));
        let key = Key {
            id: self.keys.len() as i64 + 1,
            lookup: lookup.to_owned(),
            budget_cents: row["budget_cents"].as_i64(),
            used: 0,
            reserved: 0,
            reserved_before: 0,
            ancestors: Vec::new(),
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

    fn revoke(&mut self, id: i64) -> (Vec<String>, Vec<Effect>) {
        match self.keys.iter_mut().find(|key| key.id == id && !key.revoked) {
            Some(key) => {
                key.revoked = true;
                (vec![format!("({id})")], vec![Effect::Revoked])
            }
            None => (Vec::new(), vec![Effect::Other]),
        }
    }
}

/// The largest sum of the first so many ascending costs that fits.
fn longest_prefix(costs: &[i64], room: i64) -> i64 {
    let mut total = 0;
    for cost in costs {
        match i64::checked_add(total, *cost).filter(|sum| *sum <= room) {
            Some(sum) => total = sum,
            None => break,
        }
    }
    total
}

fn charged_row(n: usize, id: i64, before: &View, after: i64) -> String {
    format!("({n},{id},{},{},{},{after})", optional(before.budget_cents), before.used, before.reserved)
}

pub fn optional(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub fn number(text: &str) -> i64 {
    text.parse().expect("a number")
}

/// Reads an array literal: between its braces it is written like a row.
pub fn array(text: &str) -> Vec<String> {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).expect("an array");
    if inner.is_empty() {
        return Vec::new();
    }
    let row = format!("({inner})");
    let items = parse_row(&row).expect("an array's items").into_iter();
    items.map(|item| item.expect("an item that is not NULL").into_owned()).collect()
}
