//! What is promised of spends in all their forms, and of reservations: under one idempotency key money moves once, a
//! reservation ends once, and callers are told what became of it.

use std::collections::{BTreeMap, BTreeSet};

use agentkey::{
    ChargeRefusal, FinishRefusal, MICROCENTS_PER_CENT, Outcome, ReserveRefusal, Statement, StatementKind,
    Ticket, Usage,
};

use super::{Ask, Checked, ProcessId, Promises};
use crate::database::{Database, array};
use crate::reservations::{Money, Spent};

/// A spend that callers ask for, perhaps several of them under one idempotency key.
#[derive(Debug, Default)]
pub struct Spending {
    /// The one that moved money.
    recorded: Option<Spent>,
    refusals: BTreeSet<&'static str>,
    /// Whether a refusal for the budget is final: it does not fit even alone.
    has_obstacle: bool,
    fresh_answers: u32,
    is_acknowledged: bool,
    under_way: u32,
}

/// What callers were told of reservations.
#[derive(Debug, Default)]
pub struct Ends {
    fresh_settles: BTreeMap<String, u32>,
    releases: BTreeMap<String, u32>,
}

/// Each charge of statements that send the costs of a key together.
pub fn charges_of_groups<'a>(
    lookups: &'a [String],
    costs: &'a [String],
) -> impl Iterator<Item = (String, String)> + 'a {
    let groups = lookups.iter().zip(costs);
    groups.flat_map(|(lookup, costs)| array(costs).into_iter().map(|cost| (lookup.clone(), cost)))
}

/// The operations of a spend: lookup, kind, amount and details.
fn operations(statement: &Statement) -> Vec<(String, String, i64, serde_json::Value)> {
    if !matches!(statement.kind, StatementKind::Spend | StatementKind::ChargeTree) {
        return Vec::new();
    }
    let mut params: Vec<Vec<String>> =
        statement.params.iter().map(|param| array(param.as_deref().unwrap_or_default())).collect();
    if statement.kind == StatementKind::ChargeTree {
        let (lookups, amounts): (Vec<String>, Vec<String>) =
            charges_of_groups(&params[0], &params[1]).unzip();
        let kinds = vec!["c".to_owned(); lookups.len()];
        let details = vec![String::new(); lookups.len()];
        params = vec![lookups, kinds, amounts, details];
    }
    let [lookups, kinds, amounts, details] = params.as_slice() else { return Vec::new() };
    let details = details.iter().map(|text| serde_json::from_str(text).unwrap_or_default());
    lookups
        .iter()
        .cloned()
        .zip(kinds.iter().cloned())
        .zip(amounts.iter().map(|amount| amount.parse().expect("an amount")))
        .zip(details)
        .map(|(((lookup, kind), amount), details)| (lookup, kind, amount, details))
        .collect()
}

/// Names a spend; `None` for a plain charge.
fn name_of(
    lookup: &str,
    kind: &str,
    amount: i64,
    idempotency_key: Option<&str>,
    id: Option<&str>,
) -> Option<String> {
    match (idempotency_key, kind, id) {
        (Some(key), ..) => Some(format!("{lookup}/{key}")),
        (None, "r", Some(id)) => Some(id.to_owned()),
        (None, "o", _) => Some(format!("{lookup}/over/{amount}")),
        _ => None,
    }
}

/// The plain charges among the operations of a spend.
pub fn plain_charges(statement: &Statement) -> Vec<(String, i64)> {
    let named = |(lookup, kind, amount, details): &(String, String, i64, serde_json::Value)| {
        name_of(lookup, kind, *amount, details["idempotency_key"].as_str(), details["id"].as_str()).is_some()
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
            Ask::Spend { lookup, kind, amount, idempotency_key, reservation } => {
                name_of(lookup, kind, *amount, idempotency_key.as_deref(), reservation.as_deref())
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
            let Some(name) = name_of(&lookup, &kind, amount, key, details["id"].as_str()) else { continue };
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
            let Some(name) = name_of(&lookup, &kind, amount, key, details["id"].as_str()) else { continue };
            let spending = self.spends.entry(name).or_default();
            if nothing_happened || (has_answered && spending.recorded.is_none()) {
                spending.under_way = spending.under_way.saturating_sub(1);
            }
        }
    }

    pub(super) fn finishes_sent(&mut self, statement: &Statement) -> Checked {
        let ids = array(statement.params.first().and_then(|p| p.as_deref()).unwrap_or_default());
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return Err("a reservation is twice in one statement".to_owned());
        }
        for call in self.calls.values_mut() {
            if matches!(&call.ask, Ask::Finish { id, .. } if ids.contains(id)) {
                call.was_sent = true;
            }
        }
        Ok(())
    }

    /// The database decided on a spend that has a name.
    pub(super) fn spend_decided(&mut self, spent: &Spent) -> Checked {
        let kind = spent.kind.to_string();
        let key = spent.idempotency_key.as_deref();
        let Some(name) = name_of(&spent.lookup, &kind, spent.amount, key, spent.reservation.as_deref())
        else {
            return Ok(());
        };
        let spending = self.spends.entry(name.clone()).or_default();
        match spent.status {
            "ok" => {
                if spending.recorded.is_some() {
                    return Err(format!("the spend {name} is recorded twice"));
                }
                if spent.draws.len() > 1 {
                    self.coverage.count("spend", "of a whole chain");
                }
                spending.recorded = Some(spent.clone());
            }
            "replayed" => {}
            status => {
                spending.refusals.insert(status);
                spending.has_obstacle |= spent.has_obstacle;
            }
        }
        Ok(())
    }

    /// A spend is answered.
    pub(super) fn check_spend(&mut self, ask: &Ask, outcome: &Outcome) -> Checked {
        let (Some(name), Ask::Spend { lookup, kind, amount, idempotency_key, .. }) = (ask.spend_name(), ask)
        else {
            return Err("no spend".to_owned());
        };
        let spending = self.spends.entry(name.clone()).or_default();
        let told = match outcome {
            Outcome::Charged(Usage::Recorded(recorded)) => Ok((recorded.balance, recorded.replayed, None)),
            Outcome::Reserved(Ok(held)) => {
                Ok((held.balance, held.replayed, Some(held.id.as_str().to_owned())))
            }
            Outcome::Charged(Usage::Refused(ChargeRefusal::BudgetExceeded)) => Err("budget_exceeded"),
            Outcome::Charged(Usage::Refused(ChargeRefusal::InvalidKey)) => Err("invalid_key"),
            Outcome::Reserved(Err(refused)) => match refused.reason {
                ReserveRefusal::BudgetExceeded => Err("budget_exceeded"),
                ReserveRefusal::InvalidKey => Err("invalid_key"),
                ReserveRefusal::Expired => Err("expired"),
                _ => return Err(format!("the spend {name} is answered {outcome:?}")),
            },
            _ => return Err(format!("the spend {name} is answered {outcome:?}")),
        };
        let is_money = kind != "r";
        match told {
            Ok((balance, replayed, id)) => {
                let Some(recorded) = spending.recorded.clone() else {
                    return Err(format!("the spend {name} was never recorded, and is answered {outcome:?}"));
                };
                let money: Money = (
                    balance.budget_microcents.map(|cap| cap / MICROCENTS_PER_CENT),
                    balance.used_microcents,
                    balance.reserved_microcents,
                );
                if Some(money) != recorded.money || (id.is_some() && id != recorded.reservation) {
                    return Err(format!("the spend {name} is answered {outcome:?}, it was {recorded:?}"));
                }
                spending.fresh_answers += u32::from(!replayed);
                if spending.fresh_answers > 1 {
                    return Err(format!("the spend {name} is answered as new twice"));
                }
                let is_first = !std::mem::replace(&mut spending.is_acknowledged, true);
                let which = match (replayed, kind.as_str()) {
                    (true, _) => "replayed",
                    (_, "r") => "held",
                    (_, "o") if balance.over_microcents() > 0 => "recorded past the cap",
                    _ => "recorded",
                };
                self.coverage.count("spend", which);
                match (is_money, is_first) {
                    (true, true) => self.was_spent(&recorded.draws, *amount),
                    (true, false) => self.was_not_spent(lookup, *amount),
                    (false, _) => {}
                }
            }
            Err(reason) => {
                let is_decided = spending.refusals.contains(reason)
                    || (reason == "invalid_key" && spending.refusals.contains("no row"));
                if !is_decided || (reason == "budget_exceeded" && !spending.has_obstacle) {
                    return Err(format!("the spend {name} is refused as {reason}: {spending:?}"));
                }
                if spending.recorded.is_some() && idempotency_key.is_none() {
                    return Err(format!("the spend {name} was recorded and is refused"));
                }
                self.coverage
                    .count("spend", if reason == "budget_exceeded" { "refused" } else { "of no live key" });
                if is_money {
                    self.was_not_spent(lookup, *amount);
                }
            }
        }
        Ok(())
    }

    /// A settle, release or extension is answered.
    pub(super) fn check_finish(&mut self, db: &Database, ask: &Ask, outcome: &Outcome) -> Checked {
        let Ask::Finish { id, lookup, cost } = ask else { return Err("no end of a reservation".to_owned()) };
        let reservation = db.reservation(id);
        let wrong = || Err(format!("{ask:?} is answered {outcome:?}, it is {reservation:?}"));
        let mut own = None;
        match (outcome, reservation) {
            (Outcome::Settled(Ok(done)), Some(r)) => {
                let money = (
                    done.balance.budget_microcents.map(|cap| cap / MICROCENTS_PER_CENT),
                    done.balance.used_microcents,
                    done.balance.reserved_microcents,
                );
                let overage = (done.cost_microcents - r.amount).max(0);
                if r.state != "settled"
                    || Some(done.cost_microcents) != r.cost
                    || Some(money) != r.money
                    || done.overage_microcents != overage
                {
                    return wrong();
                }
                let fresh = self.ends.fresh_settles.entry(id.clone()).or_default();
                *fresh += u32::from(!done.replayed);
                if *fresh > 1 {
                    return wrong();
                }
                self.coverage.count("settle", if done.replayed { "replayed" } else { "recorded" });
                // Every settle asks for a cost of its own.
                own = (r.cost == Some(*cost)).then(|| r.draws.clone());
            }
            (Outcome::Settled(Err(FinishRefusal::Released)), Some(r)) if r.state == "released" => {
                self.coverage.count("settle", "released before");
            }
            (Outcome::Released(Ok(true)), Some(r)) if r.state == "released" => {
                let releases = self.ends.releases.entry(id.clone()).or_default();
                *releases += 1;
                if *releases > 1 {
                    return wrong();
                }
                self.coverage.count("release", "given back");
            }
            (Outcome::Released(Ok(false)), Some(r)) if r.state != "pending" => {}
            (Outcome::Extended(Ok(_)), Some(_)) => self.coverage.count("extend", "extended"),
            (Outcome::Extended(Err(FinishRefusal::Settled)), Some(r)) if r.state == "settled" => {}
            (Outcome::Extended(Err(FinishRefusal::Released)), Some(r)) if r.state == "released" => {}
            // It may have been settled since.
            (Outcome::Extended(Err(FinishRefusal::Expired)), Some(r))
                if ["expired", "settled"].contains(&r.state) => {}
            // Its reserve may be under way still.
            (Outcome::Settled(Err(FinishRefusal::UnknownReservation)), _)
            | (Outcome::Released(Err(FinishRefusal::UnknownReservation)), _)
            | (Outcome::Extended(Err(FinishRefusal::UnknownReservation)), _) => {
                self.coverage.count("settle", "unknown");
            }
            _ => return wrong(),
        }
        match own {
            Some(draws) => self.was_spent(&draws, *cost),
            None => self.was_not_spent(lookup, *cost),
        }
        Ok(())
    }
}
