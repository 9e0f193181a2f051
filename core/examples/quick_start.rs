//! The quick start of the README, as written there.
//!
//!     tests/postgres.sh run -- cargo run -p agentkey --example quick_start

use agentkey::{AgentKey, CreateKey, Period, Reserve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ak = AgentKey::connect(&std::env::var("DATABASE_URL")?).await?;
    ak.migrate().await?; // creates the keys table, or adds the columns that yours lacks
    let spec = CreateKey::new("acct_1").scopes(["search"]).budget_cents(500).budget_period(Period::Day);
    let created = ak.create(spec).await?;
    let key = created.key.expose(); // shown only here; the table stores a hash

    let held = ak.reserve(key, Reserve::new(20).scope("search")).await??;
    let settled = ak.settle(&held.id, 12).await??; // what the call really cost
    println!("{:?}", settled.balance.remaining_cents()); // Some(488)
    Ok(())
}
