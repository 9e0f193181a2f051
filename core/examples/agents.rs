//! A team and an agent, as in the README.
//!
//!     tests/postgres.sh run -- cargo run -p agentkey --example agents

use std::time::Duration;

use agentkey::{AgentKey, Charge, Cost, CreateKey, Overrun, Period};

/// What the agent spends, the team has spent.
pub async fn agents(ak: &AgentKey) -> Result<(), Box<dyn std::error::Error>> {
    let team = ak.create(CreateKey::new("acct_1").budget_cents(1_000).budget_period(Period::Day)).await?;
    let week = Duration::from_secs(7 * 86_400);
    let spec = CreateKey::child_of(team.id).budget_cents(300).expires_in(week).delegated_by("alice");
    let agent = ak.create(spec).await?;
    let key = agent.key.expose();

    match ak.reserve(key, 60).await? {
        Ok(held) => {
            // Make the call. Then settle what it cost, exact to a millionth of a cent:
            let settled = ak.settle(&held.id, Cost::from_usd("0.1234")).await??;
            println!("{:?} cents remain", settled.balance.remaining_cents()); // Some(287)
        }
        Err(refusal) => println!("{}: {:?}", refusal.reason, refusal.limit),
    }
    // A retry under the same idempotency key charges once.
    let retried = Charge::new(5).idempotency_key("request-7");
    println!("{:?}", ak.track_usage(key, retried).await?);
    // Money that is spent already is recorded even past the cap.
    let spent = Charge::new(5).overrun(Overrun::Record);
    println!("{:?}", ak.track_usage(key, spent).await?);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ak = AgentKey::connect(&std::env::var("DATABASE_URL")?).await?;
    ak.migrate().await?;
    agents(&ak).await
}
