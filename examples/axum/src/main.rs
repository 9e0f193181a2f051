//! An API for agents: a key searches until its budget is spent. A search costs a cent for each result that it asks for.
//!
//! `DATABASE_URL=... PORT=3000 cargo run -p agentkey-example-axum`

use std::error::Error;
use std::sync::Arc;

use agentkey::AgentKey;
use agentkey::http::{self, Call, Caller, Exchange, Guard, Next, Token};
use axum::body::Body;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Json, Router, routing};
use serde::Deserialize;
use serde_json::json;

#[derive(Clone)]
struct App {
    ak: AgentKey,
    guard: Arc<Guard>,
}

/// The token of a caller that may search.
struct Searcher(Token);

impl FromRequestParts<App> for Searcher {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (mut exchange, mut next) = Exchange::with_guard(&app.guard, authorization);
        let mut token = None;
        loop {
            next = match next {
                Next::Call(call) => {
                    if let Call::Validate(Caller::Key(presented)) = &call {
                        token = Some(presented.clone());
                    }
                    let request = call.request().ok_or_else(unavailable)?;
                    exchange.answered(app.ak.call(request).await, chrono::Utc::now())
                }
                Next::Pass(_) => return token.map(Searcher).ok_or_else(unavailable),
                Next::Respond(response) => return Err(carry(response)),
                _ => return Err(unavailable()),
            };
        }
    }
}

fn unavailable() -> Response<Body> {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// A refusal of the guard's, as axum's.
fn carry(refusal: http::Response) -> Response<Body> {
    if let Some(fault) = &refusal.fault {
        eprintln!("{fault}");
    }
    let mut response = Response::builder().status(refusal.status);
    for (name, value) in &refusal.headers {
        response = response.header(*name, value.as_ref());
    }
    response
        .body(Body::from(refusal.body))
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

#[derive(Deserialize)]
struct Search {
    limit: Option<i64>,
}

async fn search(
    State(app): State<App>,
    Searcher(token): Searcher,
    Query(search): Query<Search>,
) -> Response<Body> {
    let limit = search.limit.unwrap_or(3);
    if !(1..=10).contains(&limit) {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "limit must be 1 to 10" }))).into_response();
    }
    match app.ak.track_usage(token.expose(), limit).await {
        Ok(Err(refusal)) => {
            (StatusCode::TOO_MANY_REQUESTS, Json(json!({ "error": refusal.as_str() }))).into_response()
        }
        Ok(Ok(charged)) => {
            let remaining = charged.budget_remaining_cents();
            let found: Vec<&str> = (0..limit).map(|_| "a result").collect();
            Json(json!({ "found": found, "remainingCents": remaining })).into_response()
        }
        Err(error) => {
            eprintln!("{error}");
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": "charge_unavailable" })))
                .into_response()
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ak = AgentKey::connect(&std::env::var("DATABASE_URL")?).await?;
    ak.migrate().await?;
    let app = App { ak: ak.clone(), guard: Arc::new(Guard::new().scope("search")) };
    let router = Router::new().route("/search", routing::get(search)).with_state(app);
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await?;
    println!("listening on {}", listener.local_addr()?.port());
    axum::serve(listener, router)
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await; // without the signal it serves on
        })
        .await?;
    ak.close().await;
    Ok(())
}
