//! What a caller may be told, given what the database did.

use std::time::Duration;

use agentkey::engine::{Answer, Balance, ChargeOutcome, MICROCENTS_PER_CENT, Ticket, Verdict};
use agentkey::{ChargeRefusal, Error, ErrorCode, Grant};

use super::{Ask, Checked, Decision, ProcessId, Promises};
use crate::coverage::Coverage;
use crate::database::{Database, Money, View};
use crate::network::POISON;
use crate::setup::SUBJECT;

impl Promises {
    /// A caller is answered.
    pub fn answered(
        &mut self,
        db: &Database,
        now: Duration,
        process: ProcessId,
        ticket: Ticket,
        answer: &Result<Answer, Error>,
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
            Ok(answer) => self.check_answer(db, process, ticket, answer)?,
            Err(error) => self.check_error(now, process, ticket, error)?,
        }
        self.check_books(db)
    }

    fn check_answer(
        &mut self,
        db: &Database,
        process: ProcessId,
        ticket: Ticket,
        answer: &Answer,
    ) -> Checked {
        let call = &self.calls[&(process, ticket)];
        let wrong = |why: &str| Err(format!("{:?} is answered {answer:?}: {why}; {call:?}", call.ask));
        match (&call.ask, answer) {
            (ask @ Ask::Spend { .. }, answer) => {
                if call.revoked_before && matches!(answer, Answer::Reserved(Ok(held)) if !held.replayed) {
                    return wrong("it was revoked before");
                }
                return self.check_spend(&ask.clone(), answer);
            }
            (ask @ Ask::End { .. }, answer) => return self.check_end(db, &ask.clone(), answer),
            (Ask::Sweep, Answer::Swept(ended)) => self.ends.check_sweep(*ended)?,
            (Ask::Validate { .. }, Answer::Validated(verdict)) => {
                if call.revoked_before && verdict.is_ok() {
                    return wrong("it was revoked before");
                }
                if !call.seen.iter().any(|view| agrees(verdict, view.as_ref())) {
                    return wrong("no look-up after its submission found that");
                }
            }
            (Ask::Charge { lookup, cost }, Answer::Charged(outcome)) => {
                if call.revoked_before && outcome.is_ok() {
                    return wrong("it was revoked before");
                }
                let (lookup, cost, draws) = (lookup.clone(), *cost, call.draws.clone());
                match (outcome, call.decision) {
                    (outcome, Some(Decision::Recorded { before, used_after }))
                        if is_recorded(outcome, &before, used_after) =>
                    {
                        self.was_spent(&draws, cost);
                    }
                    (Err(ChargeRefusal::BudgetExceeded), Some(Decision::DoesNotFit))
                    | (Err(ChargeRefusal::InvalidKey), Some(Decision::NoLiveKey)) => {
                        self.was_not_spent(&lookup, cost);
                    }
                    _ => return wrong("the database decided otherwise"),
                }
            }
            (Ask::Revoke { id, lookup }, Answer::Revoked(was_live)) => {
                if db.keys.iter().any(|key| key.id == *id && !key.revoked) {
                    return wrong("the key is live");
                }
                if *was_live && self.revoked.contains(lookup) {
                    return wrong("it was revoked twice");
                }
                if *was_live {
                    self.revoked.push(lookup.clone());
                }
            }
            (Ask::Create { name }, Answer::Created(created)) => {
                let mut rows = db.keys.iter().filter(|key| key.name == *name);
                match (rows.next(), rows.next()) {
                    (Some(key), None)
                        if created.id == key.id.into() && created.key.hash().as_str() == key.lookup => {}
                    _ => return wrong("there is no such row, or more than one"),
                }
            }
            (Ask::EnsureSubject, Answer::SubjectEnsured) if db.find(SUBJECT).is_some() => {}
            (Ask::Migrate, Answer::Migrated) if db.migrated => {}
            _ => return wrong("no answer to this"),
        }
        Ok(())
    }

    fn draws_on_poisoned(&self, ask: &Ask) -> bool {
        let lookup = match ask {
            Ask::Charge { lookup, .. } | Ask::Spend { lookup, .. } | Ask::End { lookup, .. } => lookup,
            _ => return false,
        };
        self.poisoned.as_ref().is_some_and(|poisoned| self.chain(lookup).contains(poisoned))
    }

    fn check_error(&mut self, now: Duration, process: ProcessId, ticket: Ticket, error: &Error) -> Checked {
        let call = &self.calls[&(process, ticket)];
        let wrong = |why: &str| Err(format!("{:?} is answered {error:?}: {why}; {call:?}", call.ask));
        if self.faults_are_over {
            return wrong("there is no fault any more");
        }
        if error.sqlstate().is_some_and(|code| POISON.contains(&code)) && !self.draws_on_poisoned(&call.ask) {
            return wrong("it was another key's row");
        }
        match error.code() {
            ErrorCode::Timeout if now < call.deadline => return wrong("its time is not over"),
            ErrorCode::MigrationRequired if call.was_migrated => {
                return wrong("the table was migrated before");
            }
            ErrorCode::Database | ErrorCode::Timeout | ErrorCode::MigrationRequired => {}
            _ => return wrong("nothing can have caused that"),
        }
        let money = call.ask.money().map(|(lookup, cost)| (lookup.to_owned(), cost));
        if money.is_none() && !matches!(call.ask, Ask::Spend { .. }) {
            return Ok(());
        }
        if error.may_have_been_recorded() {
            // What is said to be uncertain must be so: callers cannot repeat it.
            return match &call.ask {
                Ask::Charge { .. } if !call.under_way => wrong("it was not recorded for certain"),
                ask if self.is_certainly_not_recorded(ask) => wrong("it was not recorded for certain"),
                _ if !call.was_sent => wrong("it was never sent"),
                _ => Ok(()),
            };
        }
        if matches!(call.decision, Some(Decision::Recorded { .. })) {
            return wrong("it was recorded");
        }
        let ask = call.ask.clone();
        self.disown(&ask)?;
        if let Some((lookup, cost)) = money {
            self.was_not_spent(&lookup, cost);
        }
        Ok(())
    }
}

/// A balance as the model has it.
pub(super) fn money_of(balance: &Balance) -> Money {
    (
        balance.budget_microcents.map(|cap| cap / MICROCENTS_PER_CENT),
        balance.used_microcents,
        balance.reserved_microcents,
    )
}

/// Whether a grant is of the key that a statement found, with its scopes and its money.
pub(super) fn is_of(grant: &Grant, view: &View) -> bool {
    let scopes = view.scope.map(|scope| vec![scope.to_owned()]);
    let money = (grant.budget_cents, grant.budget_used_cents, grant.budget_remaining_cents);
    let exact = (grant.budget_used_microcents, grant.budget_reserved_microcents);
    grant.id == view.id.into()
        && grant.scopes == scopes
        && money == (view.budget_cents, rounded_up(view.used), remaining(view, view.used))
        && exact == (view.used, view.reserved)
}

fn rounded_up(microcents: i64) -> i64 {
    microcents / MICROCENTS_PER_CENT + i64::from(microcents % MICROCENTS_PER_CENT > 0)
}

fn remaining(view: &View, used: i64) -> Option<i64> {
    view.budget_cents
        .map(|cents| (cents * MICROCENTS_PER_CENT - used - view.reserved).max(0) / MICROCENTS_PER_CENT)
}

fn is_recorded(outcome: &ChargeOutcome, before: &View, used_after: i64) -> bool {
    let money = (before.budget_cents, used_after, before.reserved);
    let is_so = |balance: &Balance| money_of(balance) == money;
    matches!(outcome, Ok(charged) if !charged.replayed && charged.balance.as_ref().is_some_and(is_so))
}

/// Whether a verdict is what a key was, or that there was none.
fn agrees(verdict: &Verdict, view: Option<&View>) -> bool {
    match (verdict, view) {
        (Ok(grant), Some(view)) => view.denial().is_none() && is_of(grant, view),
        (Ok(_), None) => false,
        (Err(denial), Some(view)) => {
            Some(denial.reason.as_str()) == view.denial()
                && denial.key.as_ref().is_some_and(|grant| is_of(grant, view))
        }
        (Err(denial), None) => denial.reason.as_str() == "invalid" && denial.key.is_none(),
    }
}

fn count_answer(coverage: &mut Coverage, answer: &Result<Answer, Error>) {
    match answer {
        Ok(Answer::Validated(Ok(_))) => coverage.count("validate", "granted"),
        Ok(Answer::Validated(Err(denial))) => coverage.count("validate", denial.reason.as_str()),
        Ok(Answer::Charged(Err(refusal))) => coverage.count("charge", refusal.as_str()),
        Ok(Answer::Charged(Ok(_))) => coverage.count("charge", "recorded"),
        Ok(Answer::Revoked(true)) => coverage.count("revoke", "revoked"),
        Ok(Answer::Revoked(false)) => coverage.count("revoke", "nothing"),
        Ok(Answer::Created(_)) => coverage.count("create", "created"),
        Ok(Answer::Migrated) => coverage.count("migrate", "migrated"),
        // Their promises count them.
        Ok(_) => {}
        Err(error) => coverage.count("error", error.code().as_str()),
    }
}
