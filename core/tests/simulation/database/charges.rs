//! The model's plain charges.

use std::collections::BTreeMap;

use agentkey::engine::MICROCENTS_PER_CENT;

use super::spends::Operation;
use super::text::{array, number, optional};
use super::{Database, Effect, Money, View};

/// Rows and effects of a statement.
type Done = (Vec<String>, Vec<Effect>);

impl Database {
    /// It waits for a locked row, which is free by then.
    pub(super) fn charge_one(&mut self, lookup: &str, total: i64) -> Done {
        self.locked = None;
        let (row, effect) = self.charge_plain(lookup, total, 1, false);
        (row.into_iter().collect(), vec![effect])
    }

    /// `tells_busy`: whether it says which keys had room and were locked.
    pub(super) fn charge_many(&mut self, lookups: &[String], totals: &[String], tells_busy: bool) -> Done {
        assert_eq!(lookups.len(), totals.len(), "arrays of different lengths");
        let mut rows = Vec::new();
        let mut effects = Vec::new();
        for (n, (lookup, total)) in lookups.iter().zip(totals).enumerate() {
            let (row, effect) = self.charge_plain(lookup, number(total), n + 1, tells_busy);
            rows.extend(row);
            effects.push(effect);
        }
        (rows, effects)
    }

    /// Charges a key in whole, in the common case.
    fn charge_plain(
        &mut self,
        lookup: &str,
        total: i64,
        place: usize,
        tells_busy: bool,
    ) -> (Option<String>, Effect) {
        let now = self.now;
        let locked = self.locked;
        let Some(key) = self
            .keys
            .iter_mut()
            .find(|key| key.lookup == lookup && key.ancestors.is_empty() && !key.revoked)
            .filter(|key| !key.may_be_due(now))
        else {
            return (None, Effect::Undecided);
        };
        let before = key.own_view(now);
        if total > before.cap() - before.reserved - before.used {
            return (None, Effect::Undecided);
        }
        if locked == Some(key.id) {
            let id = key.id;
            return match tells_busy {
                true => (Some(format!("({place},,{id},,,,)")), Effect::Busy),
                false => (None, Effect::Undecided),
            };
        }
        key.write_used(before.used + total, now);
        let row = charged_row(place, (before.budget_cents, key.used, key.reserved), None);
        let (lookup, after) = (lookup.to_owned(), key.used);
        (Some(row), Effect::Charged { lookup, costs: vec![total], before: Some(before), after })
    }

    pub(super) fn charge_batch(
        &mut self,
        lookups: &[String],
        totals: &[String],
        costs: &[String],
        waits_for: &str,
    ) -> Done {
        assert!(lookups.len() == totals.len() && lookups.len() == costs.len(), "arrays of different lengths");
        let now = self.now;
        let mut rows = Vec::new();
        let mut effects = Vec::new();
        for (n, ((lookup, total), costs)) in lookups.iter().zip(totals).zip(costs).enumerate() {
            let mut costs: Vec<i64> = array(costs).iter().map(|cost| number(cost)).collect();
            costs.sort_unstable();
            if let Some(id) = self.find(lookup).map(|key| key.id).filter(|id| self.is_locked(*id, waits_for))
            {
                rows.push(format!("({},,{id},,,,)", n + 1));
                effects.push(Effect::Busy);
                continue;
            }
            let Some(key) = self.keys.iter_mut().find(|key| key.lookup == *lookup && !key.revoked) else {
                effects.push(Effect::Charged { lookup: lookup.clone(), costs, before: None, after: 0 });
                continue;
            };
            if !key.ancestors.is_empty() {
                rows.push(format!("({},t,,,,,)", n + 1));
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
            rows.push(charged_row(n + 1, (before.budget_cents, after, before.reserved), Some(before.used)));
            effects.push(Effect::Charged { lookup: lookup.clone(), costs, before: Some(before), after });
        }
        (rows, effects)
    }

    /// Charges a key whole if, on each row that it draws on, all that is asked of it fits; else leaves it alone.
    /// `waits_for`: `None` of a statement that says of no row that it is busy.
    pub(super) fn charge_tree(
        &mut self,
        lookups: &[String],
        costs: &[String],
        waits_for: Option<&str>,
    ) -> Done {
        let now = self.now;
        let mut effects = Vec::new();
        let mut groups: Vec<(usize, Vec<Operation>)> = Vec::new();
        let mut wanted: BTreeMap<i64, i128> = BTreeMap::new();
        for (n, (lookup, costs)) in lookups.iter().zip(costs).enumerate() {
            let Some(key) = self.find(lookup) else {
                effects.push(Effect::Undecided);
                continue;
            };
            let amounts: Vec<i64> = array(costs).iter().map(|cost| number(cost)).collect();
            for id in self.chain_of(key) {
                *wanted.entry(id).or_default() += amounts.iter().copied().map(i128::from).sum::<i128>();
            }
            let operation = |amount| Operation::plain_charge(n, lookup, amount, self.chain_of(key));
            groups.push((n, amounts.into_iter().map(operation).collect()));
        }
        let is_plain = |id: &i64| {
            self.keys.iter().find(|key| key.id == *id).is_some_and(|key| {
                let View { revoked, reserved, used, .. } = key.own_view(now);
                let room = key.own_view(now).cap() - reserved - used;
                !revoked && !key.may_be_due(now) && wanted[id] <= i128::from(room)
            })
        };
        let (busy, plain): (Vec<i64>, Vec<i64>) = wanted
            .keys()
            .copied()
            .filter(is_plain)
            .partition(|id| self.is_locked(*id, waits_for.unwrap_or_default()));
        let mut accepted = Vec::new();
        let mut rows = Vec::new();
        for (n, mut operations) in groups {
            if let Some(id) = operations[0].chain.iter().find(|id| busy.contains(id))
                && waits_for.is_some()
            {
                rows.push(format!("({},,{id},,,,)", n + 1));
                effects.push(Effect::Busy);
                continue;
            }
            if !operations[0].chain.iter().all(|id| plain.contains(id)) {
                effects.push(Effect::Undecided);
                continue;
            }
            operations.sort_by_key(|operation| operation.spent.amount);
            operations.iter_mut().for_each(|operation| self.record(operation));
            accepted.push((n, operations));
        }
        for (n, mut operations) in accepted {
            // What the others of the statement drew on the same row counts as drawn before.
            let after = self.by_id(operations[0].chain[0]).money(now);
            rows.push(charged_row(n + 1, after, None));
            let (budget, mut used, reserved) = after;
            for operation in operations.iter_mut().rev() {
                operation.spent.money = Some((budget, used, reserved));
                used -= operation.spent.amount;
            }
            effects.extend(operations.into_iter().map(|operation| Effect::Spent(operation.spent)));
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

/// `before`: what was used before, where not all was charged.
fn charged_row(place: usize, after: Money, before: Option<i64>) -> String {
    let (budget, used, reserved) = after;
    let (cents, micro) = (used / MICROCENTS_PER_CENT, used % MICROCENTS_PER_CENT);
    format!("({place},f,{},{cents},{micro},{reserved},{})", optional(budget), optional(before))
}
