//! For axum: the grant as an extractor.

use ::axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, OptionalFromRequestParts};
use ::axum::response::{IntoResponse, Response};
use ::http::request::Parts;
use ::http::{Extensions, StatusCode};

use std::convert::Infallible;
use std::net::SocketAddr;

use super::grant::CallerGrant;
use crate::http::Routed;
use crate::key::grant::Grant;

/// There is no [`CallerGrant`]: no [`AgentKeyLayer`](super::AgentKeyLayer) stands before the handler. It is answered with a
/// 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MissingGrant;

impl std::fmt::Display for MissingGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Can't extract the caller's grant. Is `AgentKeyLayer` before this handler?")
    }
}

impl std::error::Error for MissingGrant {}

impl IntoResponse for MissingGrant {
    fn into_response(self) -> Response {
        tracing::error!(target: "agentkey", "{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

fn found(parts: &Parts) -> Option<CallerGrant> {
    let grant = parts.extensions.get::<CallerGrant>()?;
    // Of a layer around the whole router, which could not see it.
    if has_route(&parts.extensions) {
        grant.admitted().reached(Routed::Path);
    }
    Some(grant.clone())
}

impl<S: Send + Sync> FromRequestParts<S> for CallerGrant {
    type Rejection = MissingGrant;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingGrant> {
        found(parts).ok_or(MissingGrant)
    }
}

/// `None` where no layer stands before the handler.
impl<S: Send + Sync> OptionalFromRequestParts<S> for CallerGrant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(found(parts))
    }
}

/// The caller's key alone, for handlers that say no cost.
impl<S: Send + Sync> FromRequestParts<S> for Grant {
    type Rejection = MissingGrant;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingGrant> {
        found(parts).map(|grant| (*grant).clone()).ok_or(MissingGrant)
    }
}

/// Whether a router found a route for the request.
pub(super) fn has_route(extensions: &Extensions) -> bool {
    extensions.get::<MatchedPath>().is_some()
}

/// The peer's address, of an app that is served with it.
pub(super) fn peer(extensions: &Extensions) -> Option<String> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip().to_string())
}
