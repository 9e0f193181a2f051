//! Charges and reserves with all that can be asked of them: what is sent, and what the statement answers.

use serde_json::{Map, Value};

use crate::error::{Error, ErrorCode, storable};
use crate::literal::parse_row;
use crate::lookup::{integer, place_in_batch, timestamp};
use crate::money::{Balance, Cost, MICROCENTS_PER_CENT, cents_rounded_up};
use crate::request::{ChargeRefusal, MAX_INDEXED_BYTES, Outcome, Recorded, Usage};
use crate::reservation::{RefusedReserve, Reservation, ReservationId, ReserveRefusal};
use crate::shape::TableShape;
use crate::verdict::{Limit, read_key_id};

/// What happens to a charge that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overrun {
    /// It is refused.
    #[default]
    Reject,
    /// It is recorded: the money is spent already. The key is over its budget then.
    Record,
}

impl std::str::FromStr for Overrun {
    type Err = Error;

    /// `reject` or `record`.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "reject" => Ok(Overrun::Reject),
            "record" => Ok(Overrun::Record),
            _ => {
                let shown = crate::duration::shortened(name);
                let message = format!("Invalid overrun: {shown}; it must be reject or record");
                Err(Error::new(ErrorCode::InvalidText, message))
            }
        }
    }
}

/// What is done with the amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpendKind {
    /// It is recorded as spent.
    Charge(Overrun),
    /// It is held until the reservation ends.
    Reserve {
        /// Names the reservation.
        id: ReservationId,
        /// How long it may take until it is settled.
        ttl_seconds: u64,
    },
}

/// A charge or reserve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spend {
    /// Which of the two.
    pub kind: SpendKind,
    /// How much.
    pub cost: Cost,
    /// A second operation under the same key (of one API key) answers what the first one did, and moves nothing.
    pub idempotency_key: Option<String>,
    /// Kept with the ledger entry or the reservation: a JSON object.
    pub metadata: Option<Map<String, Value>>,
}

/// The most that an entry's metadata may be, as JSON.
const MAX_METADATA_BYTES: usize = 16 * 1024;

/// A charge, and what can be asked of it. A number of cents, or a [`Cost`], is a plain one.
///
/// ```
/// # use agentkey::{Charge, Cost, Overrun};
/// let retried = Charge::new(Cost::from_usd("0.00042")).idempotency_key("request-7");
/// let spent_already = Charge::new(12).overrun(Overrun::Record);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge(Spend);

/// A reserve, and what can be asked of it. A number of cents, or a [`Cost`], is held for 10 minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    cost: Cost,
    ttl: Option<String>,
    idempotency_key: Option<String>,
    metadata: Option<Map<String, Value>>,
}

impl Charge {
    /// A plain charge.
    pub fn new(cost: impl Into<Cost>) -> Self {
        Charge(Spend::charge(cost.into()))
    }

    /// Sets what happens if it does not fit.
    pub fn overrun(mut self, overrun: Overrun) -> Self {
        self.0.kind = SpendKind::Charge(overrun);
        self
    }

    /// Sets the idempotency key: see [`Spend::idempotency_key`].
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.0.idempotency_key = Some(key.into());
        self
    }

    /// Sets what the ledger keeps with it.
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.0.metadata = Some(metadata);
        self
    }
}

impl Reserve {
    /// A plain reserve.
    pub fn new(cost: impl Into<Cost>) -> Self {
        Reserve { cost: cost.into(), ttl: None, idempotency_key: None, metadata: None }
    }

    /// Sets how long it holds: `30s`, `10m`, `2h`; between a second and 30 days.
    pub fn ttl(mut self, ttl: impl Into<String>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Sets the idempotency key: see [`Spend::idempotency_key`].
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets what is kept with the reservation, and in the ledger.
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.metadata = Some(metadata);
        self
    }
}

macro_rules! from_costs {
    ($($cost:ty),*) => {$(
        impl From<$cost> for Charge {
            fn from(cost: $cost) -> Self {
                Charge::new(cost)
            }
        }

        impl From<$cost> for Reserve {
            fn from(cost: $cost) -> Self {
                Reserve::new(cost)
            }
        }
    )*};
}

from_costs!(Cost, u32, i32, i64);

impl From<Charge> for Spend {
    fn from(charge: Charge) -> Self {
        charge.0
    }
}

impl TryFrom<Reserve> for Spend {
    type Error = Error;

    /// Names the reservation. Refuses a time to live that is none.
    fn try_from(reserve: Reserve) -> Result<Self, Error> {
        let ttl_seconds = match &reserve.ttl {
            Some(ttl) => crate::reservation::ttl_seconds(ttl)?,
            None => crate::reservation::DEFAULT_TTL_SECONDS,
        };
        Ok(Spend {
            kind: SpendKind::Reserve { id: ReservationId::mint()?, ttl_seconds },
            cost: reserve.cost,
            idempotency_key: reserve.idempotency_key,
            metadata: reserve.metadata,
        })
    }
}

impl Spend {
    pub(crate) fn charge(cost: Cost) -> Self {
        let kind = SpendKind::Charge(Overrun::Reject);
        Spend { kind, cost, idempotency_key: None, metadata: None }
    }

    /// Whether the plain statements can record it.
    pub(crate) fn is_plain(&self) -> bool {
        self.kind == SpendKind::Charge(Overrun::Reject)
            && self.idempotency_key.is_none()
            && self.metadata.is_none()
    }

    /// Refuses what cannot be stored.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(key) = &self.idempotency_key {
            storable("idempotency key", key)?;
            if key.is_empty() || key.len() > MAX_INDEXED_BYTES {
                let message = format!("Invalid idempotency key: it must have 1 to {MAX_INDEXED_BYTES} bytes");
                return Err(Error::new(ErrorCode::InvalidText, message));
            }
        }
        if let Some(metadata) = &self.metadata {
            let text = Value::from(metadata.clone()).to_string();
            if text.len() > MAX_METADATA_BYTES || text.contains("\\u0000") {
                let message = format!(
                    "Invalid metadata: at most {MAX_METADATA_BYTES} bytes of JSON without NUL characters"
                );
                return Err(Error::new(ErrorCode::InvalidText, message));
            }
        }
        Ok(())
    }

    /// The kind as the statement names it.
    pub(crate) fn code(&self) -> &'static str {
        match self.kind {
            SpendKind::Charge(Overrun::Reject) => "c",
            SpendKind::Charge(Overrun::Record) => "o",
            SpendKind::Reserve { .. } => "r",
        }
    }

    /// Micro-cents; a reserve holds whole cents.
    pub(crate) fn amount(&self) -> i64 {
        match (self.cost, &self.kind) {
            (Cost::Microcents(amount), SpendKind::Reserve { .. }) => {
                cents_rounded_up(amount).saturating_mul(MICROCENTS_PER_CENT)
            }
            (Cost::Microcents(amount), SpendKind::Charge(_)) => amount,
            (Cost::Free | Cost::Invalid, _) => 0,
        }
    }

    pub(crate) fn details(&self) -> String {
        let mut details = Map::new();
        if let SpendKind::Reserve { id, ttl_seconds } = &self.kind {
            details.insert("id".to_owned(), id.as_str().into());
            details.insert("ttl".to_owned(), (*ttl_seconds).into());
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
    pub(crate) fn without_statement(&self) -> Option<Outcome> {
        match (self.cost, &self.kind) {
            (Cost::Invalid, _) => Some(self.refused(ChargeRefusal::InvalidCost, None)),
            (Cost::Free, SpendKind::Charge(_)) => Some(Outcome::Charged(Usage::Free)),
            (Cost::Free, SpendKind::Reserve { .. }) | (Cost::Microcents(_), _) => None,
        }
    }

    /// The answer for a key that does not exist.
    pub(crate) fn of_no_key(&self) -> Outcome {
        self.refused(ChargeRefusal::InvalidKey, None)
    }

    fn refused(&self, refusal: ChargeRefusal, limit: Option<Limit>) -> Outcome {
        let reason = match (&self.kind, refusal) {
            (SpendKind::Charge(_), _) => return Outcome::Charged(Usage::Refused(refusal)),
            (SpendKind::Reserve { .. }, ChargeRefusal::InvalidCost) => ReserveRefusal::InvalidCost,
            (SpendKind::Reserve { .. }, ChargeRefusal::InvalidKey) => ReserveRefusal::InvalidKey,
            (SpendKind::Reserve { .. }, ChargeRefusal::BudgetExceeded) => ReserveRefusal::BudgetExceeded,
            (SpendKind::Reserve { .. }, ChargeRefusal::IdempotencyConflict) => {
                ReserveRefusal::IdempotencyConflict
            }
        };
        Outcome::Reserved(Err(RefusedReserve { reason, limit }))
    }

    /// What the statement's row means for this operation.
    pub(crate) fn decided(&self, row: SpentRow) -> Result<Decision, Error> {
        let is_charge = matches!(self.kind, SpendKind::Charge(_));
        Ok(Decision::Final(match row.status.as_str() {
            "ok" | "replayed" => {
                let replayed = row.status == "replayed";
                let balance = row.balance.ok_or_else(|| Error::unexpected("no balance"))?;
                match (is_charge, row.reservation_id, row.expires_at) {
                    (true, _, _) => Outcome::Charged(Usage::Recorded(Recorded { balance, replayed })),
                    (false, Some(id), Some(expires_at)) => {
                        let id = ReservationId::parse(&id)
                            .ok_or_else(|| Error::unexpected("a reservation's id"))?;
                        Outcome::Reserved(Ok(Reservation { id, expires_at, balance, replayed }))
                    }
                    (false, _, _) => return Err(Error::unexpected("a reservation without id or expiry")),
                }
            }
            "invalid_key" => self.refused(ChargeRefusal::InvalidKey, None),
            "idempotency_conflict" => self.refused(ChargeRefusal::IdempotencyConflict, None),
            "disabled" if !is_charge => Outcome::Reserved(Err(ReserveRefusal::Disabled.into())),
            "expired" if !is_charge => Outcome::Reserved(Err(ReserveRefusal::Expired.into())),
            "budget_exceeded" if row.has_expired => return Ok(Decision::AfterSweep(row.limit)),
            "budget_exceeded" if !row.has_obstacle => return Ok(Decision::Again),
            "budget_exceeded" => self.refused(ChargeRefusal::BudgetExceeded, row.limit),
            other => return Err(Error::unexpected(format_args!("the status {other:?}"))),
        }))
    }

    /// The answer for one that does not fit, with what stands in its way.
    pub(crate) fn does_not_fit(&self, limit: Option<Limit>) -> Outcome {
        self.refused(ChargeRefusal::BudgetExceeded, limit)
    }
}

/// What a row means.
pub(crate) enum Decision {
    Final(Outcome),
    /// Others of the batch stood in the way, which did not come through themselves.
    Again,
    /// Reservations whose time is over may stand in the way.
    AfterSweep(Option<Limit>),
}

/// A row of `spend.sql`.
pub(crate) struct SpentRow {
    /// The place in the batch, from 0.
    pub(crate) place: usize,
    status: String,
    balance: Option<Balance>,
    reservation_id: Option<String>,
    expires_at: Option<chrono::DateTime<chrono::Utc>>,
    has_obstacle: bool,
    limit: Option<Limit>,
    has_expired: bool,
}

impl SpentRow {
    pub(crate) fn read(row: &str, shape: &TableShape) -> Result<Self, Error> {
        let fields = parse_row(row).ok_or_else(|| Error::unexpected("an operation's row"))?;
        let Ok(fields): Result<[_; 9], _> = fields.try_into() else {
            return Err(Error::unexpected("an operation's row of other columns"));
        };
        let [place, status, budget, used, reserved, reservation_id, expires_at, obstacle, has_expired] =
            fields;
        let balance = match (integer(&used)?, integer(&reserved)?) {
            (Some(used), Some(reserved)) => Some(Balance::new(integer(&budget)?, used, reserved)),
            _ => None,
        };
        let limit = obstacle.as_deref().map(|row| read_limit(row, shape)).transpose()?.flatten();
        Ok(SpentRow {
            place: place_in_batch(place.as_deref())?,
            status: status.ok_or_else(|| Error::unexpected("no status"))?.into_owned(),
            balance,
            reservation_id: reservation_id.map(std::borrow::Cow::into_owned),
            expires_at: timestamp(expires_at.as_deref())?,
            has_obstacle: obstacle.is_some(),
            limit,
            has_expired: has_expired.as_deref() == Some("t"),
        })
    }
}

/// The budget of a row that has no room; `None` if it has no budget, and more cannot be stored.
fn read_limit(row: &str, shape: &TableShape) -> Result<Option<Limit>, Error> {
    let fields = parse_row(row).filter(|fields| fields.len() == 5);
    let Some([Some(id), budget, used, reserved, reset_at]) = fields.as_deref() else {
        return Err(Error::unexpected("a budget's row"));
    };
    let Some(budget_cents) = integer(budget)? else { return Ok(None) };
    let amount = |field| integer(field).map(|amount| amount.map_or(0, cents_rounded_up));
    Ok(Some(Limit {
        key_id: read_key_id(id, shape)?,
        budget_cents,
        used_cents: amount(used)?,
        reserved_cents: amount(reserved)?,
        resets_at: timestamp(reset_at.as_deref())?,
    }))
}
