//! The model's look-ups, and the rows of keys that they and spends answer.

use agentkey::engine::MICROCENTS_PER_CENT;

use super::text::{optional, quoted, row_array, yes_or_no};
use super::{Database, Effect, Key};

/// A row without the place, and whether it decides the look-up.
type Row = (String, bool);

impl Database {
    /// Each `row` is what the statement answers of a key.
    pub(super) fn validate(
        &self,
        lookups: &[String],
        row: fn(&Self, &Key) -> Row,
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

    /// Rows with their versions; `known`: of which versions, of which run, nothing is answered.
    pub(super) fn validate_versions(
        &self,
        lookups: &[String],
        known: Option<(&[String], &str)>,
    ) -> (Vec<String>, Vec<Effect>) {
        let (_, effects) = self.validate(lookups, Self::plain_row);
        let run = self.run();
        let mut rows = Vec::new();
        for (at, lookup) in lookups.iter().enumerate() {
            let Some(key) = self.find(lookup) else {
                if known.is_some() {
                    rows.push(format!("({},,,,,,,,,,0,,,,,,{},f,f,f,,,,)", at + 1, self.now));
                }
                continue;
            };
            let xmin = self.version(key);
            if xmin.is_empty() || known.is_none_or(|(xmins, of)| xmins[at] != xmin || of != run) {
                rows.push(format!("({},{},{xmin},\"(0,{})\")", at + 1, self.plain_row(key).0, key.id));
            }
        }
        rows.push(format!("(0,{},{run})", self.now));
        (rows, effects)
    }

    /// What changes with every change of a row. None while its budget is raised: the end of that is no change of it.
    fn version(&self, key: &Key) -> String {
        if key.boost.is_some_and(|(_, until)| until > self.now) {
            return String::new();
        }
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&format!("{key:?}"), &mut hasher);
        (std::hash::Hasher::finish(&hasher) as u32).to_string()
    }

    /// The server is started anew from time to time.
    fn run(&self) -> String {
        format!("run {}", self.now / 1_000)
    }

    pub(super) fn plain_row(&self, key: &Key) -> Row {
        let has_parent = !key.ancestors.is_empty();
        let is_decided = !has_parent && !key.may_be_due(self.now);
        (format!("{},{},,", self.own_row(key), yes_or_no(has_parent)), is_decided)
    }

    pub(super) fn general_row(&self, key: &Key) -> Row {
        let states = match key.ancestors.is_empty() {
            true => String::new(),
            false => quoted(&row_array(&self.states(key))),
        };
        let has_parent = yes_or_no(!key.ancestors.is_empty());
        (format!("{},{has_parent},{},{states}", self.own_row(key), self.next_reset(key)), true)
    }

    /// What a spend answers of the key of a reserve: a row, and the states of its ancestors.
    pub(super) fn rows_beside(&self, key: &Key) -> (String, String) {
        let has_parent = yes_or_no(!key.ancestors.is_empty());
        let row = format!("(1,{},{has_parent},{},)", self.own_row(key), self.next_reset(key));
        (row, row_array(&self.states(key)))
    }

    /// The next reset, if one is due.
    fn next_reset(&self, key: &Key) -> String {
        optional(key.period.filter(|_| key.is_due(self.now)).map(|period| period.next_reset(self.now)))
    }

    /// The key as it is written.
    fn own_row(&self, key: &Key) -> String {
        format!(
            "{},7,{},,{},,{},{},{},{},{},{},{},{},{},{},{},f",
            key.id,
            quoted(&key.name),
            key.scope.map(|scope| format!("{{{scope}}}")).unwrap_or_default(),
            key.period.map_or("", |p| p.name),
            optional(key.budget(self.now)),
            key.cents(),
            key.fraction(),
            key.reserved / MICROCENTS_PER_CENT,
            key.reserved % MICROCENTS_PER_CENT,
            optional(key.reset_at),
            optional(key.expires_at),
            optional(key.last_used_at),
            self.now,
            yes_or_no(key.revoked)
        )
    }

    /// What the ancestors of a key mean for it, nearest first.
    fn states(&self, key: &Key) -> Vec<String> {
        let state = |id: &i64| {
            let key = self.by_id(*id);
            format!(
                "({id},t,{},{},{},{},{},{},{},f,{},{},{})",
                optional(key.budget(self.now)),
                key.cents(),
                key.fraction(),
                key.reserved,
                optional(key.reset_at),
                optional(key.expires_at),
                yes_or_no(key.revoked),
                self.next_reset(key),
                key.period.map_or("", |period| period.name),
                key.when_exceeded.unwrap_or_default()
            )
        };
        key.ancestors.iter().map(state).collect()
    }
}
