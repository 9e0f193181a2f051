//! The HTTP policy: which request gets which answer, decided once for every language.
//!
//! Plain data in, plain data out, no I/O and no clock: Express, FastAPI and axum only carry. A door begins an
//! [`Exchange`] for each request and does what [`Next`] says, until the request is served and its reservation has ended.
//! There are two kinds of doors:
//!
//! - a [`Guard`] stands before a handler: [`Exchange::with_guard`];
//! - [`Routes`] serve keys to their holders: [`Exchange::with_routes`].
//!
//! ```
//! # use agentkey::Error;
//! # use agentkey::engine::{Answer, Request};
//! # use agentkey::http::{Exchange, Next, Response, Routes, VisitCall};
//! # use chrono::{DateTime, Utc};
//! # struct Client;
//! # impl Client {
//! #     fn ask(&self, _: Request) -> Result<Answer, Error> { unimplemented!() }
//! #     fn now(&self) -> DateTime<Utc> { unimplemented!() }
//! # }
//! fn serve(routes: &Routes, client: &Client, call: VisitCall) -> Option<Response> {
//!     let (mut exchange, mut next) = Exchange::with_routes(routes, call);
//!     loop {
//!         next = match next {
//!             Next::Respond(response) => return Some(response),
//!             Next::Call(call) => exchange.answered(client.ask(call.request()?), client.now()),
//!             _ => return None,
//!         }
//!     }
//! }
//! ```

mod admission;
mod bearer;
mod body;
mod call;
mod child;
mod clerk;
mod double;
mod ending;
mod exchange;
mod guard;
mod increases;
mod limit;
mod manage;
mod openapi;
mod response;
mod route;
mod routes;
mod signup;
mod visit;

#[cfg(test)]
mod tests;

pub use admission::{Admission, Next};
pub use bearer::{Credentials, Token, api_key_header};
pub use body::Body;
pub use call::{Call, Caller, NewKey};
pub use clerk::{Clerk, Verification};
pub use ending::{Ending, Price, Routed};
pub use exchange::Exchange;
pub use guard::{Guard, Pass};
pub use limit::RateLimit;
pub use openapi::OPENAPI;
pub use response::{Header, Response};
pub use route::Route;
pub use routes::{RevokePolicy, RouteOptions, Routes, VisitCall};
pub use signup::{SignupAccount, SignupBudget};
pub use visit::Visit;
