//! The calls of the client, one for each request.

use std::time::Duration;

use super::AgentKey;
use crate::budget::charge::{Charge, ChargeOutcome};
use crate::budget::ledger::{Discrepancy, Event, EventFilter, UsageFilter, UsageOfPeriod};
use crate::budget::money::Cost;
use crate::budget::reservation::{Extended, Released, ReservationId, Reserve, Settled};
use crate::engine::{
    Answer, Credential, Request, Reserved, Revocation, RevokeFilter, Verdict, invalid_scopes,
};
use crate::error::Error;
use crate::id::{AccountId, KeyId};
use crate::key::explanation::{Explanation, LEAST_COST};
use crate::key::new_key::{CreateKey, Created};
use crate::key::record::{KeyFilter, KeyRecord, KeyUpdate};
use crate::key::rotation::{Rotate, RotateRefusal, Rotated};

/// Takes the answer that a request gets.
macro_rules! answer {
    ($call:expr, $pattern:pat => $value:expr) => {
        match $call.await? {
            $pattern => Ok($value),
            other => Err(mismatch(&other)),
        }
    };
}

pub(super) use answer;

pub(super) fn mismatch(answer: &Answer) -> Error {
    Error::unexpected(format_args!("an answer to another request: {:?}", std::mem::discriminant(answer)))
}

impl AgentKey {
    /// Creates the table, or adds the columns and indexes that it lacks. Any number of processes may call it at once.
    /// A table that is complete is not locked.
    ///
    /// # Errors
    /// `database`.
    pub async fn migrate(&self) -> Result<(), Error> {
        answer!(self.call(Request::Migrate), Answer::Migrated => ())
    }

    /// Creates a key.
    ///
    /// # Errors
    /// `invalid_scopes`, `invalid_budget_period`, `invalid_duration`, `invalid_budget`, `invalid_account_id`,
    /// `invalid_parent`, `invalid_text`: nothing was written. `migration_required` if the table lacks a column that the
    /// key needs.
    pub async fn create(&self, spec: CreateKey) -> Result<Created, Error> {
        answer!(self.call(Request::Create(spec)), Answer::Created(created) => *created)
    }

    /// Creates, once, the row of an external identity; a second call changes nothing. Its account is the subject
    /// unless `spec` names one.
    ///
    /// # Errors
    /// As `create`, and `invalid_subject`.
    pub async fn ensure_subject(&self, subject: &str, spec: CreateKey) -> Result<(), Error> {
        let request = Request::EnsureSubject(subject.to_owned(), spec);
        answer!(self.call(request), Answer::SubjectEnsured => ())
    }

    /// Looks a key up: what it may do and what remains of its budget, or why it is refused. It only reads; its use is
    /// noted in the background.
    pub async fn validate(&self, raw_key: &str) -> Result<Verdict, Error> {
        self.look_up(Credential::of_key(raw_key)).await
    }

    /// The same for an external subject.
    pub async fn validate_by_subject(&self, subject: &str) -> Result<Verdict, Error> {
        self.look_up(Credential::of_subject(subject)).await
    }

    /// The same for the key of an id, for whoever has no secret.
    pub async fn validate_by_id(&self, id: impl Into<KeyId>) -> Result<Verdict, Error> {
        self.look_up(Credential::Id(id.into())).await
    }

    async fn look_up(&self, credential: Credential) -> Result<Verdict, Error> {
        answer!(self.call(Request::Validate(credential)), Answer::Validated(verdict) => verdict)
    }

    /// Records what a call cost, in cents, as a [`Cost`] or as a [`Charge`], if it fits the budgets of the key and its
    /// ancestors. Concurrent charges never pass them. An expired key can still be charged: the call began before.
    ///
    /// # Errors
    /// [`Error::may_have_been_recorded`] tells whether a charge that failed may be recorded all the same: repeat it with
    /// an idempotency key to be sure. `invalid_text` for an idempotency key or metadata that cannot be stored.
    pub async fn track_usage(
        &self,
        raw_key: &str,
        charge: impl Into<Charge>,
    ) -> Result<ChargeOutcome, Error> {
        self.charge(Credential::of_key(raw_key), charge.into()).await
    }

    /// The same for an external subject.
    pub async fn track_usage_by_subject(
        &self,
        subject: &str,
        charge: impl Into<Charge>,
    ) -> Result<ChargeOutcome, Error> {
        self.charge(Credential::of_subject(subject), charge.into()).await
    }

    /// The same for the key of an id, for whoever has no secret.
    pub async fn track_usage_by_id(
        &self,
        id: impl Into<KeyId>,
        charge: impl Into<Charge>,
    ) -> Result<ChargeOutcome, Error> {
        self.charge(Credential::Id(id.into()), charge.into()).await
    }

    async fn charge(&self, credential: Credential, charge: Charge) -> Result<ChargeOutcome, Error> {
        answer!(self.call(Request::Charge(credential, charge)), Answer::Charged(outcome) => outcome)
    }

    /// Gives back what a key spent, for work that failed after it was charged: on the key and its ancestors, of no
    /// budget more than is used of it in this period. Also of a key that was revoked. The ledger gets an entry.
    ///
    /// # Errors
    /// `migration_required`, and those of a charge: repeat a refund with an idempotency key to be sure.
    pub async fn refund(
        &self,
        key_id: impl Into<KeyId>,
        refund: impl Into<Charge>,
    ) -> Result<ChargeOutcome, Error> {
        let request = Request::Refund(key_id.into(), refund.into());
        answer!(self.call(request), Answer::Refunded(outcome) => outcome)
    }

    /// Holds an amount of the budgets of a key and its ancestors, if all have room for it: then the call may begin.
    /// Held are whole cents, a started one counts. `settle` or `release` ends it. Otherwise it ends by itself when its
    /// time is over, and gives back what it held.
    ///
    /// ```no_run
    /// # async fn example(ak: agentkey::AgentKey, key: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let held = ak.reserve(key, 60).await??;
    /// let spent = 42; // the call, whose cost is known only now
    /// let settled = ak.settle(&held.id, spent).await??;
    /// assert_eq!(settled.overage_microcents, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `invalid_duration` for the time to live, `invalid_text` for what cannot be stored, `migration_required`.
    pub async fn reserve(&self, raw_key: &str, reserve: impl Into<Reserve>) -> Result<Reserved, Error> {
        self.hold(Credential::of_key(raw_key), reserve.into()).await
    }

    /// The same for an external subject.
    pub async fn reserve_by_subject(
        &self,
        subject: &str,
        reserve: impl Into<Reserve>,
    ) -> Result<Reserved, Error> {
        self.hold(Credential::of_subject(subject), reserve.into()).await
    }

    /// The same for the key of an id, for whoever has no secret.
    pub async fn reserve_by_id(
        &self,
        id: impl Into<KeyId>,
        reserve: impl Into<Reserve>,
    ) -> Result<Reserved, Error> {
        self.hold(Credential::Id(id.into()), reserve.into()).await
    }

    async fn hold(&self, credential: Credential, reserve: Reserve) -> Result<Reserved, Error> {
        answer!(self.call(Request::Reserve(credential, reserve)), Answer::Reserved(reserved) => reserved)
    }

    /// Records what was really spent and gives back what was held: even if it is more, the reservation's time is over or
    /// the key was revoked meanwhile. Exactly once: a second settle answers what the first one did.
    ///
    /// # Errors
    /// `timeout` and `database`, after repeating it through faults until its time was over.
    pub async fn settle(&self, id: &ReservationId, cost: impl Into<Cost>) -> Result<Settled, Error> {
        let request = Request::Settle(id.clone(), cost.into());
        answer!(self.call(request), Answer::Settled(settled) => settled)
    }

    /// Gives back what was held: nothing was spent.
    ///
    /// # Errors
    /// As `settle`.
    pub async fn release(&self, id: &ReservationId) -> Result<Released, Error> {
        answer!(self.call(Request::Release(id.clone())), Answer::Released(released) => released)
    }

    /// Lets a reservation live so long from now on.
    ///
    /// # Errors
    /// `invalid_duration` unless it is between a second and 30 days.
    pub async fn extend(&self, id: &ReservationId, ttl: Duration) -> Result<Extended, Error> {
        answer!(self.call(Request::Extend(id.clone(), ttl)), Answer::Extended(extended) => extended)
    }

    /// Ends the reservations whose time is over; how many. Not needed: whoever finds them in the way does it too. Any
    /// process may, as often as it likes.
    ///
    /// # Errors
    /// `migration_required`.
    pub async fn sweep_reservations(&self) -> Result<u64, Error> {
        answer!(self.call(Request::SweepReservations), Answer::Swept(count) => count)
    }

    /// Reads a key's row, whatever became of it; `None` if there is no such key.
    ///
    /// # Errors
    /// `database`.
    pub async fn get(&self, id: impl Into<KeyId>) -> Result<Option<KeyRecord>, Error> {
        self.key(Request::Get(id.into())).await
    }

    /// Says why a key is refused, or whether it would be: every limit of its chain, what binds first, and what is held of
    /// each. A key is named by its id or by its secret. It asks about the smallest charge, and only reads.
    ///
    /// ```no_run
    /// # async fn example(ak: &agentkey::AgentKey, key: agentkey::RawKey) -> Result<(), agentkey::Error> {
    /// let why = ak.explain(&key).await?;
    /// if let (Some(reason), Some(limit)) = (why.reason, why.limits.first()) {
    ///     println!("{reason}: {:?} has {:?} micro-cents left", limit.name, limit.remaining_microcents());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `database`.
    pub async fn explain(&self, key: impl Into<Credential>) -> Result<Explanation, Error> {
        self.explain_charge(key, LEAST_COST).await
    }

    /// The same of a charge of `cost`: the reason is why this charge would be refused.
    ///
    /// # Errors
    /// `database`.
    pub async fn explain_charge(
        &self,
        key: impl Into<Credential>,
        cost: impl Into<Cost>,
    ) -> Result<Explanation, Error> {
        let request = Request::Explain(key.into(), cost.into());
        answer!(self.call(request), Answer::Explained(explanation) => *explanation)
    }

    /// Lists keys in the order of their ids, a page at a time: give the last id as [`KeyFilter::after`] to go on.
    ///
    /// # Errors
    /// `migration_required` where the table lacks the column of a filter.
    pub async fn list(&self, filter: KeyFilter) -> Result<Vec<KeyRecord>, Error> {
        answer!(self.call(Request::List(filter)), Answer::Keys(keys) => keys)
    }

    /// Changes a key, within the bounds of its parent. The next call meets the change. Answers the key as it is after it;
    /// `None` if there is no such key.
    ///
    /// # Errors
    /// `invalid_scopes`, `invalid_duration`, `invalid_budget` and `invalid_text` for what cannot be.
    pub async fn update(&self, id: impl Into<KeyId>, changes: KeyUpdate) -> Result<Option<KeyRecord>, Error> {
        self.key(Request::Update(id.into(), changes)).await
    }

    /// Switches a key off, and with it all that descend from it, until it is enabled again.
    ///
    /// # Errors
    /// `migration_required`.
    pub async fn disable(&self, id: impl Into<KeyId>) -> Result<Option<KeyRecord>, Error> {
        self.update(id, KeyUpdate::new().disabled(true)).await
    }

    /// Switches a key on again.
    ///
    /// # Errors
    /// `migration_required`.
    pub async fn enable(&self, id: impl Into<KeyId>) -> Result<Option<KeyRecord>, Error> {
        self.update(id, KeyUpdate::new().disabled(false)).await
    }

    async fn key(&self, request: Request) -> Result<Option<KeyRecord>, Error> {
        answer!(self.call(request), Answer::Key(key) => key.map(|key| *key))
    }

    /// Gives a key a new secret, by its id or by its secret. The key stays the same: its budget, holds, children and
    /// history. The secret before counts beside the new one for the grace; then, or at the next rotation, it stops.
    ///
    /// # Errors
    /// `invalid_duration` and `invalid_text` for the options, `migration_required`.
    pub async fn rotate(
        &self,
        key: impl Into<Credential>,
        rotate: Rotate,
    ) -> Result<Result<Rotated, RotateRefusal>, Error> {
        let request = Request::Rotate(key.into(), rotate);
        answer!(self.call(request), Answer::Rotated(outcome) => outcome)
    }

    /// Revokes a key, and with it all that descend from it; whether a live key was revoked.
    ///
    /// # Errors
    /// `database`.
    pub async fn revoke(&self, id: impl Into<KeyId>) -> Result<bool, Error> {
        self.revoke_if(Revocation::of_key(id)).await
    }

    /// Revokes a key if it is of this account. `None` owns no key.
    ///
    /// # Errors
    /// `database`.
    pub async fn revoke_of_account(
        &self,
        id: impl Into<KeyId>,
        account: Option<impl Into<AccountId>>,
    ) -> Result<bool, Error> {
        self.revoke_if(Revocation::of_key(id).of_account(account.map(Into::into))).await
    }

    /// Revokes a key on conditions.
    ///
    /// # Errors
    /// `database`.
    pub async fn revoke_if(&self, revocation: Revocation) -> Result<bool, Error> {
        answer!(self.call(Request::Revoke(revocation)), Answer::Revoked(revoked) => revoked)
    }

    /// The panic switch: revokes every live key of an account, below a parent, or that a human authorised. How many
    /// they were; their descendants are stopped with them.
    ///
    /// # Errors
    /// `migration_required` if there is no ledger.
    pub async fn revoke_all(&self, filter: RevokeFilter) -> Result<u64, Error> {
        answer!(self.call(Request::RevokeAll(filter)), Answer::RevokedAll(count) => count)
    }

    /// Ledger entries, the newest first.
    ///
    /// # Errors
    /// `migration_required` if there is no ledger.
    pub async fn events(&self, filter: EventFilter) -> Result<Vec<Event>, Error> {
        answer!(self.call(Request::Events(filter)), Answer::Events(events) => events)
    }

    /// What a key and its descendants spent, by period of the calendar in UTC, as far as the ledger knows; each says whether that is all.
    ///
    /// # Errors
    /// `migration_required` if there is no ledger.
    pub async fn usage(&self, filter: UsageFilter) -> Result<Vec<UsageOfPeriod>, Error> {
        answer!(self.call(Request::Usage(filter)), Answer::Usage(usage) => usage)
    }

    /// Which keys do not add up: used is what the ledger's entries say, reserved what open reservations hold. Empty is
    /// good. Means something only where every client of the table writes all money into the ledger (`ledger`).
    ///
    /// # Errors
    /// `migration_required` if there is no ledger.
    pub async fn verify_ledger(&self, id: Option<KeyId>) -> Result<Vec<Discrepancy>, Error> {
        answer!(self.call(Request::VerifyLedger(id)), Answer::Verified(discrepancies) => discrepancies)
    }

    /// Deletes ledger entries that are older than this; how many. What is left still adds up, but an idempotency key
    /// whose entry is gone is as new.
    ///
    /// # Errors
    /// `migration_required` if there is no ledger.
    pub async fn prune_events(&self, older_than: Duration) -> Result<u64, Error> {
        answer!(self.call(Request::PruneEvents(older_than)), Answer::Pruned(count) => count)
    }

    /// Those of `scopes` that this client's keys may not have.
    pub fn invalid_scopes(&self, scopes: &[String]) -> Vec<String> {
        invalid_scopes(scopes, self.options().valid_scopes.as_deref())
    }
}
