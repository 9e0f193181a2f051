//! An API for agents: a key signs itself up, searches until its budget is spent, and its owner may revoke it. A search
//! costs a cent for each result that it asks for.
//!
//! `DATABASE_URL=... PORT=3000 cargo run -p agentkey-example-axum`

use std::error::Error;
use std::net::SocketAddr;

use agentkey::tower::{AgentKeyLayer, CallerGrant, KeyRoutes, RateLimit};
use agentkey::{AgentKey, Period};
use axum::extract::Query;
use axum::http::{StatusCode, request::Parts};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Deserialize)]
#[serde(default)]
struct Search {
    limit: usize,
}

impl Default for Search {
    fn default() -> Self {
        Search { limit: 3 }
    }
}

fn is_limit(limit: usize) -> bool {
    (1..=10).contains(&limit)
}

/// What a search costs, in cents: held before it, recorded after it.
fn price(request: &Parts) -> u32 {
    // What is no search is answered by the handler, and costs nothing.
    let search = Query::<Search>::try_from_uri(&request.uri).ok();
    search.filter(|search| is_limit(search.limit)).map_or(0, |search| search.limit as u32)
}

async fn search(grant: CallerGrant, Query(Search { limit }): Query<Search>) -> (StatusCode, Json<Value>) {
    if !is_limit(limit) {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "limit must be 1 to 10" })));
    }
    let remaining = grant.budget_remaining_cents.map(|cents| cents - limit as i64);
    (StatusCode::OK, Json(json!({ "found": vec!["a result"; limit], "remainingCents": remaining })))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let builder = AgentKey::builder().valid_scopes(["search"]).ledger(true);
    let ak = builder.connect(&std::env::var("DATABASE_URL")?).await?;
    ak.migrate().await?;

    let guard = AgentKeyLayer::new(ak.clone()).scope("search").reserve_with(price);
    let keys = KeyRoutes::new(ak.clone())
        .signup_scopes(["search"])
        .signup_budget(50, Period::Day)
        .signup_max_expires_in("7d")
        .signup_rate_limit(RateLimit::new(100, 3600));
    let app = Router::new().route("/search", get(search).layer(guard)).merge(keys.router()?);

    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await?;
    println!("listening on {}", listener.local_addr()?.port());
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move {
            tokio::select! { _ = tokio::signal::ctrl_c() => {}, _ = terminate.recv() => {} }
        })
        .await?;
    ak.close().await; // waits until what the last requests cost is recorded
    Ok(())
}
