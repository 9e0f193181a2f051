//! The self-serve routes: sign up, look at a key, make a child of it, revoke, ask for more budget.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::admission::Next;
use super::bearer::{Credentials, token};
use super::body::Body;
use super::call::{Call, Caller};
use super::child::{child_failed, child_of};
use super::increases::{self, Wish};
use super::limit::{Limiter, RateLimit};
use super::response::{CREATED, Response};
use super::route::Route;
use super::signup::{Signup, SignupAccount, SignupBudget};
use crate::engine::json::grant;
use crate::engine::{Answer, Revocation};
use crate::error::{Error, ErrorCode};
use crate::id::KeyId;
use crate::key::grant::{Denial, DenialReason, Grant, Verdict};

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
            signup: None,
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
    limiter: Option<Limiter>,
    revoke_policy: RevokePolicy,
}

/// A request on its way through the routes.
#[derive(Debug)]
pub struct Visit {
    revoke_policy: RevokePolicy,
    is_double: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The caller is looked up, and then wants this.
    LookingUp(Action),
    SigningUp,
    /// A child is made.
    Creating,
    Revoking,
    /// A request for more budget is recorded, or, if not, decided.
    Increasing {
        is_new: bool,
    },
    ListingIncreases,
    Over,
}

/// What a caller wants who must be known.
#[derive(Debug)]
enum Action {
    Show,
    Create(Body),
    Delete { id: String },
    Increase(Wish),
}

/// No id is longer, whatever the column.
const LONGEST_ID: usize = 255;

impl Routes {
    /// # Errors
    /// `invalid_duration` if `signup_max_expires_in` is none.
    pub fn new(options: &RouteOptions) -> Result<Self, Error> {
        Ok(Routes(Arc::new(Inner {
            signup: if options.signup == Some(false) { None } else { Some(Signup::new(options)?) },
            limiter: options.signup_rate_limit.map(Limiter::new),
            revoke_policy: options.revoke_policy,
        })))
    }

    /// Begins to serve a request.
    pub fn visit(&self, call: VisitCall) -> (Visit, Next) {
        let is_double = call.is_double;
        let visit = |state| Visit { revoke_policy: self.0.revoke_policy, is_double, state };
        let answered = |response| (visit(State::Over), Next::Respond(response));
        if call.body == Body::TooLarge {
            return answered(Response::body_too_large());
        }
        let action = match call.route {
            Route::Signup => {
                return match self.sign_up(&call) {
                    Ok(create) => (visit(State::SigningUp), Next::Call(create)),
                    Err(response) => answered(response),
                };
            }
            Route::Unknown => return answered(not_found()),
            Route::Me => Action::Show,
            Route::Create => Action::Create(call.body),
            Route::Delete { id } => Action::Delete { id },
            Route::RequestIncrease => Action::Increase(Wish::Ask(call.body)),
            Route::ListIncreases { query } => Action::Increase(Wish::List(query)),
            Route::DecideIncrease { id } => Action::Increase(Wish::Decide(id, call.body)),
        };
        let credentials = Credentials::new(call.authorization.as_deref()).api_key(call.api_key.as_deref());
        match token(credentials, "Missing API key") {
            Ok(token) => {
                let validate = Call::Validate(Caller::Key(token));
                (visit(State::LookingUp(action)), Next::Call(validate))
            }
            Err(response) => answered(response),
        }
    }

    /// The response to a creation, with what `create` answers as JSON.
    pub(super) fn created(json: String) -> Response {
        Response::new(CREATED, json)
    }

    fn sign_up(&self, call: &VisitCall) -> Result<Call, Response> {
        let signup = self.0.signup.as_ref().ok_or_else(not_found)?;
        let new = signup.key(&call.body)?;
        // Counted only now: who mistypes an address has not signed up.
        let admitted = self.0.limiter.as_ref().map_or(Ok(()), |l| l.admit(call.address.as_deref(), call.now));
        match admitted {
            Ok(()) => Ok(Call::Create(Box::new(new))),
            Err(seconds) => Err(Response::error(429, "rate_limited").retry_after(seconds)),
        }
    }
}

fn not_found() -> Response {
    Response::error(404, "Not found")
}

impl Visit {
    /// Goes on with what the client answered.
    pub fn answered(&mut self, answer: Result<Answer, Error>, now: DateTime<Utc>) -> Next {
        let wrong = || Error::new(ErrorCode::UnexpectedResponse, "an answer to another call");
        match (std::mem::replace(&mut self.state, State::Over), answer) {
            (State::LookingUp(action), Ok(Answer::Validated(verdict))) => {
                self.looked_up(action, verdict, now)
            }
            (State::SigningUp | State::Creating, Ok(answer @ Answer::Created(_))) => {
                Next::Respond(Routes::created(answer.json(false)))
            }
            (State::SigningUp, Err(error)) => Next::Respond(Response::failed(&error)),
            (State::Creating, Err(error)) => Next::Respond(child_failed(&error)),
            (State::Revoking, Ok(Answer::Revoked(true))) => {
                Next::Respond(Response::new(200, r#"{"revoked":true}"#.to_owned()))
            }
            (State::Revoking, Ok(Answer::Revoked(false))) => {
                Next::Respond(Response::error(404, "Key not found"))
            }
            (
                State::Increasing { is_new },
                Ok(Answer::IncreaseRequested(outcome) | Answer::IncreaseDecided(outcome)),
            ) => Next::Respond(increases::outcome(&outcome, is_new)),
            (State::Increasing { .. }, Err(error)) => Next::Respond(Response::failed(&error)),
            (State::ListingIncreases, Ok(Answer::Increases(requests))) => {
                Next::Respond(increases::listed(&requests))
            }
            (_, Err(error)) => Next::Respond(Response::unavailable(&error)),
            (_, Ok(_)) => Next::Respond(Response::unavailable(&wrong())),
        }
    }

    fn looked_up(&mut self, action: Action, verdict: Verdict, now: DateTime<Utc>) -> Next {
        match verdict {
            Ok(caller) => self.serve(action, &caller),
            // Who has spent all may still look at the key and give it up, but makes no children.
            Err(Denial { reason: DenialReason::BudgetExceeded, key: Some(caller), .. })
                if !matches!(action, Action::Create(_)) =>
            {
                self.serve(action, &caller)
            }
            Err(denial) => Next::Respond(Response::denied(&denial, now)),
        }
    }

    fn serve(&mut self, action: Action, caller: &Grant) -> Next {
        match action {
            Action::Show => Next::Respond(Response::new(200, grant(caller, false))),
            Action::Create(body) => match child_of(caller, &body) {
                Ok(new) => {
                    self.state = State::Creating;
                    Next::Call(Call::Create(Box::new(new)))
                }
                Err(response) => Next::Respond(response),
            },
            // A double has no method for it.
            Action::Increase(_) if self.is_double => Next::Respond(not_found()),
            Action::Increase(wish) => match wish.call(caller) {
                Ok(call) => {
                    self.state = match call {
                        Call::ListIncreases(_) => State::ListingIncreases,
                        _ => State::Increasing { is_new: matches!(call, Call::RequestIncrease(..)) },
                    };
                    Next::Call(call)
                }
                Err(response) => Next::Respond(response),
            },
            Action::Delete { id } if !may_be_id(&id, &caller.id) => {
                Next::Respond(Response::bad_request("Invalid key ID"))
            }
            Action::Delete { id } if id.is_empty() || id.len() > LONGEST_ID || id.contains('\0') => {
                Next::Respond(Response::error(404, "Key not found"))
            }
            Action::Delete { .. } if self.is_double && self.revoke_policy == RevokePolicy::Descendants => {
                Next::Respond(Response::error(404, "Key not found"))
            }
            Action::Delete { id } => {
                let id = if self.is_double { id_for_double(id, &caller.id) } else { id.into() };
                let revocation = Revocation::of_key(id).of_account(caller.account_id.clone());
                self.state = State::Revoking;
                Next::Call(Call::Revoke(match self.revoke_policy {
                    RevokePolicy::Account => revocation,
                    RevokePolicy::Descendants => revocation.within(caller.id.clone()),
                }))
            }
        }
    }
}

/// A double of the original's shape knows ids that are numbers as numbers.
fn id_for_double(text: String, of_caller: &KeyId) -> KeyId {
    const LARGEST_SAFE: i64 = (1 << 53) - 1;
    match (of_caller, text.parse()) {
        (KeyId::Integer(_), Ok(number @ 0..=LARGEST_SAFE)) => KeyId::Integer(number),
        _ => KeyId::Text(text),
    }
}

/// Where ids are numbers, one that does not begin with a digit is refused as in the original.
fn may_be_id(text: &str, of_caller: &KeyId) -> bool {
    match of_caller {
        KeyId::Integer(_) => text.starts_with(|first: char| first.is_ascii_digit()),
        KeyId::Text(_) => true,
    }
}
