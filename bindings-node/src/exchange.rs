//! Requests at a door: what a middleware carries between the application, the client and the core.

use std::cell::RefCell;
use std::rc::Rc;

use agentkey::engine::{Answer, Request, Reserved};
use agentkey::http::{self, Call, Clerk, Credentials, Ending, Next, Price, Routed, Verification};
use chrono::{DateTime, Utc};
use napi_derive::napi;

use crate::error::{Result, named, thrown};

/// A response to send.
#[napi(object)]
pub struct NativeResponse {
    /// The status code.
    pub status: u16,
    /// Names and values.
    #[napi(ts_type = "[string, string][]")]
    pub headers: Vec<Vec<String>>,
    /// JSON.
    pub body: String,
    /// What failed on this side, for the log.
    pub fault: Option<String>,
}

/// What the door does next.
#[napi(object)]
pub struct NativeNext {
    /// Which of them.
    #[napi(ts_type = "'verify' | 'provision' | 'estimate' | 'call' | 'respond' | 'pass' | 'price' | 'done'")]
    pub kind: String,
    /// The token to `verify`, or the subject whose row is to be made (`provision`).
    pub token: Option<String>,
    /// To send.
    pub response: Option<NativeResponse>,
    /// The caller's key, as JSON, of one who may pass.
    pub grant: Option<String>,
    /// For the handler's response.
    #[napi(ts_type = "[string, string][]")]
    pub headers: Option<Vec<Vec<String>>>,
    /// What is held for the request, as JSON.
    pub reservation: Option<String>,
    /// For the log.
    pub message: Option<String>,
}

/// How a request ended.
#[napi(object)]
pub struct NativeEnding {
    /// Whether the request was handed on.
    pub began: bool,
    /// Whether the server found a route for it.
    pub routed: bool,
    /// The status that was sent.
    pub status: Option<u16>,
    /// Whether the whole response was sent.
    pub completed: bool,
}

/// What Clerk said of a token.
#[napi(object)]
pub struct NativeVerification {
    /// Whose it is.
    pub subject: Option<String>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether its time is over.
    pub expired: bool,
    /// Why it could not be verified.
    pub failure: Option<String>,
    /// The status of that answer.
    pub status: Option<u16>,
}

/// What a guard requires.
#[napi(object)]
pub struct NativeGuardOptions {
    /// The scope that a key must have.
    pub scope: Option<String>,
    /// Whose credentials: an agentkey, or one of Clerk's.
    #[napi(ts_type = "'m2m' | 'apiKey'")]
    pub clerk: Option<String>,
    /// Whether an estimate is held.
    pub holds: bool,
    /// Whether the application says what a request did cost.
    pub prices: bool,
    /// How long an estimate is held at most.
    pub ttl: Option<String>,
    /// What an estimate is worth that nobody settles in time: `release` or `settle`.
    pub if_expired: Option<String>,
    /// Whether errors are billed.
    pub bill_errors: bool,
    /// Whether the responses tell the budget.
    pub budget_headers: bool,
    /// What a request without budget is answered.
    pub exceeded_status: Option<u32>,
    /// A header that may hold the key.
    pub api_key_header: Option<String>,
}

/// The door before a handler.
#[napi]
pub struct Guard {
    guard: http::Guard,
    /// The name of the header that may hold the key, in lower case.
    #[napi(readonly)]
    pub api_key_header: Option<String>,
}

#[napi]
impl Guard {
    /// Checks the options.
    #[napi(constructor)]
    pub fn new(options: NativeGuardOptions) -> Result<Self> {
        let mut guard = http::Guard::new()
            .holds(options.holds)
            .prices(options.prices)
            .bill_errors(options.bill_errors)
            .budget_headers(options.budget_headers);
        if let Some(scope) = options.scope {
            guard = guard.scope(scope);
        }
        if let Some(status) = options.exceeded_status {
            guard = guard.exceeded_status(status.try_into().unwrap_or(u16::MAX)).map_err(thrown)?;
        }
        if let Some(worth) = options.if_expired {
            guard = guard.if_expired(worth.parse().map_err(thrown)?);
        }
        if let Some(ttl) = options.ttl {
            guard = guard.ttl(&ttl).map_err(thrown)?;
        }
        if let Some(clerk) = options.clerk {
            guard = guard.clerk(if clerk == "m2m" { Clerk::M2m } else { Clerk::ApiKey });
        }
        let api_key_header = options.api_key_header.map(|name| http::api_key_header(&name)).transpose();
        Ok(Guard { guard, api_key_header: api_key_header.map_err(thrown)? })
    }

    /// Begins a request. `is_double`: the client is an application's own double.
    #[napi]
    pub fn begin(&self, authorization: Option<String>, api_key: Option<String>, is_double: bool) -> Exchange {
        let guard = self.guard.clone().double(is_double);
        let credentials = Credentials::new(authorization.as_deref()).api_key(api_key.as_deref());
        Exchange::new(http::Exchange::with_guard(&guard, credentials))
    }
}

/// A request on its way. Clones of it in Rust are the same request.
#[napi]
pub struct Exchange(Rc<RefCell<State>>);

struct State {
    exchange: http::Exchange,
    next: Next,
}

#[napi]
impl Exchange {
    /// What to do now.
    #[napi]
    pub fn next(&self) -> NativeNext {
        native(&self.0.borrow().next)
    }

    /// The call that is to be made, as a method and its arguments in JSON, for a double.
    #[napi]
    pub fn call(&self) -> Option<String> {
        match &self.0.borrow().next {
            Next::Call(call) => Some(call.json()),
            _ => None,
        }
    }

    /// Goes on with what a method answered, as JSON.
    #[napi]
    pub fn told(&self, json: String) {
        self.go(|exchange| exchange.told(Ok(&json), Utc::now()));
    }

    /// What a double's own rule says of the scope, before what `validate` answered is told.
    #[napi]
    pub fn scope_said(&self, may: bool) {
        self.0.borrow_mut().exchange.scope_said(may);
    }

    /// Goes on with why a method failed.
    #[napi]
    pub fn failed(&self, code: Option<String>, message: String) {
        let error = named(code.as_deref(), message);
        self.go(|exchange| exchange.told(Err(error), Utc::now()));
    }

    /// Goes on with what Clerk said.
    #[napi]
    pub fn verified(&self, said: NativeVerification) {
        let verification = match said.failure {
            Some(message) => Verification::Failed { status: said.status, message },
            None => {
                Verification::Known { subject: said.subject, revoked: said.revoked, expired: said.expired }
            }
        };
        self.go(|exchange| exchange.verified(verification));
    }

    /// Goes on with what the request may cost at most, as JSON.
    #[napi]
    pub fn estimated(&self, json: Option<String>) {
        self.go(|exchange| exchange.estimated(Price::read(json.as_deref())));
    }

    /// The handler says what the request costs, as JSON.
    #[napi]
    pub fn charge(&self, json: Option<String>) -> Result<()> {
        self.0.borrow_mut().exchange.charged(&Price::read(json.as_deref())).map_err(thrown)
    }

    /// Goes on with how the request ended.
    #[napi]
    pub fn ended(&self, how: NativeEnding) {
        let mut ending = match how.status {
            Some(status) => Ending::sent(status),
            None => Ending::never_ran(),
        }
        .routed(if how.routed { Routed::Handler } else { Routed::Nowhere });
        ending.began = how.began;
        if !how.completed {
            ending = ending.left();
        }
        self.go(|exchange| exchange.ended(ending));
    }

    /// Goes on with what the application says that the request did cost, as JSON.
    #[napi]
    pub fn priced(&self, json: Option<String>) {
        self.go(|exchange| exchange.priced(Price::read(json.as_deref())));
    }

    /// Goes on with why the application could not say it.
    #[napi]
    pub fn price_failed(&self, why: String) {
        self.go(|exchange| exchange.priced(Price::Failed(why)));
    }
}

impl Exchange {
    pub(crate) fn new((exchange, next): (http::Exchange, Next)) -> Self {
        Exchange(Rc::new(RefCell::new(State { exchange, next })))
    }

    pub(crate) fn share(&self) -> Self {
        Exchange(Rc::clone(&self.0))
    }

    /// The call that is to be made, for our own client.
    pub(crate) fn request(&self) -> Result<Request> {
        let request = match &self.0.borrow().next {
            Next::Call(call) => call.request(),
            _ => None,
        };
        request.ok_or_else(|| thrown(named(Some("unexpected_response"), "no call is to be made".to_owned())))
    }

    /// Goes on with the client's answer. What is left for the caller's promise is that it has come, or the error.
    pub(crate) fn answered(
        &self,
        answer: &std::result::Result<Answer, agentkey::Error>,
        now: DateTime<Utc>,
    ) -> std::result::Result<Answer, agentkey::Error> {
        self.go(|exchange| exchange.answered(answer.clone(), now));
        answer.as_ref().map(|_| Answer::Migrated).map_err(Clone::clone)
    }

    fn go(&self, event: impl FnOnce(&mut http::Exchange) -> Next) {
        let mut state = self.0.borrow_mut();
        let next = event(&mut state.exchange);
        state.next = next;
    }
}

fn native(next: &Next) -> NativeNext {
    let nothing = |kind: &str| NativeNext {
        kind: kind.to_owned(),
        token: None,
        response: None,
        grant: None,
        headers: None,
        reservation: None,
        message: None,
    };
    match next {
        Next::Verify(token) => NativeNext { token: Some(token.expose().to_owned()), ..nothing("verify") },
        Next::Estimate => nothing("estimate"),
        Next::Call(Call::EnsureSubject(subject)) => {
            NativeNext { token: Some(subject.clone()), ..nothing("provision") }
        }
        Next::Call(_) => nothing("call"),
        Next::Respond(response) => NativeNext { response: Some(response.into()), ..nothing("respond") },
        Next::Pass(pass) => NativeNext {
            grant: Some(Answer::Validated(Ok(pass.grant.clone())).json(false)),
            headers: Some(headers(&pass.headers)),
            reservation: pass
                .reservation
                .clone()
                .map(|held| Answer::Reserved(Reserved::Ok(held)).json(false)),
            ..nothing("pass")
        },
        Next::Price => nothing("price"),
        Next::Done(message) => NativeNext { message: message.clone(), ..nothing("done") },
    }
}

/// What is answered when this side fails in a way that nobody foresaw.
#[napi]
pub fn unexpected() -> NativeResponse {
    (&http::Response::unexpected("unexpected")).into()
}

impl From<&http::Response> for NativeResponse {
    fn from(response: &http::Response) -> Self {
        NativeResponse {
            status: response.status,
            headers: headers(&response.headers),
            body: response.body.clone(),
            fault: response.fault.clone(),
        }
    }
}

fn headers(headers: &[http::Header]) -> Vec<Vec<String>> {
    headers.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone().into_owned()]).collect()
}
