//! What a door asks of its client. The client is ours, which takes the short way as a [`Request`], or an application's
//! own double, whose public methods the door calls.

use serde_json::{Map, Value, json};

use super::bearer::Token;
use super::double;
use crate::budget::charge::Charge;
use crate::budget::increase::{IncreaseDecision, IncreaseFilter, IncreaseRequest};
use crate::budget::money::{Cost, MICROCENTS_PER_CENT};
use crate::budget::reservation::{IfExpired, ReservationId, Reserve};
use crate::engine::{AccountFilter, Answer, Request, Revocation, SignupCount};
use crate::error::{Error, ErrorCode};
use crate::id::KeyId;
use crate::key::credential::Credential;
use crate::key::explanation::LEAST_COST;
use crate::key::new_key::CreateKey;
use crate::key::record::{KeyFilter, KeyUpdate};
use crate::key::rotation::Rotate;

/// Who calls, as far as the request tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// The holder of a raw key.
    Key(Token),
    /// An identity of another system.
    Subject(String),
}

/// A call on the client. A method of the npm package has the same name and takes the same.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "every door must make every call")]
pub enum Call {
    /// Look the caller up.
    Validate(Caller),
    /// Hold an amount for the caller, who must have the scope; look the caller up at the same time.
    Reserve(Caller, Reserve),
    /// Record what was spent, and end a reservation.
    Settle(ReservationId, Cost),
    /// Give back what a reservation holds.
    Release(ReservationId),
    /// Record what was spent, whatever the budget, on the key of this id: the caller's.
    Charge(Caller, Cost, KeyId),
    /// Create a key.
    Create(Box<NewKey>),
    /// Create, once, the row of a subject, with the options that the application gives.
    EnsureSubject(String),
    /// Revoke a key.
    Revoke(Revocation),
    /// Say what the smallest charge of a key would meet. No double is asked for this, nor for what follows.
    Explain(KeyId),
    /// List keys.
    List(Box<KeyFilter>),
    /// Read a key.
    Get(KeyId),
    /// Change a key.
    Update(KeyId, Box<KeyUpdate>),
    /// Give a key a new secret.
    Rotate(Credential, Rotate),
    /// Record that the key of this id asks for more budget.
    RequestIncrease(KeyId, IncreaseRequest),
    /// List requests for more budget.
    ListIncreases(IncreaseFilter),
    /// Decide one.
    DecideIncrease(i64, IncreaseDecision),
    /// Count a signup of a client.
    CountSignup(SignupCount),
}

/// A key to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewKey {
    /// What it is.
    pub spec: CreateKey,
    /// How long it is to live, as it was written.
    pub expires_in: Option<String>,
}

impl Call {
    /// The same for the engine; `None` for the calls that need something of the application.
    pub fn request(&self) -> Option<Request> {
        Some(match self {
            Call::Validate(caller) => Request::Validate(credential(caller)),
            Call::Reserve(caller, reserve) => Request::Reserve(credential(caller), reserve.clone()),
            Call::Settle(id, cost) => Request::Settle(id.clone(), *cost),
            Call::Release(id) => Request::Release(id.clone()),
            Call::Charge(caller, cost, id) => {
                Request::Charge(credential(caller), Charge::of_admitted(*cost, Some(id.clone())))
            }
            Call::Create(new) => Request::Create(new.spec.clone()),
            Call::Revoke(revocation) => Request::Revoke(revocation.clone()),
            Call::Explain(id) => Request::Explain(Credential::Id(id.clone()), LEAST_COST),
            Call::List(filter) => Request::List((**filter).clone()),
            Call::Get(id) => Request::Get(id.clone()),
            Call::Update(id, update) => Request::Update(id.clone(), (**update).clone()),
            Call::Rotate(of, rotate) => Request::Rotate(of.clone(), rotate.clone()),
            Call::RequestIncrease(id, request) => {
                Request::RequestIncrease(Credential::Id(id.clone()), request.clone())
            }
            Call::ListIncreases(filter) => Request::ListIncreases(filter.clone()),
            Call::DecideIncrease(id, decision) => Request::DecideIncrease(*id, decision.clone()),
            Call::CountSignup(signup) => Request::CountSignup(signup.clone()),
            Call::EnsureSubject(_) => return None,
        })
    }

    /// The method and the arguments, for a door that calls it: `{ "method": "validate", "args": [...] }`. It holds what
    /// the caller presented, so it must not be logged.
    pub fn json(&self) -> String {
        let (method, args) = match self {
            Call::Validate(Caller::Key(token)) => ("validate", json!([token.expose()])),
            Call::Validate(Caller::Subject(subject)) => ("validateBySubject", json!([subject])),
            Call::Reserve(caller, reserve) => {
                let mut options = cost_json(reserve.cost);
                options.insert("ttl".to_owned(), format!("{}s", reserve.ttl.as_secs()).into());
                if reserve.if_expired != IfExpired::Release {
                    options.insert("ifExpired".to_owned(), reserve.if_expired.as_str().into());
                }
                if let Some(scope) = &reserve.scope {
                    options.insert("scope".to_owned(), scope.as_str().into());
                }
                match caller {
                    Caller::Key(token) => ("reserve", json!([token.expose(), options])),
                    Caller::Subject(subject) => ("reserveBySubject", json!([subject, options])),
                }
            }
            Call::Settle(id, cost) => ("settle", json!([id.as_str(), cost_json(*cost)])),
            Call::Release(id) => ("release", json!([id.as_str()])),
            Call::Charge(caller, cost, _) => {
                let mut options = cost_json(*cost);
                options.insert("overrun".to_owned(), "record".into());
                match caller {
                    Caller::Key(token) => ("trackUsage", json!([token.expose(), options])),
                    Caller::Subject(subject) => ("trackUsageBySubject", json!([subject, options])),
                }
            }
            Call::Create(new) => {
                let mut spec = json!(new.spec);
                if let (Some(members), Some(text)) = (spec.as_object_mut(), &new.expires_in) {
                    members.insert("expiresIn".to_owned(), text.as_str().into());
                }
                ("create", json!([spec]))
            }
            Call::EnsureSubject(subject) => ("ensureSubject", json!([subject])),
            // A double is not asked to revoke within bounds: see `Visit`.
            Call::Revoke(Revocation { key_id, account, .. }) => {
                let account = match account {
                    AccountFilter::Only(account) => json!(account),
                    AccountFilter::Any => Value::Null,
                };
                ("revoke", json!([key_id, account]))
            }
            Call::Explain(_) => ("explain", json!([])),
            Call::List(_) => ("list", json!([])),
            Call::Get(_) => ("get", json!([])),
            Call::Update(..) => ("update", json!([])),
            Call::Rotate(..) => ("rotate", json!([])),
            // Nor for more budget.
            Call::RequestIncrease(id, _) => ("requestIncrease", json!([id])),
            Call::ListIncreases(_) => ("listIncreases", json!([])),
            Call::DecideIncrease(id, _) => ("decideIncrease", json!([id])),
            Call::CountSignup(_) => ("countSignup", json!([])),
        };
        json!({ "method": method, "args": args }).to_string()
    }

    /// Reads what a method of a double answered, as JSON.
    pub(crate) fn read(&self, json: &str) -> Result<Answer, Error> {
        match self {
            Call::Validate(_) => double::verdict(json).map(Answer::Validated),
            Call::Reserve(..) => double::reserved(json).map(Answer::Reserved),
            Call::Settle(..) => double::settled(json).map(Answer::Settled),
            Call::Release(_) => double::released(json).map(Answer::Released),
            Call::Charge(..) => double::charged(json).map(Answer::Charged),
            Call::EnsureSubject(_) => Ok(Answer::SubjectEnsured),
            Call::Revoke(_) => Ok(Answer::Revoked(json == "true")),
            Call::RequestIncrease(..) | Call::ListIncreases(_) | Call::DecideIncrease(..) => {
                Err(Error::new(ErrorCode::UnexpectedResponse, "a double is not asked for more budget"))
            }
            // Its answer is the body of the response, as it stands.
            Call::Create(_) => Err(Error::new(ErrorCode::UnexpectedResponse, "a created key is not read")),
            Call::Explain(_)
            | Call::List(_)
            | Call::Get(_)
            | Call::Update(..)
            | Call::Rotate(..)
            | Call::CountSignup(_) => Err(Error::unexpected("an answer of a double that was not asked")),
        }
    }
}

fn credential(caller: &Caller) -> Credential {
    match caller {
        Caller::Key(token) => Credential::of_key(token.expose()),
        Caller::Subject(subject) => Credential::Subject(subject.clone()),
    }
}

/// Whole cents where it is so many, so that a double of the original's shape understands it.
fn cost_json(cost: Cost) -> Map<String, Value> {
    let mut members = Map::new();
    match cost {
        Cost::Microcents(amount) if amount % MICROCENTS_PER_CENT == 0 => {
            members.insert("costCents".to_owned(), (amount / MICROCENTS_PER_CENT).into());
        }
        Cost::Microcents(amount) => {
            members.insert("costMicrocents".to_owned(), amount.into());
        }
        Cost::Free => {
            members.insert("costCents".to_owned(), 0.into());
        }
        Cost::Invalid => {}
    }
    members
}
