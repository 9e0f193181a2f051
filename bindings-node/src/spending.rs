//! Charges, reserves and the ends of reservations, as TypeScript hands them over.

use agentkey::{Charge, Cost, Finish, Reserve, Rounding, Spend};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::engine::read_json;
use crate::error::{Result, thrown};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Spending {
    reserve: bool,
    cost_cents: Option<f64>,
    cost_microcents: Option<i64>,
    cost_usd: Option<String>,
    overrun: Option<String>,
    idempotency_key: Option<String>,
    ttl: Option<String>,
    metadata: Option<Map<String, Value>>,
}

impl Spending {
    fn cost(&self, rounding: Rounding) -> Cost {
        Cost::one_of(self.cost_cents, self.cost_microcents, self.cost_usd.as_deref(), rounding)
    }
}

pub(crate) fn read(json: &str, rounding: Rounding) -> Result<Spend> {
    let spending: Spending = read_json("usage", json)?;
    let cost = spending.cost(rounding);
    if spending.reserve {
        let mut reserve = Reserve::new(cost);
        if let Some(ttl) = spending.ttl {
            reserve = reserve.ttl(ttl);
        }
        if let Some(key) = spending.idempotency_key {
            reserve = reserve.idempotency_key(key);
        }
        if let Some(metadata) = spending.metadata {
            reserve = reserve.metadata(metadata);
        }
        return Spend::try_from(reserve).map_err(thrown);
    }
    let mut charge = Charge::new(cost);
    if let Some(overrun) = spending.overrun {
        charge = charge.overrun(overrun.parse().map_err(thrown)?);
    }
    if let Some(key) = spending.idempotency_key {
        charge = charge.idempotency_key(key);
    }
    if let Some(metadata) = spending.metadata {
        charge = charge.metadata(metadata);
    }
    Ok(charge.into())
}

pub(crate) fn read_finish(action: &str, json: &str, rounding: Rounding) -> Result<Finish> {
    let finish: Spending = read_json("usage", json)?;
    match action {
        "settle" => Ok(Finish::Settle(finish.cost(rounding))),
        "release" => Ok(Finish::Release),
        _ => Finish::extend(finish.ttl.as_deref().unwrap_or_default()).map_err(thrown),
    }
}
