//! What callers ask of the engine.

use std::time::Duration;

use super::deliveries::DeliveryFilter;
use super::diagnosis::Diagnosis;
pub use super::signups::SignupCount;
use super::webhook::{DeliveryEnd, Webhook};
use crate::budget::charge::Charge;
use crate::budget::increase::{IncreaseDecision, IncreaseFilter, IncreaseRequest};
use crate::budget::ledger::{EventFilter, UsageFilter};
use crate::budget::money::Cost;
use crate::budget::reservation::{ReservationId, Reserve};
use crate::id::{AccountId, KeyId};
use crate::key::credential::Credential;
use crate::key::new_key::CreateKey;
use crate::key::record::{KeyFilter, KeyUpdate};
use crate::key::rotation::Rotate;

/// A request to the engine. [`Options::read_request`](super::Options::read_request) reads one from JSON.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_enums, reason = "a driver of another database must handle every request")]
pub enum Request {
    /// Looks a key up.
    Validate(Credential),
    /// Records what a call cost.
    Charge(Credential, Charge),
    /// Holds an amount before a call.
    Reserve(Credential, Reserve),
    /// Records what was spent, and ends a reservation.
    Settle(ReservationId, Cost),
    /// Gives back what a reservation holds.
    Release(ReservationId),
    /// Lets a reservation live so long from now.
    Extend(ReservationId, Duration),
    /// Gives back what a key spent, with an idempotency key and metadata as a charge has them.
    Refund(KeyId, Charge),
    /// Ends the reservations whose time is over.
    SweepReservations,
    /// Creates a key.
    Create(CreateKey),
    /// Creates, once, the row of an external subject.
    EnsureSubject(String, CreateKey),
    /// Reads a key's row.
    Get(KeyId),
    /// Says whether a charge would pass, and every limit that it meets.
    Explain(Credential, Cost),
    /// Lists keys.
    List(KeyFilter),
    /// Changes a key.
    Update(KeyId, KeyUpdate),
    /// Gives a key a new secret.
    Rotate(Credential, Rotate),
    /// Records that a key asks for more budget.
    RequestIncrease(Credential, IncreaseRequest),
    /// Lists requests for more budget, the newest first.
    ListIncreases(IncreaseFilter),
    /// Decides one, by its id.
    DecideIncrease(i64, IncreaseDecision),
    /// Revokes a key.
    Revoke(Revocation),
    /// Revokes many keys.
    RevokeAll(RevokeFilter),
    /// Reads the ledger.
    Events(EventFilter),
    /// Reads what was spent, by period.
    Usage(UsageFilter),
    /// Checks the ledger of a key, or of all.
    VerifyLedger(Option<KeyId>),
    /// Deletes ledger entries that are older.
    PruneEvents(Duration),
    /// Takes so many deliveries of a webhook at most, for a minute.
    ClaimDeliveries(Webhook, u32),
    /// Says how an attempt to deliver ended.
    EndDelivery(DeliveryEnd),
    /// Shows deliveries that are not done.
    Deliveries(DeliveryFilter),
    /// Counts a signup of a client, if it may have one more.
    CountSignup(SignupCount),
    /// Looks for what is wrong. Only reads, and has no time limit.
    Diagnose(Diagnosis),
    /// Creates the table, or adds what it lacks.
    Migrate,
}

/// A key to revoke, and on which conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// The key.
    pub key_id: KeyId,
    /// Whose key it must be.
    pub account: AccountFilter,
    /// The key that it must be or descend from.
    pub within: Option<KeyId>,
}

impl Revocation {
    /// Revokes a key, whosever it is.
    pub fn of_key(key_id: impl Into<KeyId>) -> Self {
        Revocation { key_id: key_id.into(), account: AccountFilter::Any, within: None }
    }

    /// Only if it is of this account. `None` owns no key.
    pub fn of_account(mut self, account: Option<AccountId>) -> Self {
        self.account = AccountFilter::Only(account);
        self
    }

    /// Only if it is this key or descends from it.
    pub fn within(mut self, key_id: impl Into<KeyId>) -> Self {
        self.within = Some(key_id.into());
        self
    }
}

/// Whose key a revocation may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountFilter {
    /// Anybody's.
    Any,
    /// Only one account's. An account that is `None` owns no key, also none whose `account_id` is NULL.
    Only(Option<AccountId>),
}

/// Which keys a panic switch revokes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevokeFilter {
    /// All keys of an account.
    Account(AccountId),
    /// All keys that descend from this one.
    Parent(KeyId),
    /// All keys that a human authorised.
    DelegatedBy(String),
}
