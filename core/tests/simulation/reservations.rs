//! The model's general statements: spends on chains of keys, the ends of reservations, and sweeps.

use std::collections::BTreeMap;

use agentkey::MICROCENTS_PER_CENT;

use crate::database::{Database, Effect, array, number, optional};

/// Money of a key after an operation: budget in cents, used and reserved in micro-cents.
pub type Money = (Option<i64>, i64, i64);

/// A row of the reservations table.
#[derive(Debug, Clone)]
pub struct Reservation {
    pub id: String,
    pub key: i64,
    pub amount: i64,
    pub state: &'static str,
    pub expires_at: i64,
    pub cost: Option<i64>,
    /// The key's money when it ended.
    pub money: Option<Money>,
    /// On whose budgets, and in which of their periods, it was settled.
    pub draws: Vec<(String, i64)>,
}

/// What the ledger has under an idempotency key.
#[derive(Debug, Clone)]
struct First {
    kind: char,
    amount: i64,
    money: Money,
    reservation: Option<String>,
}

/// What becomes of one operation of a spend.
#[derive(Debug, Clone)]
pub struct Spent {
    pub lookup: String,
    pub kind: char,
    pub amount: i64,
    pub idempotency_key: Option<String>,
    pub reservation: Option<String>,
    pub status: &'static str,
    pub money: Option<Money>,
    pub draws: Vec<(String, i64)>,
    /// Whether it does not fit even after the batch.
    pub has_obstacle: bool,
}

#[derive(Default)]
pub struct Companions {
    pub reservations: Vec<Reservation>,
    firsts: BTreeMap<(i64, String), First>,
    /// Keys whose cap something was recorded past: overruns, and settles of more than was held.
    pub may_be_over: Vec<i64>,
}

struct Operation {
    n: usize,
    spent: Spent,
    chain: Vec<i64>,
    ttl: i64,
}

impl Database {
    /// The places of a key and its ancestors, nearest first.
    pub fn chain(&self, at: usize) -> Vec<usize> {
        let place = |id: &i64| self.keys.iter().position(|key| key.id == *id).expect("an ancestor");
        std::iter::once(at).chain(self.keys[at].ancestors.iter().map(place)).collect()
    }

    pub fn reservation(&self, id: &str) -> Option<&Reservation> {
        self.companions.reservations.iter().find(|r| r.id == id)
    }

    pub fn spend(&mut self, params: &[&str]) -> (Vec<String>, Vec<Effect>) {
        let [lookups, kinds, amounts, details] = params else { panic!("four parameters") };
        let mut effects = Vec::new();
        let mut operations = Vec::new();
        let mut replayed = Vec::new();
        let fields = array(lookups).into_iter().zip(array(kinds)).zip(array(amounts)).zip(array(details));
        for (n, (((lookup, kind), amount), details)) in fields.enumerate() {
            let details: serde_json::Value = serde_json::from_str(&details).unwrap_or_default();
            let text = |name: &str| details[name].as_str().map(str::to_owned);
            let mut spent = Spent {
                lookup: lookup.clone(),
                kind: kind.chars().next().expect("a kind"),
                amount: number(&amount),
                idempotency_key: text("idempotency_key"),
                reservation: text("id"),
                status: "no row",
                money: None,
                draws: Vec::new(),
                has_obstacle: false,
            };
            let Some(at) = self.keys.iter().position(|key| key.lookup == lookup) else {
                effects.push(Effect::Spent(spent));
                continue;
            };
            let key = self.keys[at].id;
            let first =
                spent.idempotency_key.clone().and_then(|name| self.companions.firsts.get(&(key, name)));
            if let Some(first) = first {
                assert!(
                    first.amount == spent.amount && (first.kind == 'r') == (spent.kind == 'r'),
                    "no conflicts here"
                );
                spent.status = "replayed";
                spent.money = Some(first.money);
                spent.reservation.clone_from(&first.reservation);
                replayed.push((n, spent));
                continue;
            }
            let chain = std::iter::once(key).chain(self.keys[at].ancestors.iter().copied()).collect();
            operations.push(Operation { n, spent, chain, ttl: details["ttl"].as_i64().unwrap_or_default() });
        }
        let mut rows = self.accept(operations, &mut effects);
        for (n, spent) in replayed {
            rows.push(self.spent_row(n, &spent, None));
            effects.push(Effect::Spent(spent));
        }
        (rows, effects)
    }

    /// Charges a key whole if, on each row that it draws on, all that is asked of it fits; else leaves it alone.
    pub fn charge_tree(&mut self, lookups: &[String], costs: &[String]) -> (Vec<String>, Vec<Effect>) {
        let now = self.now;
        let mut effects = Vec::new();
        let mut groups: Vec<(usize, Vec<Operation>)> = Vec::new();
        let mut wanted: BTreeMap<i64, i128> = BTreeMap::new();
        for (n, (lookup, costs)) in lookups.iter().zip(costs).enumerate() {
            let Some(key) = self.find(lookup) else {
                effects.push(Effect::Undecided);
                continue;
            };
            let chain: Vec<i64> = std::iter::once(key.id).chain(key.ancestors.iter().copied()).collect();
            let amounts: Vec<i64> = array(costs).iter().map(|cost| number(cost)).collect();
            for id in &chain {
                *wanted.entry(*id).or_default() += amounts.iter().copied().map(i128::from).sum::<i128>();
            }
            let charge = |amount| Spent {
                lookup: lookup.clone(),
                kind: 'c',
                amount,
                idempotency_key: None,
                reservation: None,
                status: "ok",
                money: None,
                draws: Vec::new(),
                has_obstacle: false,
            };
            let operation = |amount| Operation { n, spent: charge(amount), chain: chain.clone(), ttl: 0 };
            groups.push((n, amounts.into_iter().map(operation).collect()));
        }
        let is_plain = |id: &i64| {
            self.keys.iter().find(|key| key.id == *id).is_some_and(|key| {
                let view = key.own_view(now);
                !view.revoked
                    && key.reset_at.is_none_or(|at| at > now)
                    && wanted[id] <= i128::from(view.cap() - view.reserved - view.used)
            })
        };
        let plain: Vec<i64> = wanted.keys().copied().filter(is_plain).collect();
        let mut rows = Vec::new();
        for (n, mut operations) in groups {
            if !operations[0].chain.iter().all(|id| plain.contains(id)) {
                effects.push(Effect::Undecided);
                continue;
            }
            operations.sort_by_key(|operation| operation.spent.amount);
            for operation in &mut operations {
                self.record(operation);
            }
            let last = operations.last().and_then(|operation| operation.spent.money).expect("money");
            let (budget, used, reserved) = last;
            let (cents, micro) = (used / MICROCENTS_PER_CENT, used % MICROCENTS_PER_CENT);
            let budget = optional(budget);
            rows.push(format!("({},{budget},{cents},{micro},{})", n + 1, reserved / MICROCENTS_PER_CENT));
            effects.extend(operations.into_iter().map(|operation| Effect::Spent(operation.spent)));
        }
        (rows, effects)
    }

    /// Accepts an operation if, on each row that it draws on, all up to it in order fit.
    fn accept(&mut self, mut operations: Vec<Operation>, effects: &mut Vec<Effect>) -> Vec<String> {
        let now = self.now;
        operations.sort_by_key(|o| (o.spent.kind != 'o', o.spent.amount, o.n));
        let mut running: BTreeMap<i64, i128> = BTreeMap::new();
        for operation in &mut operations {
            let mut fits = true;
            let (mut is_gone, mut is_expired) = (false, false);
            for id in &operation.chain {
                let key = self.keys.iter().find(|key| key.id == *id).expect("a key");
                let view = key.own_view(now);
                let total = running.entry(*id).or_default();
                *total += i128::from(operation.spent.amount);
                let cap = if operation.spent.kind == 'o' { view.storable() } else { view.cap() };
                fits &= *total <= i128::from(cap - view.reserved - view.used);
                is_gone |= view.revoked;
                is_expired |= view.expired;
            }
            operation.spent.status = match (is_gone, is_expired && operation.spent.kind == 'r', fits) {
                (true, ..) => "invalid_key",
                (_, true, _) => "expired",
                (_, _, true) => "ok",
                _ => "budget_exceeded",
            };
        }
        for operation in operations.iter_mut().filter(|o| o.spent.status == "ok") {
            self.record(operation);
        }
        operations
            .into_iter()
            .map(|mut operation| {
                let obstacle = match operation.spent.status {
                    "budget_exceeded" => self.obstacle(&operation),
                    _ => None,
                };
                operation.spent.has_obstacle = obstacle.is_some();
                let row = self.spent_row(operation.n, &operation.spent, obstacle);
                effects.push(Effect::Spent(operation.spent));
                row
            })
            .collect()
    }

    fn record(&mut self, operation: &mut Operation) {
        let now = self.now;
        let Operation { spent, chain, ttl, .. } = operation;
        for id in chain.iter() {
            let key = self.keys.iter_mut().find(|key| key.id == *id).expect("a key");
            let view = key.own_view(now);
            if spent.kind == 'r' {
                // As the statement does it, also where only something is held: the reset that is due is written.
                key.write_used(view.used, now);
                key.reserved += spent.amount;
            } else {
                key.write_used(view.used + spent.amount, now);
                if key.own_view(now).is_over() {
                    self.companions.may_be_over.push(*id);
                }
            }
            spent.draws.push((key.lookup.clone(), view.period));
        }
        let own = self.keys.iter().find(|key| key.id == chain[0]).expect("a key");
        let money = own.money(now);
        spent.money = Some(money);
        if spent.kind == 'r' {
            self.companions.reservations.push(Reservation {
                id: spent.reservation.clone().expect("a reservation's id"),
                key: chain[0],
                amount: spent.amount,
                state: "pending",
                expires_at: now + *ttl,
                cost: None,
                money: None,
                draws: Vec::new(),
            });
        }
        if let Some(name) = &spent.idempotency_key {
            let first = First {
                kind: spent.kind,
                amount: spent.amount,
                money,
                reservation: spent.reservation.clone(),
            };
            let before = self.companions.firsts.insert((chain[0], name.clone()), first);
            assert!(
                before.is_none(),
                "one statement recorded an idempotency key twice: the real one would fail for ever"
            );
        }
    }

    /// The first key of the chain that has no room for an operation.
    fn obstacle(&self, operation: &Operation) -> Option<i64> {
        operation.chain.iter().copied().find(|id| {
            let view = self.keys.iter().find(|key| key.id == *id).expect("a key").own_view(self.now);
            let cap = if operation.spent.kind == 'o' { view.storable() } else { view.cap() };
            operation.spent.amount > cap - view.used - view.reserved
        })
    }

    fn spent_row(&self, n: usize, spent: &Spent, obstacle: Option<i64>) -> String {
        let (budget, used, reserved) = match spent.money {
            Some((budget, used, reserved)) => (optional(budget), used.to_string(), reserved.to_string()),
            None => Default::default(),
        };
        let id = spent.reservation.clone().unwrap_or_default();
        let expires_at = self.reservation(&id).map(|r| r.expires_at);
        let of = |id| self.keys.iter().find(|key| key.id == id).expect("a key").money(self.now);
        let money = obstacle.map(|id| (id, of(id)));
        let limit = money.map(|(id, (budget, used, reserved))| {
            format!("\"({id},{},{used},{reserved},)\"", optional(budget))
        });
        let holds = money.is_some_and(|(_, (_, _, reserved))| reserved > 0);
        let has_expired = if holds && self.expired().next().is_some() { "t" } else { "f" };
        format!(
            "({},{},{budget},{used},{reserved},{id},{},{},{has_expired})",
            n + 1,
            spent.status,
            optional(expires_at),
            limit.unwrap_or_default(),
        )
    }

    fn expired(&self) -> impl Iterator<Item = &Reservation> {
        self.companions.reservations.iter().filter(|r| r.state == "pending" && r.expires_at <= self.now)
    }

    pub fn expired_reservations(&self, limit: &str) -> Vec<String> {
        self.expired().take(number(limit) as usize).map(|r| format!("({})", r.id)).collect()
    }

    pub fn settle(&mut self, params: &[&str]) -> (Vec<String>, Vec<Effect>) {
        let [ids, actions, amounts] = params else { panic!("three parameters") };
        let now = self.now;
        let (mut rows, mut effects) = (Vec::new(), Vec::new());
        for (n, ((id, action), amount)) in
            array(ids).into_iter().zip(array(actions)).zip(array(amounts)).enumerate()
        {
            let Some(at) = self.companions.reservations.iter().position(|r| r.id == id) else { continue };
            let amount = number(&amount);
            let before = self.companions.reservations[at].clone();
            let new_state = match (action.as_str(), before.state) {
                ("settle", "pending" | "expired") => Some("settled"),
                ("release", "pending") => Some("released"),
                ("expire", "pending") if before.expires_at <= now => Some("expired"),
                ("extend", "pending") => Some("pending"),
                _ => None,
            };
            let mut after = before.clone();
            if let Some(state) = new_state {
                after.state = state;
                if state == "pending" {
                    after.expires_at = now + amount;
                } else {
                    let cost = if state == "settled" { amount } else { 0 };
                    let given_back = if before.state == "pending" { before.amount } else { 0 };
                    after.draws = self.end(before.key, cost, given_back);
                    after.cost = (state == "settled").then_some(cost);
                    after.money = self.keys.iter().find(|key| key.id == before.key).map(|key| key.money(now));
                }
            }
            let (budget, used, reserved) = match after.money {
                Some((budget, used, reserved)) => (optional(budget), used.to_string(), reserved.to_string()),
                None => Default::default(),
            };
            rows.push(format!(
                "({},{},{},{},{},{budget},{used},{reserved},{})",
                n + 1,
                before.state,
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

    /// Moves a reservation's money on its key and all ancestors. On whose budgets, in which periods.
    fn end(&mut self, key: i64, cost: i64, given_back: i64) -> Vec<(String, i64)> {
        let now = self.now;
        let at = self.keys.iter().position(|k| k.id == key).expect("a reservation's key");
        let mut draws = Vec::new();
        for place in self.chain(at) {
            let key = &mut self.keys[place];
            let view = key.own_view(now);
            key.write_used(view.used + cost, now);
            key.reserved -= given_back;
            assert!(key.reserved >= 0, "more comes back than was held");
            draws.push((key.lookup.clone(), view.period));
            if key.own_view(now).is_over() || view.used + view.reserved + cost - given_back > view.cap() {
                self.companions.may_be_over.push(key.id);
            }
        }
        draws
    }

    /// Held is what open reservations hold, and no cap is passed but by what was recorded past it on purpose.
    pub fn check_totals(&self) -> Result<(), String> {
        for (at, key) in self.keys.iter().enumerate() {
            let held: i64 = self
                .companions
                .reservations
                .iter()
                .filter(|r| r.state == "pending")
                .filter(|r| {
                    self.keys.iter().position(|k| k.id == r.key).is_some_and(|k| self.chain(k).contains(&at))
                })
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
