//! The policy's tests: every line of it by name, the holes that it closes, and everything that a body can get wrong.

mod admission;
mod bad_input;
mod calls;
mod clerk;
mod guard;
mod increases;
mod keys;
mod manage;
mod openapi;
mod properties;
mod signup;
mod turns;
mod wire;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::*;
use crate::budget::limit::Limit;
use crate::engine::rows::new_row::NewRow;
use crate::engine::{Answer, Options, Revocation, Verdict};
use crate::error::{Error, ErrorCode};
use crate::id::{AccountId, KeyId};
use crate::key::credential::Credential;
use crate::key::delegation::Parent;
use crate::key::explanation::{ExplainedLimit, Explanation, LEAST_COST};
use crate::key::grant::{Denial, DenialReason, Grant};
use crate::key::new_key::{CreateKey, Created};
use crate::key::raw::RawKey;
use crate::key::record::{KeyFilter, KeyRecord, KeyUpdate};
use crate::key::rotation::{Rotate, RotateRefusal, Rotated};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_764_000_000, 0).unwrap()
}

fn later(seconds: i64) -> Option<DateTime<Utc>> {
    Some(now() + TimeDelta::seconds(seconds))
}

fn list(scopes: &[&str]) -> Option<Vec<String>> {
    Some(scopes.iter().map(|s| s.to_string()).collect())
}

/// A key that is limited in nothing.
fn anything() -> Grant {
    Grant {
        wildcards: false,
        id: KeyId::Integer(7),
        account_id: Some(AccountId::Text("acct".to_owned())),
        user_id: None,
        scopes: None,
        budget_cents: None,
        budget_used_cents: 0,
        budget_used_microcents: 0,
        budget_reserved_cents: 0,
        budget_reserved_microcents: 0,
        budget_remaining_cents: None,
        budget_period: None,
        budget_reset_at: None,
        expires_at: None,
        delegated_by: None,
        name: "default".to_owned(),
    }
}

fn capped(cents: i64) -> Grant {
    Grant { budget_cents: Some(cents), budget_remaining_cents: Some(cents), ..anything() }
}

fn scoped(scopes: &[&str]) -> Grant {
    Grant { scopes: list(scopes), ..anything() }
}

fn denied(reason: DenialReason) -> Denial {
    Denial { reason, limit: None, key: Some(Box::new(anything())) }
}

/// A key that has spent all of its 100 cents.
fn exhausted(resets_at: Option<DateTime<Utc>>) -> Denial {
    let key = Grant {
        budget_used_cents: 100,
        budget_used_microcents: 100_000_000,
        budget_remaining_cents: Some(0),
        budget_reset_at: resets_at,
        scopes: list(&["read"]),
        ..capped(100)
    };
    let limit = Limit {
        key_id: key.id.clone(),
        budget_cents: 100,
        used_cents: 100,
        reserved_cents: 0,
        resets_at,
        period: None,
        when_exceeded: None,
        breaker: None,
    };
    Denial { reason: DenialReason::BudgetExceeded, limit: Some(limit), key: Some(Box::new(key)) }
}

fn database_fault() -> Error {
    Error::new(ErrorCode::Database, "connection refused by 10.0.0.1")
}

/// The routes with a client behind them that knows one key.
struct World {
    routes: Routes,
    caller: Result<Verdict, Error>,
    client: Options,
    revokes: Result<bool, Error>,
    /// Why keys cannot be created.
    creates: Option<Error>,
    /// What an explanation says.
    limits: Vec<ExplainedLimit>,
    /// The keys that can be read. The first is the answer to a change.
    keys: Vec<KeyRecord>,
    /// Why keys cannot be changed.
    changes: Option<Error>,
    /// Why keys are not rotated.
    refuses: Option<RotateRefusal>,
    asked: Vec<Asked>,
    /// What is answered to the next count of a signup. Else there is no table to count in.
    counts: Option<Result<Answer, Error>>,
    /// What is answered about more budget.
    increase: Option<Result<Answer, Error>>,
}

/// What the client was asked to write.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Create(NewKey),
    Revoke(Revocation),
    List(KeyFilter),
    Update(KeyId, KeyUpdate),
    Rotate(KeyId, Rotate),
    Increase(Call),
}

impl World {
    fn new(options: RouteOptions) -> Self {
        World {
            routes: Routes::new(&options).unwrap(),
            caller: Ok(Ok(anything())),
            client: Options::default(),
            revokes: Ok(true),
            creates: None,
            limits: Vec::new(),
            keys: Vec::new(),
            changes: None,
            refuses: None,
            increase: None,
            counts: None,
            asked: Vec::new(),
        }
    }

    fn of(caller: Grant) -> Self {
        World { caller: Ok(Ok(caller)), ..World::new(RouteOptions::default()) }
    }

    fn of_denied(denial: Denial) -> Self {
        World { caller: Ok(Err(denial)), ..World::new(RouteOptions::default()) }
    }

    fn signup(&mut self, body: Value) -> Response {
        self.serve(call(Route::Signup, None, Body::Json(body)))
    }

    fn create(&mut self, body: Value) -> Response {
        self.serve(call(Route::Create, Some("Bearer ak_1"), Body::Json(body)))
    }

    fn me(&mut self) -> Response {
        self.serve(call(Route::Me, Some("Bearer ak_1"), Body::Missing))
    }

    fn delete(&mut self, id: &str) -> Response {
        self.serve(call(Route::Delete { id: id.to_owned() }, Some("Bearer ak_1"), Body::Missing))
    }

    /// The loop that every binding has.
    fn serve(&mut self, call: VisitCall) -> Response {
        let at = call.now;
        let (mut exchange, mut next) = Exchange::with_routes(&self.routes, call);
        loop {
            let answer = match next {
                Next::Respond(response) => return response,
                Next::Call(Call::Validate(Caller::Key(token))) => {
                    assert_eq!(token.expose(), "ak_1");
                    self.caller.clone().map(Answer::Validated)
                }
                Next::Call(Call::Create(new)) => {
                    let created = self.insert(&new.spec);
                    self.asked.push(Asked::Create(*new));
                    created
                }
                Next::Call(Call::Revoke(revocation)) => {
                    self.asked.push(Asked::Revoke(revocation));
                    self.revokes.clone().map(Answer::Revoked)
                }
                Next::Call(Call::Explain(id)) => {
                    assert_eq!(id, KeyId::Integer(7));
                    let limits = std::mem::take(&mut self.limits);
                    Ok(Answer::Explained(Box::new(Explanation::of(limits, LEAST_COST))))
                }
                Next::Call(Call::List(filter)) => {
                    self.asked.push(Asked::List(*filter));
                    Ok(Answer::Keys(self.keys.clone()))
                }
                Next::Call(Call::Get(id)) => {
                    let is_it = |key: &&KeyRecord| key.grant.id.to_string() == id.to_string();
                    Ok(Answer::Key(self.keys.iter().find(is_it).cloned().map(Box::new)))
                }
                Next::Call(Call::Update(id, update)) => {
                    self.asked.push(Asked::Update(id, *update));
                    match &self.changes {
                        Some(error) => Err(error.clone()),
                        None => Ok(Answer::Key(self.keys.first().cloned().map(Box::new))),
                    }
                }
                Next::Call(Call::Rotate(Credential::Id(id), rotate)) => {
                    self.asked.push(Asked::Rotate(id.clone(), rotate));
                    let key = RawKey::of_text("ak_rotated");
                    Ok(Answer::Rotated(
                        self.refuses
                            .map_or_else(|| Ok(Rotated { key, id, previous_expires_at: later(60) }), Err),
                    ))
                }
                Next::Call(call) if self.increase.is_some() => {
                    self.asked.push(Asked::Increase(call));
                    self.increase.clone().unwrap()
                }
                Next::Call(Call::CountSignup(_)) => self
                    .counts
                    .take()
                    .unwrap_or_else(|| Err(Error::new(ErrorCode::MigrationRequired, "no table"))),
                other => panic!("{other:?}"),
            };
            next = exchange.answered(answer, at);
        }
    }

    /// As far as a creation goes without a database: the client's own checks are real.
    fn insert(&self, spec: &CreateKey) -> Result<Answer, Error> {
        if let Some(error) = &self.creates {
            return Err(error.clone());
        }
        NewRow::for_key(spec.clone(), &self.client)?;
        Ok(Answer::Created(Box::new(created(spec, "ak_new"))))
    }

    /// The one key that was created.
    fn created(&self) -> &NewKey {
        match self.asked.as_slice() {
            [Asked::Create(new)] => new,
            other => panic!("one creation, not {other:?}"),
        }
    }
}

fn created(spec: &CreateKey, key: &str) -> Created {
    Created {
        key: RawKey::of_text(key),
        id: KeyId::Integer(8),
        scopes: spec.scopes.clone(),
        budget_cents: spec.budget_cents,
        budget_period: spec.budget_period,
        expires_at: None,
    }
}

fn call(route: Route, authorization: Option<&str>, body: Body) -> VisitCall {
    VisitCall {
        route,
        authorization: authorization.map(str::to_owned),
        api_key: None,
        body,
        address: Some("1.2.3.4".to_owned()),
        now: now(),
        is_double: false,
    }
}

#[track_caller]
fn assert_answer(response: &Response, status: u16, body: &str) {
    assert_eq!((response.status, response.body.as_str()), (status, body));
    assert_eq!(response.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(response.fault.is_some(), status == 500, "a fault is logged, and nothing else");
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    assert_eq!(response.header("WWW-Authenticate").is_some(), matches!(status, 401 | 403));
}

fn error_of(response: &Response) -> String {
    let body: Value = serde_json::from_str(&response.body).unwrap();
    body["error"].as_str().unwrap().to_owned()
}
