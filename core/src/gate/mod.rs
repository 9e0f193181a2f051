//! The HTTP policy: which request gets which answer, decided once for every language.
//!
//! Plain data in, plain data out, no I/O and no clock: Express, FastAPI and axum only carry. Two doors:
//!
//! - [`Guard`] stands before a handler: [`Guard::begin`] reads the `Authorization` header, the caller looks the token up,
//!   [`Guard::decide`] answers a [`Pass`] or a [`Response`].
//! - [`Routes`] serves keys to their holders. [`Routes::handle`] answers a [`Step`]: send the response, or ask the client
//!   and go on with what it said.
//!
//! ```
//! # use agentkey::{CreateKey, Error, Verdict, AccountFilter, KeyId, gate::{Call, Response, Routes, Step, Token}};
//! # use chrono::{DateTime, Utc};
//! # struct Client;
//! # impl Client {
//! #     fn validate(&self, _: &Token) -> Result<Verdict, Error> { unimplemented!() }
//! #     fn create(&self, _: CreateKey) -> Result<String, Error> { unimplemented!() }
//! #     fn revoke(&self, _: &str, _: AccountFilter) -> Result<bool, Error> { unimplemented!() }
//! #     fn now(&self) -> DateTime<Utc> { unimplemented!() }
//! # }
//! fn serve(routes: &Routes, client: &Client, call: Call) -> Response {
//!     let mut step = routes.handle(call);
//!     loop {
//!         step = match step {
//!             Step::Respond(response) => return response,
//!             Step::Validate { token, then } => then.verdict(client.validate(&token), client.now()),
//!             Step::Create(new) => Step::Respond(Routes::created(client.create(new.spec))),
//!             Step::Revoke(old) => Step::Respond(Routes::revoked(client.revoke(&old.id, old.account))),
//!         }
//!     }
//! }
//! ```
//!
//! [`wire`] writes results as JSON in the one shape that every language shares. [`Clerk`] holds the answers of the doors
//! for Clerk's tokens.

mod bearer;
mod body;
mod child;
mod clerk;
mod guard;
mod http;
mod limit;
mod routes;
mod signup;
pub mod wire;
mod wire_read;

#[cfg(test)]
mod tests;

pub use bearer::Token;
pub use body::Body;
pub use clerk::{Clerk, Verification};
pub use guard::{Guard, Pass, held};
pub use http::{Header, Response};
pub use limit::RateLimit;
pub use routes::{Call, NewKey, OldKey, Pending, RevokePolicy, Route, RouteOptions, Routes, Step};
pub use signup::{SignupAccount, SignupBudget};
