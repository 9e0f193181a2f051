//! What is promised of spends in all their forms: under one idempotency key money moves once, and callers are told what
//! became of it.

use std::collections::BTreeSet;

use agentkey::Grant;
use agentkey::engine::{Answer, Balance, Reservation, ReserveRefusal, Statement, StatementKind, Ticket};

use super::answers::{is_of, money_of};
use super::{Ask, Checked, ProcessId, Promises};
use crate::database::text::array;
use crate::database::{Money, Spent, View};

/// A spend that callers ask for, perhaps several of them under one idempotency key.
#[derive(Debug, Default)]
pub struct Spending {
    /// Those that moved money: one, and of a reserve another one each time that it ended without a cost.
    recorded: Vec<Spent>,
    /// What statements said that the key had.
    monies: Vec<Money>,
    /// Why it was refused for good.
    refusals: BTreeSet<&'static str>,
    /// The key as the statements found it that decided.
    seen: Vec<View>,
    /// When its reservation was to expire, as the statements found it.
    expiries: BTreeSet<i64>,
    /// Its caller was told that it was certainly not recorded.
    is_disowned: bool,
    fresh_answers: usize,
    is_acknowledged: bool,
    under_way: u32,
}

/// Each charge of statements that send the costs of a key together.
pub(super) fn charges_of_groups<'a>(
    lookups: &'a [String],
    costs: &'a [String],
) -> impl Iterator<Item = (String, String)> + 'a {
    let groups = lookups.iter().zip(costs);
    groups.flat_map(|(lookup, costs)| array(costs).into_iter().map(|cost| (lookup.clone(), cost)))
}

/// Lookup, kind, amount and details.
type Operation = (String, char, i64, serde_json::Value);

pub(super) fn is_spend(kind: StatementKind) -> bool {
    is_tree(kind)
        || matches!(kind, StatementKind::SpendFlat | StatementKind::SpendFresh | StatementKind::Spend)
}

fn is_tree(kind: StatementKind) -> bool {
    matches!(kind, StatementKind::ChargeTree | StatementKind::ChargeTreeContended)
}

/// The operations of a spend.
fn operations(statement: &Statement) -> Vec<Operation> {
    if !is_spend(statement.kind) {
        return Vec::new();
    }
    let arrays = if is_tree(statement.kind) { 2 } else { 4 };
    let arrays = statement.params.iter().take(arrays);
    let mut params: Vec<Vec<String>> =
        arrays.map(|param| array(param.as_deref().unwrap_or_default())).collect();
    if is_tree(statement.kind) {
        let (lookups, amounts): (Vec<String>, Vec<String>) =
            charges_of_groups(&params[0], &params[1]).unzip();
        let kinds = vec!["c".to_owned(); lookups.len()];
        let details = vec![String::new(); lookups.len()];
        params = vec![lookups, kinds, amounts, details];
    }
    let [lookups, kinds, amounts, details, ..] = params.as_slice() else { return Vec::new() };
    let details = details.iter().map(|text| serde_json::from_str(text).unwrap_or_default());
    lookups
        .iter()
        .cloned()
        .zip(kinds.iter().map(|kind| kind.chars().next().expect("a kind")))
        .zip(amounts.iter().map(|amount| amount.parse().expect("an amount")))
        .zip(details)
        .map(|(((lookup, kind), amount), details)| (lookup, kind, amount, details))
        .collect()
}

/// Names a spend; `None` for a plain charge.
fn name_of(lookup: &str, kind: char, amount: i64, idempotency_key: Option<&str>) -> Option<String> {
    match (idempotency_key, kind) {
        (Some(key), _) => Some(format!("{lookup}/{key}")),
        (None, 'r') => Some(format!("{lookup}/hold/{amount}")),
        (None, 'o') => Some(format!("{lookup}/over/{amount}")),
        _ => None,
    }
}

/// The plain charges among the operations of a spend.
pub fn plain_charges(statement: &Statement) -> Vec<(String, i64)> {
    let named = |(lookup, kind, amount, details): &Operation| {
        name_of(lookup, *kind, *amount, details["idempotency_key"].as_str()).is_some()
    };
    operations(statement)
        .into_iter()
        .filter(|o| !named(o))
        .map(|(lookup, _, amount, _)| (lookup, amount))
        .collect()
}

impl Ask {
    /// The name of the spend that is asked for.
    pub fn spend_name(&self) -> Option<String> {
        match self {
            Ask::Spend { lookup, kind, amount, idempotency_key } => {
                name_of(lookup, *kind, *amount, idempotency_key.as_deref())
            }
            _ => None,
        }
    }
}

impl Promises {
    pub(super) fn spends_sent(&mut self, process: ProcessId, statement: &Statement) -> Checked {
        let mut seen = BTreeSet::new();
        for (lookup, kind, amount, details) in operations(statement) {
            let key = details["idempotency_key"].as_str();
            let Some(name) = name_of(&lookup, kind, amount, key) else { continue };
            if !seen.insert(name.clone()) {
                return Err(format!("the spend {name} is twice in one statement"));
            }
            let asked = self.calls.range_mut((process, Ticket(0))..=(process, Ticket(u64::MAX)));
            let mut callers =
                asked.map(|(_, call)| call).filter(|call| call.ask.spend_name().as_ref() == Some(&name));
            if !callers.any(|call| !call.closed) {
                return Err(format!("the spend {name} is sent though nobody waits for it"));
            }
            let asked = self.calls.range_mut((process, Ticket(0))..=(process, Ticket(u64::MAX)));
            for (_, call) in asked.filter(|(_, call)| call.ask.spend_name().as_ref() == Some(&name)) {
                call.was_sent = true;
            }
            let spending = self.spends.entry(name.clone()).or_default();
            if spending.under_way > 0 && key.is_none() {
                return Err(format!("the spend {name} is sent again though it may have been recorded"));
            }
            spending.under_way += 1;
        }
        Ok(())
    }

    pub(super) fn spends_received(
        &mut self,
        statement: &Statement,
        nothing_happened: bool,
        has_answered: bool,
    ) {
        for (lookup, kind, amount, details) in operations(statement) {
            let key = details["idempotency_key"].as_str();
            let Some(name) = name_of(&lookup, kind, amount, key) else { continue };
            let spending = self.spends.entry(name).or_default();
            if nothing_happened || (has_answered && spending.recorded.is_empty()) {
                spending.under_way = spending.under_way.saturating_sub(1);
            }
        }
    }

    /// The database decided on a spend that has a name.
    pub(super) fn spend_decided(&mut self, spent: &Spent) -> Checked {
        let key = spent.idempotency_key.as_deref();
        let Some(name) = name_of(&spent.lookup, spent.kind, spent.amount, key) else { return Ok(()) };
        let spending = self.spends.entry(name.clone()).or_default();
        spending.seen.extend(spent.before);
        spending.refusals.extend(spent.refusal);
        spending.expiries.extend(spent.expires_at);
        spending.monies.extend(spent.money);
        if spent.status == "ok" {
            if spent.instead_of.is_some() == spending.recorded.is_empty() {
                return Err(format!("the spend {name} is recorded twice"));
            }
            if spending.is_disowned {
                return Err(format!("the spend {name} is recorded after its caller was told that it is not"));
            }
            if spent.draws.len() > 1 {
                self.coverage.count("spend", "of a whole chain");
            }
            if spent.instead_of.is_some() {
                self.coverage.count("spend", "decided anew");
            }
            spending.recorded.push(spent.clone());
        }
        Ok(())
    }

    /// Whether no statement can have recorded a spend, or will. Only where nobody else may ask for the same one.
    pub(super) fn is_certainly_not_recorded(&self, ask: &Ask) -> bool {
        let is_under_way = |name| self.spends.get(&name).is_some_and(|spending| spending.under_way > 0);
        matches!(ask, Ask::Spend { idempotency_key: None, .. }) && !ask.spend_name().is_some_and(is_under_way)
    }

    /// A caller is told that its request certainly did nothing. Where others may ask for the same spend, they may have
    /// had it recorded.
    pub(super) fn disown(&mut self, ask: &Ask) -> Checked {
        let (Some(name), Ask::Spend { idempotency_key: None, .. }) = (ask.spend_name(), ask) else {
            return Ok(());
        };
        let spending = self.spends.entry(name.clone()).or_default();
        spending.is_disowned = true;
        match spending.recorded.first() {
            None => Ok(()),
            Some(recorded) => Err(format!("the spend {name} is said not to be recorded: {recorded:?}")),
        }
    }

    /// A spend is answered.
    pub(super) fn check_spend(&mut self, ask: &Ask, answer: &Answer) -> Checked {
        let (Some(name), Ask::Spend { lookup, kind, amount, idempotency_key }) = (ask.spend_name(), ask)
        else {
            return Err("no spend".to_owned());
        };
        let spending = self.spends.entry(name.clone()).or_default();
        let told = match answer {
            Answer::Charged(Ok(charged)) if *kind != 'r' => match charged.balance {
                Some(balance) => Ok((balance, charged.replayed)),
                None => return Err(format!("the spend {name} is answered without a balance")),
            },
            Answer::Reserved(Ok(held)) if *kind == 'r' => {
                let id = Some(held.id.as_str());
                if !spending.recorded.iter().any(|recorded| recorded.reservation.as_deref() == id) {
                    return Err(format!("the spend {name} is answered {answer:?}: {spending:?}"));
                }
                spending.check_held(held).map_err(|why| format!("{name}: {why}"))?;
                Ok((held.balance, held.replayed))
            }
            Answer::Charged(Err(refusal)) if *kind != 'r' => Err(refusal.as_str()),
            Answer::Reserved(Err(refusal)) if *kind == 'r' => {
                spending.check_refusal(refusal).map_err(|why| format!("{name}: {why}"))?;
                Err(refusal.reason.as_str())
            }
            _ => return Err(format!("the spend {name} is answered {answer:?}")),
        };
        match told {
            Ok((balance, replayed)) => {
                let draws = spending
                    .acknowledge(balance, replayed)
                    .map_err(|why| format!("the spend {name} is answered {answer:?}: {why}"))?;
                let which = match (replayed, kind) {
                    (true, _) => "replayed",
                    (_, 'r') => "held",
                    (_, 'o') if balance.over_microcents() > 0 => "recorded past the cap",
                    _ => "recorded",
                };
                self.coverage.count("spend", which);
                match (kind, draws) {
                    ('r', _) => {}
                    (_, Some(draws)) => self.was_spent(&draws, *amount),
                    (_, None) => self.was_not_spent(lookup, *amount),
                }
            }
            Err(reason) => {
                let Some(reason) = spending.refusals.get(reason) else {
                    return Err(format!("the spend {name} is refused as {reason}: {spending:?}"));
                };
                if !spending.recorded.is_empty() && idempotency_key.is_none() {
                    return Err(format!("the spend {name} was recorded and is refused"));
                }
                self.coverage.count("spend", reason);
                if *kind != 'r' {
                    self.was_not_spent(lookup, *amount);
                }
            }
        }
        Ok(())
    }
}

impl Spending {
    /// A caller is told that the money moved. On whose budgets, if it is the first.
    fn acknowledge(
        &mut self,
        balance: Balance,
        replayed: bool,
    ) -> Result<Option<Vec<(String, i64)>>, &'static str> {
        let recorded = self.recorded.first().ok_or("it was never recorded")?;
        if !self.monies.contains(&money_of(&balance)) {
            return Err("it was another balance");
        }
        self.fresh_answers += usize::from(!replayed);
        if self.fresh_answers > self.recorded.len() {
            return Err("it is new a second time");
        }
        let is_first = !std::mem::replace(&mut self.is_acknowledged, true);
        Ok(is_first.then(|| recorded.draws.clone()))
    }

    /// The key that comes with a reservation is the key as a statement found it, which was live unless it was a replay.
    fn check_held(&self, held: &Reservation) -> Result<(), String> {
        if !self.expiries.contains(&held.expires_at.timestamp()) {
            return Err(format!("{held:?} was never to expire then: {:?}", self.expiries));
        }
        self.check_grant(&held.grant, |view| held.replayed || view.denial().is_none())
    }

    /// The key that comes with a refusal is the key as a statement found it, which was no better than the refusal says.
    fn check_refusal(&self, refusal: &ReserveRefusal) -> Result<(), String> {
        let reason = refusal.reason.as_str();
        match &refusal.key {
            Some(key) if reason == "insufficient_scope" => {
                self.check_grant(key, |view| view.scope.is_some() && view.denial().is_none())
            }
            Some(key) => self.check_grant(key, |view| view.denial() == Some(reason)),
            // There is none, or it is only that the amount does not fit.
            None if ["invalid_key", "budget_exceeded", "already_settled"].contains(&reason) => Ok(()),
            None => Err(format!("{refusal:?} does not say of which key")),
        }
    }

    fn check_grant(&self, grant: &Grant, is_possible: impl Fn(&View) -> bool) -> Result<(), String> {
        match self.seen.iter().any(|view| is_of(grant, view) && is_possible(view)) {
            true => Ok(()),
            false => Err(format!("{grant:?} was never found: {:?}", self.seen)),
        }
    }
}
