//! Reservations: hold an amount before a call, settle it after.

use super::{AgentKey, mismatch};
use crate::error::Error;
use crate::key::{KeyHash, RawKey};
use crate::money::Cost;
use crate::request::{Credential, Outcome, Request};
use crate::reservation::{Extended, Finish, Released, ReservationId, Reserved, Settled};
use crate::spend::{Reserve, Spend};

impl AgentKey {
    /// Holds an amount of the budgets of a key and its ancestors, if all have room for it: then the call may begin.
    /// Held are whole cents, a started one counts. `settle` or `release` ends it; else it ends by itself when its time
    /// is over, and gives back what it held.
    ///
    /// ```no_run
    /// # async fn example(ak: agentkey::AgentKey, key: &str) -> Result<(), agentkey::Error> {
    /// match ak.reserve(key, 60).await? {
    ///     Ok(held) => {
    ///         let spent = 42; // the call, whose cost is known only now
    ///         let settled = ak.settle(&held.id, spent).await?;
    ///         assert!(settled.is_ok());
    ///     }
    ///     Err(refused) => println!("{}: {:?}", refused.reason, refused.limit),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `invalid_duration` for the time to live, `invalid_text` for what cannot be stored, `migration_required`.
    pub async fn reserve(&self, raw_key: &str, reserve: impl Into<Reserve>) -> Result<Reserved, Error> {
        self.reserve_on(Credential::Key(KeyHash::of(raw_key)), reserve.into()).await
    }

    /// The same for an external subject.
    pub async fn reserve_by_subject(
        &self,
        subject: &str,
        reserve: impl Into<Reserve>,
    ) -> Result<Reserved, Error> {
        self.reserve_on(Credential::Subject(subject.to_owned()), reserve.into()).await
    }

    /// Records what was really spent and gives back what was held: even if it is more, the reservation's time is over or
    /// the key was revoked meanwhile. Exactly once: a second settle answers what the first one did.
    pub async fn settle(&self, id: &ReservationId, cost: impl Into<Cost>) -> Result<Settled, Error> {
        match self.call(Request::Finish(id.clone(), Finish::Settle(cost.into()))).await? {
            Outcome::Settled(settled) => Ok(settled),
            other => Err(mismatch(other)),
        }
    }

    /// Gives back what was held: nothing was spent.
    pub async fn release(&self, id: &ReservationId) -> Result<Released, Error> {
        match self.call(Request::Finish(id.clone(), Finish::Release)).await? {
            Outcome::Released(released) => Ok(released),
            other => Err(mismatch(other)),
        }
    }

    /// Lets a reservation live so long from now on: `30s`, `10m`, `2h`.
    ///
    /// # Errors
    /// `invalid_duration` unless it is between a second and 30 days.
    pub async fn extend(&self, id: &ReservationId, ttl: &str) -> Result<Extended, Error> {
        match self.call(Request::Finish(id.clone(), Finish::extend(ttl)?)).await? {
            Outcome::Extended(extended) => Ok(extended),
            other => Err(mismatch(other)),
        }
    }

    /// Ends the reservations whose time is over; how many. Not needed: whoever finds them in the way does it too. Any
    /// process may, as often as it likes.
    pub async fn sweep_reservations(&self) -> Result<u64, Error> {
        match self.call(Request::Sweep).await? {
            Outcome::Swept(count) => Ok(count),
            other => Err(mismatch(other)),
        }
    }

    async fn reserve_on(&self, credential: Credential, reserve: Reserve) -> Result<Reserved, Error> {
        let spend = Spend::try_from(reserve)?;
        match self.call(Request::Spend(credential, Box::new(spend))).await? {
            Outcome::Reserved(reserved) => Ok(reserved),
            other => Err(mismatch(other)),
        }
    }
}

impl From<&RawKey> for crate::delegation::Parent {
    fn from(key: &RawKey) -> Self {
        crate::delegation::Parent::Key(key.expose().to_owned())
    }
}
