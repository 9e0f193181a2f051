//! A guard for axum and every other [tower](https://docs.rs/tower) service: it lets requests with a live key pass, holds
//! what they may cost, and records what they did cost when their response has ended.
//!
//! ```no_run
//! # #[cfg(feature = "axum")]
//! # mod example {
//! use agentkey::AgentKey;
//! use agentkey::tower::{AgentKeyLayer, CallerGrant};
//! use axum::{Router, http::StatusCode, routing::get};
//!
//! async fn search(grant: CallerGrant) -> Result<String, StatusCode> {
//!     grant.charge(12).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?; // what the call really cost
//!     Ok(format!("found for {}", grant.name))
//! }
//!
//! async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//!     let ak = AgentKey::connect(&std::env::var("DATABASE_URL")?).await?;
//!     let guard = AgentKeyLayer::new(ak.clone()).scope("search").reserve_cents(20);
//!     let app = Router::new().route("/search", get(search).layer(guard));
//!     let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
//!     let stopped = async { drop(tokio::signal::ctrl_c().await) };
//!     axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
//!     ak.close().await; // waits until what the last requests cost is recorded
//!     Ok(())
//! }
//! # }
//! ```
//!
//! - [`AgentKeyLayer`] has the options; [`CallerGrant`] is what the handler is told. Any tower service finds it in the
//!   extensions of its request; with the feature `axum` it is an extractor.
//! - A request ends when its response body has ended or is dropped, or when its future is dropped: a panic, a timeout, a
//!   client that is gone. [What that costs](https://github.com/agentkey-dev/agentkey/blob/main/docs/charging.md) is the same
//!   in every language. It is recorded in a task of its own, which is repeated while the database is away.
//! - [`AgentKey::close`](crate::AgentKey::close) waits for it. Close the client when the server has stopped.
//! - [`KeyRoutes`] serves keys to their holders.
//! - Faults are logged with `tracing`, target `agentkey`. What nobody waits for is told to
//!   [`Builder::on_error`](crate::Builder::on_error), too.

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

pub use crate::http::{Price, RateLimit, RevokePolicy, SignupAccount};
