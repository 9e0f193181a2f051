//! The axum app of the README, as written there.
//!
//!     DATABASE_URL=... cargo run -p agentkey --features axum --example axum

use agentkey::AgentKey;
use agentkey::tower::{AgentKeyLayer, CallerGrant};
use axum::{Router, http::StatusCode, routing::get};

async fn search(grant: CallerGrant) -> Result<String, StatusCode> {
    grant.charge(12).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?; // what the call really cost
    Ok(format!("found for {}", grant.name))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ak = AgentKey::connect(&std::env::var("DATABASE_URL")?).await?;
    let guard = AgentKeyLayer::new(ak.clone()).scope("search").reserve_cents(20);
    let app = Router::new().route("/search", get(search).layer(guard));
    let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    let stopped = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    ak.close().await; // waits until what the last requests cost is recorded
    Ok(())
}
