//! What engines send, and what the database decides on plain charges.

use agentkey::engine::{Statement, StatementKind, Ticket};

use super::{Ask, Checked, Decision, ProcessId, Promises};
use crate::database::text::array;
use crate::database::{Database, Spent, View};

impl Promises {
    /// An engine sends a statement.
    pub fn sent(&mut self, process: ProcessId, statement: &Statement, max_batch: usize) -> Checked {
        let first = statement.params.first().and_then(|param| param.as_deref()).unwrap_or_default();
        let batch = || {
            let lookups = array(first);
            if lookups.is_empty() || lookups.len() > max_batch {
                return Err(format!("a batch of {}", lookups.len()));
            }
            Ok(lookups)
        };
        let waits = match (statement.kind, statement.params.as_slice()) {
            (StatementKind::ChargeBatch | StatementKind::Settle, [_, _, _, row]) => row.is_some(),
            (StatementKind::ChargeTreeContended, [_, _, row]) | (StatementKind::Spend, [_, _, _, _, row]) => {
                row.is_some()
            }
            _ => false,
        };
        if waits {
            self.coverage.count("statement", "waited for a locked row");
        }
        match statement.kind {
            StatementKind::Validate
            | StatementKind::ValidateMany
            | StatementKind::ValidateVersions
            | StatementKind::ValidateChanged
            | StatementKind::ValidateOne => {
                if statement.kind == StatementKind::ValidateChanged {
                    self.coverage.count("statement", "asked what changed");
                }
                let plain = statement.kind == StatementKind::ValidateOne;
                let lookups = if plain { vec![first.to_owned()] } else { batch()? };
                let waiting: Vec<Ticket> = self
                    .calls
                    .range((process, Ticket(0))..=(process, Ticket(u64::MAX)))
                    .filter(|(_, call)| !call.closed)
                    .filter(
                        |(_, call)| matches!(&call.ask, Ask::Validate { lookup } if lookups.contains(lookup)),
                    )
                    .map(|((_, ticket), _)| *ticket)
                    .collect();
                if waiting.is_empty() {
                    return Err("a look-up that nobody waits for".to_owned());
                }
                self.audiences.insert((process, statement.id), waiting);
            }
            StatementKind::SettleFlat | StatementKind::Settle => self.ends_sent(statement)?,
            StatementKind::ChargeOne
            | StatementKind::ChargeMany
            | StatementKind::ChargeContended
            | StatementKind::ChargeBatch
            | StatementKind::ChargeTree
            | StatementKind::ChargeTreeContended
            | StatementKind::SpendFlat
            | StatementKind::SpendFresh
            | StatementKind::Spend => {
                self.spends_sent(process, statement)?;
                self.take_apart(process, statement)?;
                let charges = self.charges_of(process, statement);
                if charges.len() > max_batch {
                    return Err(format!("{} charges in a batch", charges.len()));
                }
                if charges.len() > 1 {
                    let one_key = charges.iter().all(|(lookup, _)| *lookup == charges[0].0);
                    let keys = if one_key {
                        "shared by charges of one key"
                    } else {
                        "shared by charges of several keys"
                    };
                    self.coverage.count("statement", keys);
                }
                for (lookup, cost) in charges {
                    let call = self.charged_call(process, &lookup, cost)?;
                    if call.closed {
                        return Err(format!(
                            "a charge of {cost} is sent though nobody waits for it any more"
                        ));
                    }
                    if call.under_way {
                        return Err(format!(
                            "a charge of {cost} is sent again though it may have been recorded"
                        ));
                    }
                    (call.under_way, call.was_sent) = (true, true);
                }
            }
            StatementKind::Touch => {
                batch()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A plain charge was decided by the general statement.
    pub(super) fn plain_decided(&mut self, db: &Database, process: ProcessId, spent: &Spent) -> Checked {
        let view = db.find(&spent.lookup).map(|key| key.own_view(db.now));
        let call = self.charged_call(process, &spent.lookup, spent.amount)?;
        if matches!(call.decision, Some(Decision::Recorded { .. })) {
            return Err(format!("a charge of {} was recorded and then decided again", spent.amount));
        }
        call.decision = match (spent.status, view, spent.money) {
            ("ok", Some(view), Some((_, used, reserved))) => {
                call.draws.clone_from(&spent.draws);
                Some(Decision::Recorded { before: View { reserved, ..view }, used_after: used })
            }
            ("budget_exceeded", ..) => spent.refusal.map(|_| Decision::DoesNotFit),
            _ => Some(Decision::NoLiveKey),
        };
        Ok(())
    }

    /// Tells from the totals what became of each charge: in any serial order the cheapest come first.
    pub(super) fn decided(
        &mut self,
        process: ProcessId,
        lookup: &str,
        costs: &[i64],
        before: Option<View>,
        after: i64,
    ) -> Checked {
        let mut used = before.map_or(0, |view| view.used);
        for cost in costs {
            let call = self.charged_call(process, lookup, *cost)?;
            if matches!(call.decision, Some(Decision::Recorded { .. })) {
                return Err(format!("a charge of {cost} was recorded and then decided again"));
            }
            let decision = match before {
                None => Decision::NoLiveKey,
                Some(before) if used.checked_add(*cost).is_some_and(|sum| sum <= after) => {
                    used += cost;
                    Decision::Recorded { before, used_after: used }
                }
                Some(before) => {
                    let room = before.cap() - before.reserved - after;
                    if *cost <= room {
                        return Err(format!("a charge of {cost} was refused with room for {room}"));
                    }
                    Decision::DoesNotFit
                }
            };
            if let (Decision::Recorded { .. }, Some(before)) = (decision, before) {
                call.draws = vec![(lookup.to_owned(), before.period)];
            }
            call.decision = Some(decision);
        }
        let Some(before) = before else { return Ok(()) };
        if used != after {
            return Err(format!("{after} is used, the charges add up to {used}"));
        }
        if after == before.cap() - before.reserved && after > before.used {
            self.coverage.count("database", "a budget was used to the last");
        }
        Ok(())
    }
}
