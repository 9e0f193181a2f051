//! What the general statements cost, beside the plain charge of flat keys: trees, reservations, idempotency keys, the
//! ledger. Everything with many calls in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentkey::{AgentKey, Charge, CreateKey};

use crate::database::{Database, Keys};
use crate::load::{Contender, Operation, Sample, Timing, measure};
use crate::{CROWD, MANY, Ours, Result};

/// Children of each of two parents, and grandchildren that are charged: three levels.
const CHILDREN: usize = 20;

/// A reserve and its settle for each charge.
#[derive(Clone)]
struct Reserving(AgentKey);

/// An idempotency key for each charge.
#[derive(Clone)]
struct Repeatable(AgentKey, Arc<AtomicU64>);

impl Contender for Reserving {
    async fn validate(&self, _raw_key: &str) -> Result<bool> {
        Err("it charges only".into())
    }

    async fn charge(&self, raw_key: &str) -> Result<bool> {
        match self.0.reserve(raw_key, 2).await? {
            Ok(held) => Ok(self.0.settle(&held.id, 1).await?.is_ok()),
            Err(_) => Ok(false),
        }
    }
}

impl Contender for Repeatable {
    async fn validate(&self, _raw_key: &str) -> Result<bool> {
        Err("it charges only".into())
    }

    async fn charge(&self, raw_key: &str) -> Result<bool> {
        let id = self.1.fetch_add(1, Ordering::Relaxed);
        let charge = Charge::new(1).idempotency_key(id.to_string());
        Ok(self.0.track_usage(raw_key, charge).await?.is_ok())
    }
}

/// Calls a second of each kind, the plain charge first.
pub async fn rates(database: &Database, flat: &Keys, timing: Timing) -> Result<Vec<(&'static str, f64)>> {
    let client = AgentKey::connect(&database.url).await?;
    let ledger = AgentKey::builder().ledger(true).connect(&database.url).await?;
    let flat: Arc<[String]> = flat.raw[..MANY].into();
    let tree: Arc<[String]> = grow(&client).await?.into();
    database.run("VACUUM ANALYZE sdk_api_keys").await?;
    let ours = Ours(client.clone());
    let repeatable = Repeatable(client.clone(), Arc::default());
    let mut samples: [Vec<Sample>; 5] = Default::default();
    for _ in 0..timing.rounds() {
        samples[0].push(measure(&ours, Operation::Charge, &flat, CROWD, timing).await?);
        samples[1].push(measure(&ours, Operation::Charge, &tree, CROWD, timing).await?);
        samples[2].push(measure(&Reserving(client.clone()), Operation::Charge, &flat, CROWD, timing).await?);
        samples[3].push(measure(&repeatable, Operation::Charge, &flat, CROWD, timing).await?);
        samples[4].push(measure(&Ours(ledger.clone()), Operation::Charge, &flat, CROWD, timing).await?);
    }
    client.close().await;
    ledger.close().await;
    let names = [
        "charge, flat keys",
        "charge, the third level of trees",
        "reserve and settle, flat keys",
        "charge with an idempotency key",
        "charge with the whole ledger",
    ];
    Ok(names.into_iter().zip(samples.map(|samples| Sample::median(samples).per_second)).collect())
}

/// Keys of the third level of two trees, whose budgets are never used up.
async fn grow(client: &AgentKey) -> Result<Vec<String>> {
    let spec = || CreateKey::new("acct_bench").budget_cents(1_000_000_000_000);
    let mut raw = Vec::new();
    for _ in 0..2 {
        let root = client.create(spec()).await?;
        for _ in 0..CHILDREN / 2 {
            let child = client.create(spec().parent(root.id.clone())).await?;
            for _ in 0..MANY / CHILDREN {
                let leaf = client.create(spec().parent(child.id.clone())).await?;
                raw.push(leaf.key.expose().to_owned());
            }
        }
    }
    Ok(raw)
}
