//! Which charges are in a statement. Some say of a key only what they are in all: the costs of open charges are such that
//! no two sets of them have one sum.

use agentkey::engine::{Statement, StatementKind};

use super::spends::{charges_of_groups, is_spend, plain_charges};
use super::{Ask, Checked, ProcessId, Promises, Ticket};
use crate::database::text::array;

/// So many charges of a key are open at once at most: there are twice as many sums with each.
pub(super) const MOST_OPEN_CHARGES: usize = 9;

/// Every sum of some of the costs, with these.
pub(super) fn sums_of(costs: &[i64]) -> Vec<(i128, Vec<i64>)> {
    let mut sums = vec![(0, Vec::new())];
    for cost in costs {
        let with =
            |(sum, parts): &(i128, Vec<i64>)| (sum + i128::from(*cost), [parts, &[*cost][..]].concat());
        sums.extend(sums.iter().map(with).collect::<Vec<_>>());
    }
    sums
}

/// The charges of one key, in ascending order.
pub(super) fn costs_of(charges: &[(String, i64)], lookup: &str) -> Vec<i64> {
    let mut costs: Vec<i64> = charges.iter().filter(|(of, _)| of == lookup).map(|(_, cost)| *cost).collect();
    costs.sort_unstable();
    costs
}

impl Ask {
    /// What a plain charge of a key costs.
    pub(super) fn charge_of(&self, key: &str) -> Option<i64> {
        match self {
            Ask::Charge { lookup, cost } if lookup == key => Some(*cost),
            _ => None,
        }
    }
}

impl Promises {
    /// Finds the charges that a statement's totals are of.
    pub(super) fn take_apart(&mut self, process: ProcessId, statement: &Statement) -> Checked {
        let params: Vec<&str> = statement.params.iter().map(|p| p.as_deref().unwrap_or_default()).collect();
        let (lookups, totals) = match (statement.kind, params.as_slice()) {
            (StatementKind::ChargeOne, [lookup, total]) => {
                (vec![(*lookup).to_owned()], vec![(*total).to_owned()])
            }
            (StatementKind::ChargeMany | StatementKind::ChargeContended, [lookups, totals]) => {
                (array(lookups), array(totals))
            }
            _ => return Ok(()),
        };
        let mut charges = Vec::new();
        for (lookup, total) in lookups.into_iter().zip(totals) {
            let calls = self.calls.range((process, Ticket(0))..=(process, Ticket(u64::MAX)));
            let open = calls.filter(|(_, call)| !call.closed && !call.under_way);
            let open: Vec<i64> = open.filter_map(|(_, call)| call.ask.charge_of(&lookup)).collect();
            // A sum beyond what the type holds is sent as the largest: then all of them wait.
            let is_sent = |sum: i128| sum.min(i64::MAX.into()).to_string() == total;
            let mut sums = sums_of(&open).into_iter().rev();
            let parts = sums.find(|(sum, parts)| is_sent(*sum) && !parts.is_empty());
            let (_, parts) =
                parts.ok_or_else(|| format!("{total} is no sum of the charges that wait: {open:?}"))?;
            charges.extend(parts.into_iter().map(|cost| (lookup.clone(), cost)));
        }
        self.sums.insert((process, statement.id), charges);
        Ok(())
    }

    /// The charges in a statement that have no name.
    pub(super) fn charges_of(&self, process: ProcessId, statement: &Statement) -> Vec<(String, i64)> {
        if let Some(charges) = self.sums.get(&(process, statement.id)) {
            return charges.clone();
        }
        if is_spend(statement.kind) {
            return plain_charges(statement);
        }
        let params: Vec<&str> = statement.params.iter().map(|p| p.as_deref().unwrap_or_default()).collect();
        let cost = |text: &str| text.parse().expect("a cost");
        match (statement.kind, params.as_slice()) {
            (StatementKind::ChargeBatch, [lookups, _, costs, _]) => {
                let (lookups, costs) = (array(lookups), array(costs));
                charges_of_groups(&lookups, &costs).map(|(lookup, text)| (lookup, cost(&text))).collect()
            }
            _ => Vec::new(),
        }
    }
}
