//! The model's reservations: their ends, their sweeps, and what they must add up to.

use std::collections::BTreeMap;

use agentkey::engine::MICROCENTS_PER_CENT;

use super::spends::First;
use super::text::{array, number, optional};
use super::{Database, Effect, Money};

/// A row of the reservations table.
#[derive(Debug, Clone)]
pub struct Reservation {
    pub id: String,
    pub key: i64,
    pub amount: i64,
    pub state: &'static str,
    /// What it holds counts as spent if nobody ends it in time.
    pub settles_if_expired: bool,
    pub expires_at: i64,
    /// Every expiry that an extension gave it.
    pub extended_to: Vec<i64>,
    pub cost: Option<i64>,
    /// The key's money when it ended.
    pub money: Option<Money>,
    /// On whose budgets, and in which of their periods, it was settled.
    pub draws: Vec<(String, i64)>,
}

impl Reservation {
    /// Whether its time is over, though no sweep has ended it.
    pub fn is_over(&self, now: i64) -> bool {
        self.state == "pending" && self.expires_at <= now
    }
}

#[derive(Clone, Default)]
pub struct Companions {
    pub reservations: Vec<Reservation>,
    pub(super) firsts: BTreeMap<(i64, String), First>,
    /// Keys whose cap something was recorded past: overruns, and settles of more than was held.
    pub may_be_over: Vec<i64>,
}

impl Database {
    pub fn reservation(&self, id: &str) -> Option<&Reservation> {
        self.companions.reservations.iter().find(|r| r.id == id)
    }

    pub(super) fn expired(&self) -> impl Iterator<Item = &Reservation> {
        self.companions.reservations.iter().filter(|r| r.is_over(self.now))
    }

    /// `of`: only what is held of the budget of this key.
    pub(super) fn expired_reservations(&self, limit: &str, skip: &str, of: Option<i64>) -> Vec<String> {
        let draws_on = |r: &&Reservation| of.is_none_or(|of| self.chain_of(self.by_id(r.key)).contains(&of));
        let mut expired: Vec<&Reservation> = self.expired().filter(draws_on).collect();
        expired.sort_by_key(|r| (r.expires_at, &r.id));
        let listed = expired.into_iter().skip(number(skip) as usize).take(number(limit) as usize);
        listed.map(|r| format!("({})", r.id)).collect()
    }

    pub(super) fn settle(&mut self, params: &[&str]) -> (Vec<String>, Vec<Effect>) {
        let [ids, actions, amounts, waits_for] = params else { panic!("four parameters") };
        let now = self.now;
        let (mut rows, mut effects) = (Vec::new(), Vec::new());
        let given: Vec<(String, String, i64)> = array(ids)
            .into_iter()
            .zip(array(actions))
            .zip(array(amounts))
            .map(|((id, action), amount)| (id, action, number(&amount)))
            .collect();
        let unrecordable = self.unrecordable(&given, waits_for);
        for (n, (id, action, amount)) in given.into_iter().enumerate() {
            let Some(at) = self.companions.reservations.iter().position(|r| r.id == id) else { continue };
            let before = self.companions.reservations[at].clone();
            let amount = if action == "expire" { before.amount } else { amount };
            let chain = self.chain_of(self.by_id(before.key));
            if let Some(row) = chain.into_iter().find(|row| self.is_locked(*row, waits_for))
                && action != "extend"
            {
                rows.push(format!("({},busy,{row},0,,,,,)", n + 1));
                effects.push(Effect::Busy);
                continue;
            }
            let new_state = match (action.as_str(), before.state) {
                ("settle", "pending" | "expired") => Some("settled"),
                ("release", "pending") => Some("released"),
                ("expire", "pending") if before.is_over(now) && before.settles_if_expired => Some("settled"),
                ("expire", "pending") if before.is_over(now) => Some("expired"),
                ("extend", "pending") => Some("pending"),
                _ => None,
            };
            let is_unrecordable = new_state == Some("settled") && unrecordable.contains(&n);
            let new_state = new_state.filter(|_| !is_unrecordable);
            let mut after = before.clone();
            if let Some(state) = new_state {
                after.state = state;
                if state == "pending" {
                    after.expires_at = now + amount;
                    after.extended_to.push(after.expires_at);
                } else {
                    let cost = if state == "settled" { amount } else { 0 };
                    let given_back = if before.state == "pending" { before.amount } else { 0 };
                    after.draws = self.end(before.key, cost, given_back);
                    after.cost = (state == "settled").then_some(cost);
                    after.money = Some(self.by_id(before.key).money(now));
                }
            }
            let (budget, used, reserved) = match after.money {
                Some((budget, used, reserved)) => (optional(budget), used.to_string(), reserved.to_string()),
                None => Default::default(),
            };
            rows.push(format!(
                "({},{},{},{},{},{budget},{used},{reserved},{})",
                n + 1,
                if is_unrecordable { "unrecordable" } else { before.state },
                new_state.unwrap_or_default(),
                before.amount,
                optional(after.cost),
                after.expires_at
            ));
            effects.push(Effect::Finished { changed_to: new_state });
            self.companions.reservations[at] = after;
        }
        (rows, effects)
    }

    /// Settles and releases of reservations whose keys' own rows are all that counts: the others are left.
    pub(super) fn settle_flat(&mut self, params: &[&str]) -> (Vec<String>, Vec<Effect>) {
        let [ids, actions, amounts] = params else { panic!("three parameters") };
        let (ids, actions, amounts) = (array(ids), array(actions), array(amounts));
        let (mut rows, mut effects) = (Vec::new(), Vec::new());
        let key_of = |db: &Self, id: &String| db.reservation(id).map(|r| r.key);
        // Decided on the keys as the statement finds them.
        let taken: Vec<bool> = ids
            .iter()
            .map(|id| {
                let Some(key) = key_of(self, id) else { return false };
                let of_key = ids.iter().zip(&amounts).filter(|(other, _)| key_of(self, other) == Some(key));
                let cost: i128 = of_key.map(|(_, amount)| i128::from(number(amount))).sum();
                let key = self.by_id(key);
                let view = key.own_view(self.now);
                key.ancestors.is_empty()
                    && !key.may_be_due(self.now)
                    && cost <= i128::from(view.storable() - view.used)
            })
            .collect();
        for (n, (id, action)) in ids.iter().zip(&actions).enumerate() {
            let is_end = ["settle", "release"].contains(&action.as_str());
            let is_locked = key_of(self, id).is_some_and(|key| self.is_locked(key, ""));
            let is_pending = self.reservation(id).is_some_and(|r| r.state == "pending");
            if !taken[n] || !(is_locked || is_end && is_pending) {
                effects.push(Effect::Undecided);
                continue;
            }
            let one = |text: &String| format!("{{{text}}}");
            let params = [one(id), one(action), one(&amounts[n]), String::new()];
            let (row, effect) = self.settle(&params.each_ref().map(String::as_str));
            // It is the only one there.
            rows.extend(row.iter().map(|row| row.replacen("(1,", &format!("({},", n + 1), 1)));
            effects.extend(effect);
        }
        (rows, effects)
    }

    /// The settles whose costs a column could not hold beside those before them. What the statement says of them where the
    /// column could hold them without these is left to a test of its own.
    fn unrecordable(&self, given: &[(String, String, i64)], waits_for: &str) -> Vec<usize> {
        let mut running: BTreeMap<i64, i128> = BTreeMap::new();
        let mut found = Vec::new();
        for (n, (id, action, amount)) in given.iter().enumerate() {
            let Some(reservation) = self.reservation(id) else { continue };
            let chain = self.chain_of(self.by_id(reservation.key));
            let is_busy = chain.iter().any(|row| self.is_locked(*row, waits_for));
            let amount = if action == "expire" { reservation.amount } else { *amount };
            let is_settled = match action.as_str() {
                "settle" => ["pending", "expired"].contains(&reservation.state),
                "expire" => reservation.is_over(self.now) && reservation.settles_if_expired,
                _ => false,
            };
            if !is_settled || amount == 0 || is_busy {
                continue;
            }
            for id in chain {
                let view = self.by_id(id).own_view(self.now);
                let total = running.entry(id).or_default();
                *total += i128::from(amount);
                if *total > i128::from(view.storable() - view.used) && found.last() != Some(&n) {
                    found.push(n);
                }
            }
        }
        found
    }

    /// Gives back what a key spent, of no budget more than is used.
    pub(super) fn refund(&mut self, id: i64, amount: i64) -> Vec<String> {
        let now = self.now;
        let Some(key) = self.keys.iter().find(|key| key.id == id) else { return Vec::new() };
        for id in self.chain_of(key) {
            let key = self.keys.iter_mut().find(|key| key.id == id).expect("a key");
            let used = key.own_view(now).used;
            key.write_used(used - amount.min(used).max(0), now);
        }
        let (budget, used, reserved) = self.by_id(id).money(now);
        vec![format!("({},{used},{reserved},f,f,)", optional(budget))]
    }

    /// Moves a reservation's money on its key and all ancestors. On whose budgets, in which periods.
    fn end(&mut self, key: i64, cost: i64, given_back: i64) -> Vec<(String, i64)> {
        let now = self.now;
        let mut draws = Vec::new();
        for id in self.chain_of(self.by_id(key)) {
            let key = self.keys.iter_mut().find(|key| key.id == id).expect("a key");
            let view = key.own_view(now);
            key.write_used(view.used + cost, now);
            key.reserved -= given_back;
            assert!(key.reserved >= 0, "more comes back than was held");
            draws.push((key.lookup.clone(), view.period));
            if key.own_view(now).is_over() || view.used + view.reserved + cost - given_back > view.cap() {
                self.companions.may_be_over.push(id);
            }
        }
        draws
    }

    /// Held is what open reservations hold, and no cap is passed but by what was recorded past it on purpose.
    pub fn check_totals(&self) -> Result<(), String> {
        for key in &self.keys {
            let held: i64 = self
                .companions
                .reservations
                .iter()
                .filter(|r| r.state == "pending" && self.chain_of(self.by_id(r.key)).contains(&key.id))
                .map(|r| r.amount)
                .sum();
            if key.reserved != key.reserved_before + held {
                return Err(format!("key {} has {} reserved, {held} are held", key.id, key.reserved));
            }
            let view = key.own_view(self.now);
            let is_passed = view.budget_cents.is_some_and(|cents| {
                view.used + view.reserved > cents * MICROCENTS_PER_CENT && view.reserved > key.reserved_before
            });
            if is_passed && !self.companions.may_be_over.contains(&key.id) {
                return Err(format!("key {} has passed its cap: {view:?}", key.id));
            }
        }
        Ok(())
    }
}
