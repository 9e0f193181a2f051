//! The model's general statement for charges and reserves, on chains of keys.

use std::collections::BTreeMap;

use super::reservations::Reservation;
use super::text::{array, number, optional, quoted, yes_or_no};
use super::{Database, Effect, Key, Money, View};

/// What the ledger has under an idempotency key.
#[derive(Debug, Clone)]
pub struct First {
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
    /// When the reservation gives its amount back by itself.
    pub expires_at: Option<i64>,
    pub status: &'static str,
    /// Why it is refused for good, as its caller has to be told.
    pub refusal: Option<&'static str>,
    /// The key and what its ancestors mean for it, as they were before the statement.
    pub before: Option<View>,
    pub money: Option<Money>,
    /// What the reservation of a repeated reserve was settled with.
    pub settled: Option<i64>,
    /// The reservation that was made under the same idempotency key before, and ended without a cost.
    pub instead_of: Option<String>,
    pub draws: Vec<(String, i64)>,
}

impl Spent {
    fn new(lookup: &str, kind: char, amount: i64) -> Self {
        Spent {
            lookup: lookup.to_owned(),
            kind,
            amount,
            idempotency_key: None,
            reservation: None,
            expires_at: None,
            status: "no row",
            refusal: None,
            before: None,
            money: None,
            settled: None,
            instead_of: None,
            draws: Vec::new(),
        }
    }
}

/// Whether a charge is recorded past its budget.
fn is_overrun(kind: char) -> bool {
    matches!(kind, 'o' | 'a')
}

pub struct Operation {
    n: usize,
    pub spent: Spent,
    pub chain: Vec<i64>,
    ttl: i64,
    settles_if_expired: bool,
    /// Any of these will do; `None` if none is asked for.
    scopes: Option<Vec<String>>,
    /// Of a reserve: its key as it was before, and the states of its ancestors.
    rows_beside: (String, String),
}

impl Operation {
    pub fn plain_charge(n: usize, lookup: &str, amount: i64, chain: Vec<i64>) -> Self {
        let spent = Spent { status: "ok", ..Spent::new(lookup, 'c', amount) };
        Operation {
            n,
            spent,
            chain,
            ttl: 0,
            settles_if_expired: false,
            scopes: None,
            rows_beside: Default::default(),
        }
    }

    fn lacks_scope(&self, key: &Key) -> bool {
        let has = |wanted: &Vec<String>, scope: &str| wanted.iter().any(|wanted| wanted == scope);
        matches!((&self.scopes, key.scope), (Some(wanted), Some(scope)) if !has(wanted, scope))
    }
}

impl Database {
    /// `is_flat`: of keys whose own row is all that counts.
    pub(super) fn spend(&mut self, params: &[&str], is_flat: bool) -> (Vec<String>, Vec<Effect>) {
        let [lookups, kinds, amounts, details, waits_for @ ..] = params else { panic!("four parameters") };
        // Without the fifth, what was done before or does not fit is left to the other statement.
        let is_fresh = waits_for.is_empty();
        let waits_for = waits_for.first().copied().unwrap_or_default();
        let mut effects = Vec::new();
        let mut operations = Vec::new();
        let mut replayed = Vec::new();
        let mut rows = Vec::new();
        let mut asked: BTreeMap<i64, Vec<(char, i128)>> = BTreeMap::new();
        let details = array(details)
            .into_iter()
            .map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default());
        let fields = array(lookups).into_iter().zip(array(kinds)).zip(array(amounts)).zip(details);
        let fields: Vec<_> = fields.collect();
        let taken: Vec<bool> = fields
            .iter()
            .map(|(((lookup, _), _), _)| {
                let same = fields.iter().filter(|(((other, _), _), _)| other == lookup);
                let asked: Vec<_> =
                    same.map(|(((_, kind), amount), details)| (&**kind, number(amount), details)).collect();
                !is_flat || self.takes_flat(lookup, &asked)
            })
            .collect();
        for (n, (((lookup, kind), amount), details)) in fields.into_iter().enumerate() {
            if !taken[n] {
                effects.push(Effect::Undecided);
                continue;
            }
            let text = |name: &str| details[name].as_str().map(str::to_owned);
            let kind = kind.chars().next().expect("a kind");
            let mut spent = Spent::new(&lookup, kind, number(&amount));
            spent.idempotency_key = text("idempotency_key");
            spent.reservation = text("id");
            let Some(key) = self.find(&lookup) else {
                if is_fresh {
                    effects.push(Effect::Undecided);
                    continue;
                }
                spent.refusal = Some("invalid_key");
                effects.push(Effect::Spent(spent));
                continue;
            };
            let chain = self.chain_of(key);
            let name = spent.idempotency_key.clone();
            let was_done = name.is_some_and(|name| self.companions.firsts.contains_key(&(key.id, name)));
            if is_fresh && was_done {
                effects.push(Effect::Undecided);
                continue;
            }
            for id in &chain {
                asked.entry(*id).or_default().push((kind, i128::from(spent.amount)));
            }
            if let Some(id) = chain.iter().find(|id| self.is_locked(**id, waits_for)) {
                rows.push(format!("({},busy,,,,{id},,,f,,,,{})", n + 1, yes_or_no(chain.len() > 1)));
                effects.push(Effect::Busy);
                continue;
            }
            spent.before = Some(self.view_of(key));
            let rows_beside = match kind {
                'r' => self.rows_beside(key),
                _ => Default::default(),
            };
            let ttl = details["ttl"].as_i64().unwrap_or_default();
            let settles_if_expired = details["if_expired"] == "settle";
            let scopes = serde_json::from_value(details["scopes"].clone()).ok();
            let mut operation = Operation { n, spent, chain, ttl, settles_if_expired, scopes, rows_beside };
            if self.is_replayed(&mut operation, key) {
                replayed.push(operation);
            } else {
                operations.push(operation);
            }
        }
        if is_fresh {
            let (take, leave): (Vec<_>, Vec<_>) = operations.into_iter().partition(|operation| {
                let has_room = |id: &i64| self.takes_all(*id, &asked[id]);
                operation.chain.iter().all(has_room) && self.refusal(operation).is_none()
            });
            effects.extend(leave.iter().map(|_| Effect::Undecided));
            operations = take;
        }
        for (row, spent) in self.accept(operations) {
            rows.push(row);
            effects.push(Effect::Spent(spent));
        }
        for operation in replayed {
            rows.push(self.spent_row(&operation, None, false));
            effects.push(Effect::Spent(operation.spent));
        }
        (rows, effects)
    }

    /// Whether a key has no parent, is live, and takes all that is asked of it (kind, amount, details) for the first time.
    fn takes_flat(&self, lookup: &str, asked: &[(&str, i64, &serde_json::Value)]) -> bool {
        let Some(key) = self.find(lookup) else { return false };
        let view = key.own_view(self.now);
        let total: i128 = asked.iter().map(|(_, amount, _)| i128::from(*amount)).sum();
        let room = (view.cap() - view.used).min(view.storable()) - view.reserved;
        let has_scope = |details: &serde_json::Value| {
            let wanted = details["scopes"].as_array();
            wanted.is_none_or(|wanted| key.scope.is_none_or(|scope| wanted.contains(&scope.into())))
        };
        let was_done = |details: &serde_json::Value| {
            let name = details["idempotency_key"].as_str().map(str::to_owned);
            name.is_some_and(|name| self.companions.firsts.contains_key(&(key.id, name)))
        };
        key.ancestors.is_empty()
            && !view.revoked
            && !key.may_be_due(self.now)
            && (1..=i128::from(room)).contains(&total)
            && (!view.expired || asked.iter().all(|(kind, ..)| *kind != "r"))
            && asked.iter().all(|(_, _, details)| has_scope(details) && !was_done(details))
    }

    /// Whether a row has room for all that is asked of it.
    fn takes_all(&self, id: i64, asked: &[(char, i128)]) -> bool {
        let view = self.by_id(id).own_view(self.now);
        let room = |cap: i64| i128::from((cap - view.used).min(view.storable()) - view.reserved);
        let overruns: i128 =
            asked.iter().filter(|(kind, _)| is_overrun(*kind)).map(|(_, amount)| amount).sum();
        let total: i128 = asked.iter().map(|(_, amount)| amount).sum();
        let only_overruns = asked.iter().all(|(kind, _)| is_overrun(*kind));
        if view.revoked && asked.iter().any(|(kind, _)| *kind != 'a') {
            return false;
        }
        overruns <= room(view.storable()) && (only_overruns || total <= room(view.cap()))
    }

    /// Whether an operation was done before under its idempotency key. One whose reservation ended without a cost is
    /// decided anew.
    fn is_replayed(&self, operation: &mut Operation, key: &Key) -> bool {
        let lacks_scope = operation.lacks_scope(key);
        let spent = &mut operation.spent;
        let name = spent.idempotency_key.clone();
        let Some(first) = name.and_then(|name| self.companions.firsts.get(&(key.id, name))) else {
            return false;
        };
        assert!(
            first.amount == spent.amount && (first.kind == 'r') == (spent.kind == 'r'),
            "no conflicts here"
        );
        spent.status = "replayed";
        let Some(held) = first.reservation.as_deref().and_then(|id| self.reservation(id)) else {
            spent.money = Some(first.money);
            return true;
        };
        let is_spent = held.is_over(self.now) && held.settles_if_expired;
        if held.state == "released" || held.state == "expired" || held.is_over(self.now) && !is_spent {
            spent.instead_of = Some(held.id.clone());
            return false;
        }
        spent.reservation = Some(held.id.clone());
        spent.expires_at = Some(held.expires_at);
        spent.money = Some(key.money(self.now));
        spent.settled = held.cost.or(is_spent.then_some(held.amount));
        if spent.settled.is_some() {
            spent.status = "already_settled";
            spent.refusal = Some("already_settled");
        } else if lacks_scope {
            spent.status = "refused";
            spent.refusal = Some("insufficient_scope");
        }
        // What is held already is held, though nothing more is to be had.
        let is_held = spent.status != "refused";
        let denial = self.view_of(key).denial().filter(|reason| !is_held || *reason != "budget_exceeded");
        spent.refusal = denial.or(spent.refusal);
        true
    }

    /// What an operation needs on each row: what an unswept reservation holds, the next one takes over.
    fn drawn(&self, spent: &Spent) -> i64 {
        let before = spent.instead_of.as_deref().and_then(|id| self.reservation(id));
        if before.is_some_and(|before| before.is_over(self.now)) { 0 } else { spent.amount }
    }

    /// Accepts an operation if none of the rows that it draws on forbids it, and on each of them all up to it in order
    /// fit.
    fn accept(&mut self, mut operations: Vec<Operation>) -> Vec<(String, Spent)> {
        let has_expired = self.expired().next().is_some();
        operations.sort_by_key(|o| (!is_overrun(o.spent.kind), o.spent.amount, o.n));
        let mut running: BTreeMap<i64, i128> = BTreeMap::new();
        for operation in &mut operations {
            let mut fits = true;
            for id in &operation.chain {
                let view = self.by_id(*id).own_view(self.now);
                let total = running.entry(*id).or_default();
                *total += i128::from(self.drawn(&operation.spent));
                let cap = if is_overrun(operation.spent.kind) { view.storable() } else { view.cap() };
                fits &= *total <= i128::from((cap - view.used).min(view.storable()) - view.reserved);
            }
            operation.spent.refusal = self.refusal(operation);
            operation.spent.status = match (operation.spent.refusal, fits) {
                (Some(_), _) => "refused",
                (None, true) => "ok",
                (None, false) => "budget_exceeded",
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
                if obstacle.is_some() {
                    operation.spent.refusal = Some("budget_exceeded");
                }
                let row = self.spent_row(&operation, obstacle, has_expired);
                (row, operation.spent)
            })
            .collect()
    }

    /// Why the rows that an operation draws on forbid it, whatever its amount. Money that is spent already is recorded
    /// unless its key was revoked, and what an admitted request spent even then.
    fn refusal(&self, operation: &Operation) -> Option<&'static str> {
        let key = self.by_id(operation.chain[0]);
        let view = self.view_of(key);
        match operation.spent.kind {
            'r' => view.denial().or(operation.lacks_scope(key).then_some("insufficient_scope")),
            'a' => None,
            _ => view.revoked.then_some("invalid_key"),
        }
    }

    pub(super) fn record(&mut self, operation: &mut Operation) {
        let now = self.now;
        let drawn = self.drawn(&operation.spent);
        let Operation { spent, chain, ttl, settles_if_expired, .. } = operation;
        for id in chain.iter() {
            let key = self.keys.iter_mut().find(|key| key.id == *id).expect("a key");
            let view = key.own_view(now);
            if spent.kind == 'r' {
                // As the statement does it, also where only something is held: the reset that is due is written.
                key.write_used(view.used, now);
                key.reserved += drawn;
            } else {
                key.write_used(view.used + spent.amount, now);
                if key.own_view(now).is_over() {
                    self.companions.may_be_over.push(*id);
                }
            }
            spent.draws.push((key.lookup.clone(), view.period));
        }
        let money = self.by_id(chain[0]).money(now);
        spent.money = Some(money);
        if let Some(over) = spent.instead_of.as_deref().filter(|_| drawn == 0) {
            let over = self.companions.reservations.iter_mut().find(|r| r.id == over).expect("a reservation");
            let (budget, used, reserved) = money;
            (over.state, over.money) = ("expired", Some((budget, used, reserved - over.amount)));
        }
        if spent.kind == 'r' {
            spent.expires_at = Some(now + *ttl);
            self.companions.reservations.push(Reservation {
                id: spent.reservation.clone().expect("a reservation's id"),
                key: chain[0],
                amount: spent.amount,
                state: "pending",
                settles_if_expired: *settles_if_expired,
                expires_at: now + *ttl,
                extended_to: Vec::new(),
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
                before.is_none() || spent.instead_of.is_some(),
                "one statement recorded an idempotency key twice: the real one would fail for ever"
            );
        }
    }

    /// The first key of the chain that has no room for an operation.
    fn obstacle(&self, operation: &Operation) -> Option<i64> {
        operation.chain.iter().copied().find(|id| {
            let view = self.by_id(*id).own_view(self.now);
            let cap = if is_overrun(operation.spent.kind) { view.storable() } else { view.cap() };
            self.drawn(&operation.spent) > (cap - view.used).min(view.storable()) - view.reserved
        })
    }

    fn spent_row(&self, operation: &Operation, obstacle: Option<i64>, has_expired: bool) -> String {
        let Operation { n, spent, .. } = operation;
        let (budget, used, reserved) = match spent.money {
            Some((budget, used, reserved)) => (optional(budget), used.to_string(), reserved.to_string()),
            None => Default::default(),
        };
        let id = spent.reservation.clone().unwrap_or_default();
        let expires_at = self.reservation(&id).map(|r| r.expires_at);
        let money = obstacle.map(|id| (id, self.by_id(id).money(self.now)));
        let limit = money.map(|(id, (budget, used, reserved))| {
            let key = self.by_id(id);
            let next = key.period.filter(|_| key.is_due(self.now)).map(|period| period.next_reset(self.now));
            let reset_at = optional(next.or(key.reset_at));
            let owner = self.owner_in(&operation.chain, id);
            let (period, when) =
                (key.period.map_or("", |period| period.name), key.when_exceeded.unwrap_or_default());
            quoted(&format!(
                "({owner},{},{used},{reserved},{reset_at},{period},{when},{id})",
                optional(budget)
            ))
        });
        let holds = money.is_some_and(|(_, (_, _, reserved))| reserved > 0);
        let has_expired = holds && has_expired;
        let (key, states) = match (spent.kind, spent.status) {
            ('r', "ok" | "replayed" | "refused" | "already_settled") => {
                let (key, states) = &operation.rows_beside;
                (quoted(key), quoted(states))
            }
            _ => Default::default(),
        };
        format!(
            "({},{},{budget},{used},{reserved},{id},{},{},{},{key},{states},{},{})",
            n + 1,
            spent.status,
            optional(expires_at),
            limit.unwrap_or_default(),
            yes_or_no(has_expired),
            optional(spent.settled.filter(|_| spent.status == "already_settled")),
            yes_or_no(operation.chain.len() > 1),
        )
    }
}
