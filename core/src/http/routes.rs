//! The self-serve routes: sign up, look at a key, make keys below it, manage these, revoke, ask for more budget.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::admission::Next;
use super::bearer::{Credentials, token};
use super::body::Body;
use super::call::{Call, Caller};
use super::increases::Wish;
use super::limit::{Limiter, RateLimit};
use super::openapi;
use super::response::{CREATED, Response};
use super::route::Route;
use super::signup::{Signup, SignupAccount, SignupBudget};
use super::visit::{Action, Counting, Visit};
use crate::error::Error;

/// What the routes are told; every option has a default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteOptions {
    /// Whether anybody may sign up for a key. `None` is yes, as in the original.
    pub signup: Option<bool>,
    /// The scopes that a signup may ask for, and gets if it asks for none. `None` is no scope at all.
    pub signup_scopes: Option<Vec<String>>,
    /// Whether a signup must name an email address.
    pub require_email_for_signup: bool,
    /// How often one client address may sign up, at all processes that share the table. `None` is as often as it likes.
    /// Each process counts for itself until the table is migrated, and where the client is an application's own double.
    pub signup_rate_limit: Option<RateLimit>,
    /// Whose keys signups are.
    pub signup_account: SignupAccount,
    /// The longest that a signup's key may live: a duration such as `30d`, never none. A year by default.
    pub signup_max_expires_in: String,
    /// What a signup may spend. `None` is what it asks for, or no budget.
    pub signup_budget: Option<SignupBudget>,
    /// Which keys a caller may revoke.
    pub revoke_policy: RevokePolicy,
    /// Whether a caller may manage the keys below its own: list, change, rotate, disable and enable them. Not by default:
    /// the original has no such routes, and an application may have its own at their paths.
    pub manage: bool,
}

impl Default for RouteOptions {
    fn default() -> Self {
        RouteOptions {
            signup: None,
            signup_scopes: None,
            require_email_for_signup: true,
            signup_rate_limit: None,
            signup_account: SignupAccount::default(),
            signup_max_expires_in: "365d".to_owned(),
            signup_budget: None,
            revoke_policy: RevokePolicy::default(),
            manage: false,
        }
    }
}

impl RouteOptions {
    /// Whether anybody gets keys without a limit, and nobody said that this is meant: worth a warning.
    pub fn opens_signup_unasked(&self) -> bool {
        self.signup.is_none() && self.signup_budget.is_none()
    }
}

/// Which keys a caller may revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RevokePolicy {
    /// All of its account, as in the original.
    #[default]
    Account,
    /// Of these only itself and its descendants.
    Descendants,
}

/// A request to the routes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VisitCall {
    /// Where it goes.
    pub route: Route,
    /// Its `Authorization` header.
    pub authorization: Option<String>,
    /// Its header that holds nothing but a key, where there may be one.
    pub api_key: Option<String>,
    /// Its body.
    pub body: Body,
    /// The client's address, for the limit on signups. Behind a proxy it must be the one that the proxy vouches for.
    /// Those without an address share one count.
    pub address: Option<String>,
    /// The time.
    pub now: DateTime<Utc>,
    /// Whether the client is an application's own double, which knows no bound on what a key may revoke.
    pub is_double: bool,
}

impl VisitCall {
    /// A request without a body, a key or an address.
    pub fn new(route: Route, now: DateTime<Utc>) -> Self {
        VisitCall {
            route,
            authorization: None,
            api_key: None,
            body: Body::Missing,
            address: None,
            now,
            is_double: false,
        }
    }
}

/// The routes. Cheap to clone; clones share the count of signups.
#[derive(Debug, Clone)]
pub struct Routes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    signup: Option<Signup>,
    limiter: Option<Arc<Limiter>>,
    revoke_policy: RevokePolicy,
    manage: bool,
}

impl Routes {
    /// # Errors
    /// `invalid_duration` if `signup_max_expires_in` is none.
    pub fn new(options: &RouteOptions) -> Result<Self, Error> {
        Ok(Routes(Arc::new(Inner {
            signup: if options.signup == Some(false) { None } else { Some(Signup::new(options)?) },
            limiter: options.signup_rate_limit.map(|limit| Arc::new(Limiter::new(limit))),
            revoke_policy: options.revoke_policy,
            manage: options.manage,
        })))
    }

    /// Begins to serve a request.
    pub fn visit(&self, call: VisitCall) -> (Visit, Next) {
        let mut visit = Visit::over(self.0.revoke_policy, call.is_double);
        let next = self.begin(&mut visit, call).map_or_else(Next::Respond, Next::Call);
        (visit, next)
    }

    fn begin(&self, visit: &mut Visit, call: VisitCall) -> Result<Call, Response> {
        if call.body == Body::TooLarge {
            return Err(Response::body_too_large());
        }
        if !self.serves(&call.route) {
            return Err(not_found());
        }
        if call.route == Route::Signup {
            return self.sign_up(visit, &call);
        }
        let body = call.body;
        let action = match call.route {
            Route::Signup | Route::Unknown => return Err(not_found()),
            Route::Me => Action::Show,
            Route::Create => Action::Create(body),
            Route::Delete { id } => Action::Delete { id },
            Route::List { query } => Action::List { query },
            Route::Update { id } => Action::Update { id, body },
            Route::Rotate { id } => Action::Rotate { id, body },
            Route::Disable { id } => Action::Switch { id, disabled: true },
            Route::Enable { id } => Action::Switch { id, disabled: false },
            Route::RequestIncrease => Action::Increase(Wish::Ask(body)),
            Route::ListIncreases { query } => Action::Increase(Wish::List(query)),
            Route::DecideIncrease { id } => Action::Increase(Wish::Decide(id, body)),
        };
        let credentials = Credentials::new(call.authorization.as_deref()).api_key(call.api_key.as_deref());
        let token = token(credentials, "Missing API key")?;
        visit.looks_up(action);
        Ok(Call::Validate(Caller::Key(token)))
    }

    /// The OpenAPI 3.1 description of the routes that are served, as JSON.
    pub fn openapi(&self) -> String {
        openapi::description(|route| self.serves(route))
    }

    fn serves(&self, route: &Route) -> bool {
        match route {
            Route::Unknown => false,
            Route::Signup => self.0.signup.is_some(),
            route => self.0.manage || !route.manages(),
        }
    }

    /// The response to a creation, with what `create` answers as JSON.
    pub(super) fn created(json: String) -> Response {
        Response::new(CREATED, json)
    }

    fn sign_up(&self, visit: &mut Visit, call: &VisitCall) -> Result<Call, Response> {
        let signup = self.0.signup.as_ref().ok_or_else(not_found)?;
        let new = Box::new(signup.key(&call.body)?);
        // Counted only now: who mistypes an address has not signed up.
        let Some(limiter) = &self.0.limiter else { return Ok(visit.signs_up(new)) };
        let address = call.address.as_deref();
        if call.is_double {
            limiter.admit(address, call.now).map_err(rate_limited)?;
            return Ok(visit.signs_up(new));
        }
        limiter.remembers(address, call.now).map_err(rate_limited)?;
        Ok(visit.counts(Counting { limiter: Arc::clone(limiter), address: call.address.clone(), new }))
    }
}

pub(super) fn rate_limited(seconds: i64) -> Response {
    Response::error(429, "rate_limited").retry_after(seconds)
}

pub(super) fn not_found() -> Response {
    Response::error(404, "Not found")
}
