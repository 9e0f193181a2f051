//! One request on its way through the routes.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::admission::Next;
use super::body::Body;
use super::call::{Call, NewKey};
use super::child::{child_failed, child_of};
use super::increases::{self, Wish};
use super::limit::Limiter;
use super::manage::{Change, Page, is_managed};
use super::response::Response;
use super::routes::{RevokePolicy, Routes, not_found, rate_limited};
use crate::engine::json::{grant, grant_explained, record_for_holder, records_for_holder};
use crate::engine::{Answer, Revocation};
use crate::error::{Error, ErrorCode};
use crate::id::KeyId;
use crate::key::grant::{Denial, DenialReason, Grant, Verdict};
use crate::key::rotation::RotateRefusal;

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
    /// A signup is counted, and is a key if it is not one too many.
    Counting(Counting),
    SigningUp,
    Explaining(Box<Grant>),
    /// A child is made.
    Creating,
    Revoking,
    Listing(Box<Grant>, Page),
    /// The key that is to be changed is read.
    Finding(Box<Grant>, Box<Change>),
    Changing,
    /// A request for more budget is recorded, or, if not, decided.
    Increasing {
        is_new: bool,
    },
    ListingIncreases,
    Over,
}

/// A signup, until the database has counted it.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) limiter: Arc<Limiter>,
    pub(super) address: Option<String>,
    pub(super) new: Box<NewKey>,
}

impl Counting {
    fn allows(self, counted: Result<Answer, Error>, now: DateTime<Utc>) -> Result<Box<NewKey>, Response> {
        let Counting { limiter, address, new } = self;
        let address = address.as_deref();
        match counted {
            Ok(Answer::SignupCounted(Ok(()))) => Ok(new),
            Ok(Answer::SignupCounted(Err(seconds))) => {
                limiter.remember(address, seconds, now);
                Err(rate_limited(seconds.into()))
            }
            // There is nothing to count in yet.
            Err(error) if error.code() == ErrorCode::MigrationRequired => {
                limiter.admit(address, now).map_err(rate_limited).map(|()| new)
            }
            Err(error) => Err(Response::unavailable(&error)),
            Ok(_) => Err(Response::unavailable(&Error::unexpected("an answer to another call"))),
        }
    }
}

/// What a caller wants who must be known.
#[derive(Debug)]
pub(super) enum Action {
    Show,
    Create(Body),
    Delete { id: String },
    List { query: String },
    Update { id: String, body: Body },
    Rotate { id: String, body: Body },
    Switch { id: String, disabled: bool },
    Increase(Wish),
}

impl Action {
    /// Who has spent all may look, take away and protect, but neither makes a key nor gives one more.
    fn needs_budget(&self) -> bool {
        match self {
            Action::Create(_) | Action::Update { .. } | Action::Switch { disabled: false, .. } => true,
            Action::Show
            | Action::Delete { .. }
            | Action::List { .. }
            | Action::Rotate { .. }
            | Action::Switch { disabled: true, .. }
            | Action::Increase(_) => false,
        }
    }
}

/// No id is longer, whatever the column.
const LONGEST_ID: usize = 255;

/// Whether a text may be a key's id.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_ID && !text.contains('\0')
}

impl Visit {
    pub(super) fn over(revoke_policy: RevokePolicy, is_double: bool) -> Self {
        Visit { revoke_policy, is_double, state: State::Over }
    }

    pub(super) fn counts(&mut self, counting: Counting) -> Call {
        let call = Call::CountSignup(counting.limiter.count(counting.address.as_deref()));
        self.state = State::Counting(counting);
        call
    }

    pub(super) fn signs_up(&mut self, new: Box<NewKey>) -> Call {
        self.state = State::SigningUp;
        Call::Create(new)
    }

    pub(super) fn looks_up(&mut self, action: Action) {
        self.state = State::LookingUp(action);
    }

    /// Goes on with what the client answered.
    pub fn answered(&mut self, answer: Result<Answer, Error>, now: DateTime<Utc>) -> Next {
        let wrong = || Error::new(ErrorCode::UnexpectedResponse, "an answer to another call");
        let ok = |json| Next::Respond(Response::new(200, json));
        match (std::mem::replace(&mut self.state, State::Over), answer) {
            (State::LookingUp(action), Ok(Answer::Validated(verdict))) => {
                self.looked_up(action, verdict, now).unwrap_or_else(Next::Respond)
            }
            (State::Counting(counting), counted) => match counting.allows(counted, now) {
                Ok(new) => Next::Call(self.signs_up(new)),
                Err(response) => Next::Respond(response),
            },
            (State::SigningUp | State::Creating, Ok(answer @ Answer::Created(_))) => {
                Next::Respond(Routes::created(answer.json(false)))
            }
            (State::SigningUp, Err(error)) => Next::Respond(Response::failed(&error)),
            (State::Explaining(caller), Ok(Answer::Explained(explanation))) => {
                ok(grant_explained(&caller, &explanation))
            }
            (State::Listing(caller, page), Ok(Answer::Keys(keys))) => {
                let next = page.next(&caller, &keys);
                ok(records_for_holder(keys.iter().filter(|key| is_managed(&caller, key)), next.as_ref()))
            }
            (State::Finding(caller, change), Ok(Answer::Key(key))) => {
                let key = key.filter(|key| is_managed(&caller, key));
                match key.map_or_else(|| Err(no_key()), |key| change.call(&caller, &key)) {
                    Ok(call) => {
                        self.state = State::Changing;
                        Next::Call(call)
                    }
                    Err(response) => Next::Respond(response),
                }
            }
            (State::Changing, Ok(Answer::Key(Some(key)))) => ok(record_for_holder(&key)),
            (State::Changing, Ok(answer @ Answer::Rotated(Ok(_)))) => {
                Next::Respond(Routes::created(answer.json(false)))
            }
            (State::Changing, Ok(Answer::Rotated(Err(refusal)))) if refusal != RotateRefusal::InvalidKey => {
                Next::Respond(Response::error(409, refusal.as_str()))
            }
            (State::Changing, Ok(Answer::Key(None) | Answer::Rotated(Err(_)))) => Next::Respond(no_key()),
            (State::Creating | State::Changing, Err(error)) => Next::Respond(child_failed(&error)),
            (State::Revoking, Ok(Answer::Revoked(true))) => ok(r#"{"revoked":true}"#.to_owned()),
            (State::Revoking, Ok(Answer::Revoked(false))) => Next::Respond(no_key()),
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

    fn looked_up(&mut self, action: Action, verdict: Verdict, now: DateTime<Utc>) -> Result<Next, Response> {
        match verdict {
            Ok(caller) => self.serve(action, caller),
            Err(Denial { reason: DenialReason::BudgetExceeded, key: Some(caller), .. })
                if !action.needs_budget() =>
            {
                self.serve(action, *caller)
            }
            Err(denial) => Err(Response::denied(&denial, now)),
        }
    }

    fn serve(&mut self, action: Action, caller: Grant) -> Result<Next, Response> {
        let (state, call) = match action {
            // A double of the original's shape cannot explain.
            Action::Show if self.is_double => return Err(Response::new(200, grant(&caller, false))),
            Action::Show => {
                let id = caller.id.clone();
                (State::Explaining(Box::new(caller)), Call::Explain(id))
            }
            Action::Create(body) => (State::Creating, Call::Create(Box::new(child_of(&caller, &body)?))),
            Action::Delete { id } => (State::Revoking, self.revoke(id, &caller)?),
            // A double has no method for it.
            Action::Increase(_) if self.is_double => return Err(not_found()),
            Action::Increase(wish) => {
                let call = wish.call(&caller)?;
                let state = match call {
                    Call::ListIncreases(_) => State::ListingIncreases,
                    _ => State::Increasing { is_new: matches!(call, Call::RequestIncrease(..)) },
                };
                (state, call)
            }
            _ if self.is_double => {
                let message = "keys are managed by a client of ours alone: a double has no methods for it";
                return Err(Response::unexpected(message));
            }
            Action::List { query } => {
                let page = Page::read(&caller, &query)?;
                let call = Call::List(Box::new(page.filter().clone()));
                (State::Listing(Box::new(caller), page), call)
            }
            Action::Update { id, body } => find(&id, Change::update(&caller, &body)?, caller)?,
            Action::Rotate { id, body } => find(&id, Change::rotate(&body)?, caller)?,
            Action::Switch { id, disabled } => find(&id, Change::switch(disabled), caller)?,
        };
        self.state = state;
        Ok(Next::Call(call))
    }

    fn revoke(&self, id: String, caller: &Grant) -> Result<Call, Response> {
        checked_id(&id, &caller.id)?;
        if self.is_double && self.revoke_policy == RevokePolicy::Descendants {
            return Err(no_key());
        }
        let id = if self.is_double { id_for_double(id, &caller.id) } else { id.into() };
        let revocation = Revocation::of_key(id).of_account(caller.account_id.clone());
        Ok(Call::Revoke(match self.revoke_policy {
            RevokePolicy::Account => revocation,
            RevokePolicy::Descendants => revocation.within(caller.id.clone()),
        }))
    }
}

fn find(id: &str, change: Change, caller: Grant) -> Result<(State, Call), Response> {
    checked_id(id, &caller.id)?;
    Ok((State::Finding(Box::new(caller), Box::new(change)), Call::Get(id.into())))
}

/// Where ids are numbers, one that does not begin with a digit is refused as in the original.
fn checked_id(text: &str, of_caller: &KeyId) -> Result<(), Response> {
    match of_caller {
        KeyId::Integer(_) if !text.starts_with(|first: char| first.is_ascii_digit()) => {
            Err(Response::bad_request("Invalid key ID"))
        }
        KeyId::Integer(_) | KeyId::Text(_) if is_id(text) => Ok(()),
        KeyId::Integer(_) | KeyId::Text(_) => Err(no_key()),
    }
}

fn no_key() -> Response {
    Response::error(404, "Key not found")
}

/// A double of the original's shape knows ids that are numbers as numbers.
fn id_for_double(text: String, of_caller: &KeyId) -> KeyId {
    const LARGEST_SAFE: i64 = (1 << 53) - 1;
    match (of_caller, text.parse()) {
        (KeyId::Integer(_), Ok(number @ 0..=LARGEST_SAFE)) => KeyId::Integer(number),
        _ => KeyId::Text(text),
    }
}
