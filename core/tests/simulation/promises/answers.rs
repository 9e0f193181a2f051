//! What a caller may be told, given what the database did.

use std::time::Duration;

use agentkey::{
    Answer, Balance, ChargeRefusal, DenialReason, Error, ErrorCode, MICROCENTS_PER_CENT, Outcome, Recorded,
    Ticket, Usage, Verdict,
};

use super::{Ask, CERTAIN, Checked, Decision, ProcessId, Promises};
use crate::coverage::Coverage;
use crate::database::{Database, View};

impl Promises {
    /// A caller is answered.
    pub fn answered(
        &mut self,
        db: &Database,
        now: Duration,
        process: ProcessId,
        ticket: Ticket,
        answer: &Answer,
    ) -> Checked {
        let call = self
            .calls
            .get_mut(&(process, ticket))
            .ok_or_else(|| format!("{ticket:?} was never given out"))?;
        if call.closed {
            return Err(format!(
                "{ticket:?} is answered though it was answered, cancelled or dropped before"
            ));
        }
        call.closed = true;
        count_answer(&mut self.coverage, answer);
        match answer {
            Ok(outcome) => self.check_outcome(db, process, ticket, outcome)?,
            Err(error) => self.check_error(now, process, ticket, error)?,
        }
        self.check_books(db)
    }

    fn check_outcome(
        &mut self,
        db: &Database,
        process: ProcessId,
        ticket: Ticket,
        outcome: &Outcome,
    ) -> Checked {
        let call = &self.calls[&(process, ticket)];
        if let ask @ (Ask::Spend { .. } | Ask::Finish { .. }) = &call.ask {
            let (ask, revoked_before) = (ask.clone(), call.revoked_before);
            if revoked_before && matches!(outcome, Outcome::Reserved(Ok(held)) if !held.replayed) {
                return Err(format!("{ask:?} is answered {outcome:?}: it was revoked before"));
            }
            return match ask {
                Ask::Spend { .. } => self.check_spend(&ask, outcome),
                _ => self.check_finish(db, &ask, outcome),
            };
        }
        let wrong = |why: &str| Err(format!("{:?} is answered {outcome:?}: {why}; {call:?}", call.ask));
        match (&call.ask, outcome) {
            (Ask::Sweep, Outcome::Swept(_)) => {}
            (Ask::Validate { .. }, Outcome::Validated(verdict)) => {
                if call.revoked_before && verdict.is_ok() {
                    return wrong("it was revoked before");
                }
                if !call.seen.iter().any(|view| agrees(verdict, view.as_ref())) {
                    return wrong("no look-up after its submission found that");
                }
            }
            (Ask::Charge { lookup, cost }, Outcome::Charged(usage)) => {
                if call.revoked_before && usage.is_success() {
                    return wrong("it was revoked before");
                }
                let (lookup, cost, draws) = (lookup.clone(), *cost, call.draws.clone());
                match (usage, call.decision) {
                    (usage, Some(Decision::Recorded { before, used_after }))
                        if *usage == recorded(&before, used_after) =>
                    {
                        self.was_spent(&draws, cost);
                    }
                    (Usage::Refused(ChargeRefusal::BudgetExceeded), Some(Decision::DoesNotFit))
                    | (Usage::Refused(ChargeRefusal::InvalidKey), Some(Decision::NoLiveKey)) => {
                        self.was_not_spent(&lookup, cost);
                    }
                    _ => return wrong("the database decided otherwise"),
                }
            }
            (Ask::Revoke { id, lookup }, Outcome::Revoked(was_live)) => {
                if db.keys.iter().any(|key| key.id.to_string() == *id && !key.revoked) {
                    return wrong("the key is live");
                }
                if *was_live && self.revoked.contains(lookup) {
                    return wrong("it was revoked twice");
                }
                if *was_live {
                    self.revoked.push(lookup.clone());
                }
            }
            (Ask::Insert { lookup }, Outcome::Inserted(created)) => match (db.find(lookup), created) {
                (None, _) => return wrong("there is no such row"),
                (Some(key), Some(created)) if created.id.to_string() != key.id.to_string() => {
                    return wrong("another id");
                }
                _ => {}
            },
            (Ask::Migrate, Outcome::Migrated) if db.migrated => {}
            _ => return wrong("no answer to this"),
        }
        Ok(())
    }

    fn check_error(&mut self, now: Duration, process: ProcessId, ticket: Ticket, error: &Error) -> Checked {
        let call = &self.calls[&(process, ticket)];
        let wrong = |why: &str| Err(format!("{:?} is answered {error:?}: {why}; {call:?}", call.ask));
        if self.faults_are_over {
            return wrong("there is no fault any more");
        }
        let was_recorded = matches!(call.decision, Some(Decision::Recorded { .. }));
        // What is repeated may have taken effect before it certainly had none.
        let is_repeated = match &call.ask {
            Ask::Spend { idempotency_key, .. } => idempotency_key.is_some(),
            ask => matches!(ask, Ask::Finish { .. }),
        };
        // Whether the caller can tell from the answer that nothing was charged.
        let is_certain = match error.code() {
            ErrorCode::Database if error.message().starts_with(CERTAIN) => !is_repeated || !call.was_sent,
            ErrorCode::Database => !call.was_sent,
            ErrorCode::Timeout if now < call.deadline => return wrong("its time is not over"),
            ErrorCode::Timeout => !call.was_sent,
            ErrorCode::MigrationRequired if call.was_migrated => {
                return wrong("the table was migrated before");
            }
            ErrorCode::MigrationRequired => true,
            _ => return wrong("nothing can have caused that"),
        };
        if is_certain && was_recorded {
            return wrong("it was recorded");
        }
        if is_certain
            && let Some((lookup, cost)) = call.ask.money().map(|(lookup, cost)| (lookup.to_owned(), cost))
        {
            self.was_not_spent(&lookup, cost);
        }
        Ok(())
    }
}

fn rounded_up(microcents: i64) -> i64 {
    microcents / MICROCENTS_PER_CENT + i64::from(microcents % MICROCENTS_PER_CENT > 0)
}

fn remaining(view: &View, used: i64) -> Option<i64> {
    view.budget_cents
        .map(|cents| (cents * MICROCENTS_PER_CENT - used - view.reserved).max(0) / MICROCENTS_PER_CENT)
}

fn recorded(before: &View, used_after: i64) -> Usage {
    Usage::Recorded(Recorded {
        balance: Balance {
            budget_microcents: before.budget_cents.map(|cents| cents * MICROCENTS_PER_CENT),
            used_microcents: used_after,
            reserved_microcents: before.reserved,
        },
        replayed: false,
    })
}

/// Whether a verdict is what a key was, or that there was none.
fn agrees(verdict: &Verdict, view: Option<&View>) -> bool {
    let reason = match view {
        None => Some(DenialReason::Invalid),
        Some(view) if view.revoked => Some(DenialReason::Revoked),
        Some(view) if view.expired => Some(DenialReason::Expired),
        Some(view) if view.exhausted => Some(DenialReason::BudgetExceeded),
        Some(_) => None,
    };
    match (verdict, view) {
        (Ok(grant), Some(view)) => {
            let money = (grant.budget_cents, grant.budget_used_cents, grant.budget_remaining_cents);
            reason.is_none()
                && money == (view.budget_cents, rounded_up(view.used), remaining(view, view.used))
        }
        (Ok(_), None) => false,
        (Err(denial), _) => Some(denial.reason) == reason,
    }
}

fn count_answer(coverage: &mut Coverage, answer: &Answer) {
    match answer {
        Ok(Outcome::Validated(Ok(_))) => coverage.count("validate", "granted"),
        Ok(Outcome::Validated(Err(denial))) => coverage.count("validate", denial.reason.as_str()),
        Ok(Outcome::Charged(Usage::Refused(refusal))) => coverage.count("charge", refusal.as_str()),
        Ok(Outcome::Charged(_)) => coverage.count("charge", "recorded"),
        Ok(Outcome::Revoked(true)) => coverage.count("revoke", "revoked"),
        Ok(Outcome::Revoked(false)) => coverage.count("revoke", "nothing"),
        Ok(Outcome::Inserted(Some(_))) => coverage.count("insert", "inserted"),
        Ok(Outcome::Inserted(None)) => coverage.count("insert", "there already"),
        Ok(
            Outcome::Reserved(_)
            | Outcome::Settled(_)
            | Outcome::Released(_)
            | Outcome::Extended(_)
            | Outcome::Swept(_),
        ) => {}
        Ok(_) => coverage.count("migrate", "migrated"),
        Err(error) => coverage.count("error", error.code().as_str()),
    }
}
