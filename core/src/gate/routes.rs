//! The self-serve routes: sign up, look at a key, make a child of it, revoke.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::bearer::{Token, token};
use super::body::Body;
use super::child::child_of;
use super::http::Response;
use super::limit::{Limiter, RateLimit};
use super::signup::{Signup, SignupAccount, SignupBudget};
use super::wire;
use crate::error::Error;
use crate::new_key::CreateKey;
use crate::request::AccountFilter;
use crate::verdict::{Denial, DenialReason, Grant, KeyId, Verdict};

/// What the routes are told; every option has a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteOptions {
    /// The scopes that a signup may ask for, and gets if it asks for none. `None` is no scope at all.
    pub signup_scopes: Option<Vec<String>>,
    /// Whether a signup must name an email address.
    pub require_email_for_signup: bool,
    /// How often one client address may sign up; each process counts for itself. `None` is as often as it likes.
    pub signup_rate_limit: Option<RateLimit>,
    /// Whose keys signups are.
    pub signup_account: SignupAccount,
    /// The longest that a signup's key may live: a duration such as `30d`, never none. A year by default.
    pub signup_max_expires_in: String,
    /// What a signup may spend. `None` is what it asks for, or no budget.
    pub signup_budget: Option<SignupBudget>,
    /// Which keys a caller may revoke.
    pub revoke_policy: RevokePolicy,
}

impl Default for RouteOptions {
    fn default() -> Self {
        RouteOptions {
            signup_scopes: None,
            require_email_for_signup: true,
            signup_rate_limit: None,
            signup_account: SignupAccount::default(),
            signup_max_expires_in: "365d".to_owned(),
            signup_budget: None,
            revoke_policy: RevokePolicy::default(),
        }
    }
}

/// Which keys a caller may revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevokePolicy {
    /// All of its account, as in the original.
    #[default]
    Account,
    /// Of these only itself and its descendants.
    Descendants,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `POST /signup`
    Signup,
    /// `GET /sdk-keys/me`
    Me,
    /// `POST /sdk-keys`
    Create,
    /// `DELETE /sdk-keys/:id`
    Delete {
        /// The last segment, percent-decoded.
        id: String,
    },
}

impl Route {
    /// The route of a request, for bindings whose framework has not routed it. The path is relative to where the routes
    /// are mounted; a slash at its end and the case of its letters do not matter, as in Express.
    pub fn of(method: &str, path: &str) -> Option<Route> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let path = path.strip_suffix('/').unwrap_or(path).strip_prefix('/')?;
        let is = |text: &str, name: &str| text.eq_ignore_ascii_case(name);
        match path.split_once('/') {
            None if method == "POST" && is(path, "signup") => Some(Route::Signup),
            None if method == "POST" && is(path, "sdk-keys") => Some(Route::Create),
            Some((head, "")) if is(head, "sdk-keys") => None,
            Some((head, id)) if is(head, "sdk-keys") && !id.contains('/') => match method {
                "GET" | "HEAD" if is(id, "me") => Some(Route::Me),
                "DELETE" => Some(Route::Delete { id: percent_decoded(id) }),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What cannot be decoded stays as it is: no key has such an id.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let mut byte = [0];
            let Some(digits) = tail.get(..2) else { return text.to_owned() };
            if hex::decode_to_slice(digits, &mut byte).is_err() {
                return text.to_owned();
            }
            bytes.push(byte[0]);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A request to the routes.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where it goes.
    pub route: Route,
    /// Its `Authorization` header.
    pub authorization: Option<String>,
    /// Its body.
    pub body: Body,
    /// The client's address, for the limit on signups. Behind a proxy it must be the one that the proxy vouches for.
    /// Those without an address share one count.
    pub address: Option<String>,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What to do next.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Send this: the request is served.
    Respond(Response),
    /// Look the token up and go on with the verdict.
    Validate {
        /// A raw key, it seems.
        token: Token,
        /// What goes on: [`Pending::verdict`].
        then: Pending,
    },
    /// Create a key; [`Routes::created`] turns what became of it into the response.
    Create(Box<NewKey>),
    /// Revoke a key; [`Routes::revoked`] turns what became of it into the response.
    Revoke(OldKey),
}

/// A key to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What it is.
    pub spec: CreateKey,
}

/// A key to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldKey {
    /// Its id, as the caller wrote it.
    pub id: String,
    /// Whose it must be.
    pub account: AccountFilter,
    /// If given, it must be this key or a descendant of it, too.
    pub within: Option<KeyId>,
}

/// The routes. Cheap to clone; clones share the count of signups.
#[derive(Debug, Clone)]
pub struct Routes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    signup: Signup,
    limiter: Option<Limiter>,
    revoke_policy: RevokePolicy,
}

/// A request that waits for the look-up of its caller.
#[derive(Debug)]
pub struct Pending {
    revoke_policy: RevokePolicy,
    action: Action,
}

/// What a caller wants who must be known.
#[derive(Debug)]
enum Action {
    Show,
    Create(Body),
    Delete { id: String },
}

/// No id is longer, whatever the column.
const LONGEST_ID: usize = 255;

impl Routes {
    /// # Errors
    /// `invalid_duration` if `signup_max_expires_in` is none.
    pub fn new(options: &RouteOptions) -> Result<Self, Error> {
        Ok(Routes(Arc::new(Inner {
            signup: Signup::new(options)?,
            limiter: options.signup_rate_limit.map(Limiter::new),
            revoke_policy: options.revoke_policy,
        })))
    }

    /// Begins to serve a request.
    pub fn handle(&self, call: Call) -> Step {
        let action = match call.route {
            Route::Signup => return self.sign_up(&call),
            Route::Me => Action::Show,
            Route::Create => Action::Create(call.body),
            Route::Delete { id } => Action::Delete { id },
        };
        match token(call.authorization.as_deref(), "Missing API key") {
            Ok(token) => {
                Step::Validate { token, then: Pending { revoke_policy: self.0.revoke_policy, action } }
            }
            Err(response) => Step::Respond(response),
        }
    }

    /// The response to a creation. `result` is what `create` answers, as JSON ([`wire::created`]), or why it failed.
    pub fn created(result: Result<String, Error>) -> Response {
        match result {
            Ok(body) => Response::new(201, body).with("Cache-Control", "no-store"),
            Err(error) => Response::failed(&error),
        }
    }

    /// The response to a revocation: whether a key was revoked, or why that is not known.
    pub fn revoked(result: Result<bool, Error>) -> Response {
        match result {
            Ok(true) => Response::new(200, r#"{"revoked":true}"#.to_owned()),
            Ok(false) => Response::error(404, "Key not found"),
            Err(error) => Response::unavailable(&error),
        }
    }

    fn sign_up(&self, call: &Call) -> Step {
        let spec = match self.0.signup.key(&call.body) {
            Ok(spec) => spec,
            Err(response) => return Step::Respond(response),
        };
        // Counted only now: who mistypes an address has not signed up.
        let admitted = self.0.limiter.as_ref().map_or(Ok(()), |l| l.admit(call.address.as_deref(), call.now));
        match admitted {
            Ok(()) => Step::Create(Box::new(NewKey { spec })),
            Err(seconds) => Step::Respond(Response::error(429, "rate_limited").retry_after(seconds)),
        }
    }
}

impl Pending {
    /// Goes on with what the look-up said.
    pub fn verdict(self, verdict: Result<Verdict, Error>, now: DateTime<Utc>) -> Step {
        match verdict {
            Err(error) => Step::Respond(Response::unavailable(&error)),
            Ok(Ok(caller)) => self.serve(&caller, now),
            // Who has spent all may still look at the key and give it up, but makes no children.
            Ok(Err(Denial { reason: DenialReason::BudgetExceeded, key: Some(caller), .. }))
                if !matches!(self.action, Action::Create(_)) =>
            {
                self.serve(&caller, now)
            }
            Ok(Err(denial)) => Step::Respond(Response::denied(&denial, now)),
        }
    }

    fn serve(self, caller: &Grant, now: DateTime<Utc>) -> Step {
        match self.action {
            Action::Show => Step::Respond(Response::new(200, wire::grant(caller))),
            Action::Create(body) => match child_of(caller, &body, now) {
                Ok(spec) => Step::Create(Box::new(NewKey { spec })),
                Err(response) => Step::Respond(response),
            },
            Action::Delete { id } if id.is_empty() || id.len() > LONGEST_ID || id.contains('\0') => {
                Step::Respond(Routes::revoked(Ok(false)))
            }
            Action::Delete { id } => Step::Revoke(OldKey {
                id,
                account: AccountFilter::Only(caller.account_id.as_ref().map(ToString::to_string)),
                within: (self.revoke_policy == RevokePolicy::Descendants).then(|| caller.id.clone()),
            }),
        }
    }
}
