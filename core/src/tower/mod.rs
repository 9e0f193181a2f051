//! A guard for axum and every other [tower](https://docs.rs/tower) service: it lets requests with a live key pass, holds
//! what they may cost, and records what they did cost when their response has ended.
//!
//! ```no_run
//! # #[cfg(feature = "axum")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use agentkey::AgentKey;
//! use agentkey::tower::{AgentKeyLayer, CallerGrant};
//! use axum::{Router, routing::get};
//!
//! async fn search(grant: CallerGrant) -> Result<String, agentkey::Error> {
//!     grant.charge(12)?; // what the call really cost
//!     Ok(format!("{} of {:?}", grant.name, grant.account_id))
//! }
//! # fn response<F, T>(f: F) -> F where F: Fn(CallerGrant) -> T { f }
//!
//! let ak = AgentKey::connect("postgresql://localhost/app").await?;
//! let guard = AgentKeyLayer::new(ak.clone()).scope("search").reserve_cents(20);
//! let app = Router::new().route("/search", get(|grant: CallerGrant| async { search(grant).await.map_err(|e| e.to_string()) }).layer(guard));
//!
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
//! axum::serve(listener, app).with_graceful_shutdown(async { let _ = tokio::signal::ctrl_c().await; }).await?;
//! ak.close().await; // waits until what the last requests cost is recorded
//! # Ok(())
//! # }
//! ```

mod admitted;
mod asks;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod carry;
mod door;
mod grant;
mod layer;
mod routes;

pub use asks::RequestEnd;
#[cfg(feature = "axum")]
pub use axum::MissingGrant;
pub use body::ResponseBody;
pub use carry::presented_key;
pub use grant::CallerGrant;
pub use layer::{AgentKeyLayer, AgentKeyService, ResponseFuture};
pub use routes::{KeyRoutes, KeyRoutesFuture, KeyRoutesService};
