//! `spend.sql`: charges and reserves with all their options. What is sent, and what its rows mean.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::limits::read_limit;
use super::lookup::KeyRow;
use super::time::timestamp;
use super::{fields, integer, is_true, place};
use crate::budget::charge::{Charge, ChargeRefusal, Charged, Overrun};
use crate::budget::limit::Limit;
use crate::budget::money::{Balance, Cost};
use crate::budget::reservation::{IfExpired, ReservationId, Reserve, check_ttl};
use crate::engine::answer::{Answer, Reservation, ReserveRefusal, ReserveRefusalReason, SettledBefore};
use crate::error::{Error, check_idempotency_key, storable};
use crate::id::KeyId;
use crate::key::grant::{DenialReason, Verdict};
use crate::key::scope::granting;
use crate::metadata;
use crate::table::shape::TableShape;

/// A charge or reserve on its way.
#[derive(Debug, Clone)]
pub(crate) struct Spend {
    kind: SpendKind,
    cost: Cost,
    pub(crate) idempotency_key: Option<String>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Clone)]
enum SpendKind {
    Charge(Overrun),
    /// What a request that was let pass has spent.
    Admitted {
        /// Its key, which may have another secret by now.
        key_id: Option<KeyId>,
    },
    Reserve {
        id: ReservationId,
        ttl: Duration,
        if_expired: IfExpired,
        scope: Option<String>,
        /// Whether `files:*` is a wildcard.
        wildcards: bool,
        /// The scope was seen on the key's row by a statement that could not read it itself.
        is_scope_seen: bool,
    },
}

impl TryFrom<Charge> for Spend {
    type Error = Error;

    /// Names what must not be lost, so that it can be repeated.
    fn try_from(charge: Charge) -> Result<Self, Error> {
        let idempotency_key = match charge.idempotency_key {
            None if charge.is_admitted => Some(ReservationId::mint()?.to_string()),
            given => given,
        };
        Ok(Spend {
            kind: match charge.is_admitted {
                true => SpendKind::Admitted { key_id: charge.key_id },
                false => SpendKind::Charge(charge.overrun),
            },
            cost: charge.cost,
            idempotency_key,
            metadata: charge.metadata,
        })
    }
}

impl TryFrom<Reserve> for Spend {
    type Error = Error;

    /// Names the reservation.
    fn try_from(reserve: Reserve) -> Result<Self, Error> {
        check_ttl(reserve.ttl)?;
        Ok(Spend {
            kind: SpendKind::Reserve {
                id: ReservationId::mint()?,
                ttl: reserve.ttl,
                if_expired: reserve.if_expired,
                scope: reserve.scope,
                wildcards: false,
                is_scope_seen: false,
            },
            cost: reserve.cost,
            idempotency_key: reserve.idempotency_key,
            metadata: reserve.metadata,
        })
    }
}

impl Spend {
    pub(crate) fn plain(microcents: i64) -> Self {
        let (kind, cost) = (SpendKind::Charge(Overrun::Reject), Cost::Microcents(microcents));
        Spend { kind, cost, idempotency_key: None, metadata: None }
    }

    /// Refuses what cannot be stored.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_idempotency_key(self.idempotency_key.as_deref())?;
        if let SpendKind::Reserve { scope: Some(scope), .. } = &self.kind {
            storable("scope", scope)?;
        }
        if let Some(metadata) = &self.metadata {
            metadata::check(metadata)?;
        }
        Ok(())
    }

    /// The kind as the statement names it.
    pub(crate) fn code(&self) -> &'static str {
        match self.kind {
            SpendKind::Charge(Overrun::Reject) => "c",
            SpendKind::Charge(Overrun::Record) => "o",
            SpendKind::Admitted { .. } => "a",
            SpendKind::Reserve { .. } => "r",
        }
    }

    /// The id of its key, where it is known beside the secret.
    pub(crate) fn known_id(&self) -> Option<&KeyId> {
        match &self.kind {
            SpendKind::Admitted { key_id } => key_id.as_ref(),
            SpendKind::Charge(_) | SpendKind::Reserve { .. } => None,
        }
    }

    /// Micro-cents.
    pub(crate) fn amount(&self) -> i64 {
        match self.cost {
            Cost::Microcents(amount) => amount,
            Cost::Free | Cost::Invalid => 0,
        }
    }

    pub(crate) fn details(&self) -> String {
        let mut details = Map::new();
        if let SpendKind::Reserve { id, ttl, if_expired, scope, wildcards, is_scope_seen } = &self.kind {
            details.insert("id".to_owned(), id.as_str().into());
            details.insert("ttl".to_owned(), ttl.as_secs().into());
            if *if_expired != IfExpired::Release {
                details.insert("if_expired".to_owned(), if_expired.as_str().into());
            }
            if let Some(scope) = scope.as_deref().filter(|_| !is_scope_seen) {
                let granting: Vec<_> = granting(scope, *wildcards).map(Value::from).collect();
                details.insert("scopes".to_owned(), granting.into());
            }
        }
        if let Some(key) = &self.idempotency_key {
            details.insert("idempotency_key".to_owned(), key.as_str().into());
        }
        if let Some(metadata) = &self.metadata {
            details.insert("metadata".to_owned(), metadata.clone().into());
        }
        if details.is_empty() { String::new() } else { Value::from(details).to_string() }
    }

    /// What is answered without asking the database.
    pub(crate) fn without_statement(&self) -> Option<Answer> {
        match (self.cost, &self.kind) {
            (Cost::Invalid, _) => Some(self.refused(ChargeRefusal::InvalidCost, None)),
            (Cost::Free, SpendKind::Charge(_) | SpendKind::Admitted { .. }) => {
                Some(Answer::Charged(Ok(Charged::FREE)))
            }
            (Cost::Free, SpendKind::Reserve { .. }) | (Cost::Microcents(_), _) => None,
        }
    }

    /// The answer for a key that does not exist.
    pub(crate) fn of_no_key(&self) -> Answer {
        self.refused(ChargeRefusal::InvalidKey, None)
    }

    /// The answer for one that does not fit, with what stands in its way.
    pub(crate) fn does_not_fit(&self, limit: Option<Limit>) -> Answer {
        self.refused(ChargeRefusal::BudgetExceeded, limit)
    }

    fn refused(&self, refusal: ChargeRefusal, limit: Option<Limit>) -> Answer {
        let SpendKind::Reserve { .. } = self.kind else { return Answer::Charged(Err(refusal)) };
        let refusal = ReserveRefusal::new(refusal.into());
        Answer::Reserved(Err(ReserveRefusal { limit, ..refusal }))
    }

    /// What the statement's row means for this operation.
    pub(crate) fn decided(&self, row: SpentRow) -> Result<Decision, Error> {
        // A repeated reserve of a key that is no longer live.
        if let (SpendKind::Reserve { .. }, Some(Err(denial))) = (&self.kind, &row.verdict)
            && denial.reason != DenialReason::BudgetExceeded
        {
            return Ok(Decision::Final(Answer::Reserved(Err(denial.clone().into()))));
        }
        Ok(Decision::Final(match row.status.as_str() {
            "ok" | "replayed" => {
                let replayed = row.status == "replayed";
                let balance = row.balance.ok_or_else(|| Error::unexpected("no balance"))?;
                match &self.kind {
                    SpendKind::Charge(_) | SpendKind::Admitted { .. } => {
                        Answer::Charged(Ok(Charged { balance: Some(balance), replayed }))
                    }
                    SpendKind::Reserve { .. } => {
                        return row
                            .reservation(balance, replayed)
                            .map(|held| Decision::Final(Answer::Reserved(held)));
                    }
                }
            }
            "idempotency_conflict" => self.refused(ChargeRefusal::IdempotencyConflict, None),
            "already_settled" => Answer::Reserved(Err(row.already_settled()?)),
            "unknown_reservation" => {
                Answer::Reserved(Err(ReserveRefusal::new(ReserveRefusalReason::UnknownReservation)))
            }
            "refused" => match (&self.kind, row.verdict) {
                (SpendKind::Charge(_) | SpendKind::Admitted { .. }, _) => return Ok(Decision::NoKey),
                (SpendKind::Reserve { .. }, Some(Err(denial))) => Answer::Reserved(Err(denial.into())),
                (SpendKind::Reserve { scope, is_scope_seen, .. }, Some(Ok(grant))) => {
                    // The column is of a type that the statement does not read, and the scope is there.
                    let has_scope = scope.as_deref().is_some_and(|s| grant.has_scope(s));
                    if has_scope && !is_scope_seen {
                        return Ok(Decision::WithoutScope);
                    }
                    let refusal = ReserveRefusal::new(ReserveRefusalReason::InsufficientScope);
                    Answer::Reserved(Err(ReserveRefusal { key: Some(Box::new(grant)), ..refusal }))
                }
                (SpendKind::Reserve { .. }, None) => return Ok(Decision::NoKey),
            },
            "busy" => {
                let id = row.reservation_id.ok_or_else(|| Error::unexpected("no row that is busy"))?;
                return Ok(Decision::Busy(id));
            }
            "budget_exceeded" if row.has_expired => return Ok(Decision::AfterSweep(row.limit)),
            "budget_exceeded" if !row.has_obstacle => return Ok(Decision::Again),
            "budget_exceeded" => return Ok(Decision::Exceeded(row.limit)),
            other => return Err(Error::unexpected(format_args!("the status {other:?}"))),
        }))
    }

    /// Says whether `files:*` is a wildcard.
    pub(crate) fn read_wildcards(&mut self, are_meant: bool) {
        if let SpendKind::Reserve { wildcards, .. } = &mut self.kind {
            *wildcards = are_meant;
        }
    }

    /// From now on the statement need not look for the scope.
    pub(crate) fn see_scope(&mut self) {
        if let SpendKind::Reserve { is_scope_seen, .. } = &mut self.kind {
            *is_scope_seen = true;
        }
    }
}

/// What a row means.
pub(crate) enum Decision {
    Final(Answer),
    /// There is no such key, or it has another secret by now; a charge's may be revoked.
    NoKey,
    /// Somebody else has locked the row of this id.
    Busy(String),
    /// Others of the batch stood in the way, and did not come through themselves.
    Again,
    /// The key has the scope, but the statement cannot read its column.
    WithoutScope,
    /// Reservations whose time is over may stand in the way.
    AfterSweep(Option<Limit>),
    /// There is no room for it.
    Exceeded(Option<Limit>),
}

/// A row of `spend.sql`, which declares the order.
pub(crate) struct SpentRow {
    /// The place in the batch, from 0.
    pub(crate) place: usize,
    status: String,
    balance: Option<Balance>,
    reservation_id: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    has_obstacle: bool,
    limit: Option<Limit>,
    has_expired: bool,
    /// The key of a reserve as it was before.
    verdict: Option<Verdict>,
    /// What the reservation of a repeated reserve was settled with.
    settled: Option<i64>,
    pub(crate) has_parent: bool,
}

impl SpentRow {
    pub(crate) fn is_done(&self) -> bool {
        self.status == "ok"
    }

    pub(crate) fn read(row: &str, shape: &TableShape) -> Result<Self, Error> {
        let [
            n,
            status,
            budget,
            used,
            reserved,
            reservation_id,
            expires_at,
            obstacle,
            has_expired,
            key,
            ancestors,
            settled,
            has_parent,
        ] = fields(row, "an operation's row")?;
        let balance =
            match (integer(&used, "budget_used_cents")?, integer(&reserved, "budget_reserved_cents")?) {
                (Some(used), Some(reserved)) => {
                    Some(Balance::new(integer(&budget, "budget_cents")?, used, reserved))
                }
                _ => None,
            };
        let limit = obstacle.as_deref().map(|row| read_limit(row, shape)).transpose()?.flatten();
        let verdict = match &key {
            Some(key) => Some(KeyRow::read(key, shape)?.with_ancestors(ancestors).decided()?.verdict),
            None => None,
        };
        Ok(SpentRow {
            place: place(&n)?,
            status: status.ok_or_else(|| Error::unexpected("no status"))?.into_owned(),
            balance,
            reservation_id: reservation_id.map(Cow::into_owned),
            expires_at: timestamp(expires_at.as_deref(), "expires_at")?,
            has_obstacle: obstacle.is_some(),
            limit,
            has_expired: is_true(&has_expired),
            verdict,
            settled: integer(&settled, "settled_microcents")?,
            has_parent: is_true(&has_parent),
        })
    }

    fn already_settled(self) -> Result<ReserveRefusal, Error> {
        let id = self.reservation_id.as_deref().and_then(ReservationId::parse);
        let (Some(id), Some(cost_microcents)) = (id, self.settled) else {
            return Err(Error::unexpected("a settled reservation without its cost"));
        };
        let settled = Some(SettledBefore { id, cost_microcents });
        Ok(ReserveRefusal { settled, ..ReserveRefusal::new(ReserveRefusalReason::AlreadySettled) })
    }

    fn reservation(
        self,
        balance: Balance,
        replayed: bool,
    ) -> Result<Result<Reservation, ReserveRefusal>, Error> {
        let id = self.reservation_id.as_deref().and_then(ReservationId::parse);
        let grant = match self.verdict {
            Some(Ok(grant)) => Box::new(grant),
            // What is held already is held, though nothing more is to be had.
            Some(Err(denial)) if replayed => match denial.key {
                Some(key) => key,
                None => return Err(Error::unexpected("a reservation of no key")),
            },
            Some(Err(_)) | None => return Err(Error::unexpected("a reservation of a refused key")),
        };
        match (id, self.expires_at) {
            (Some(id), Some(expires_at)) => Ok(Ok(Reservation { id, expires_at, balance, replayed, grant })),
            _ => Err(Error::unexpected("a reservation without id or expiry")),
        }
    }
}
