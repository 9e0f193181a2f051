//! One request at one door, whichever door it is.

use chrono::{DateTime, Utc};

use super::admission::{Admission, Next};
use super::bearer::Credentials;
use super::call::Call;
use super::clerk::Verification;
use super::ending::{Ending, Price};
use super::guard::Guard;
use super::routes::{Routes, VisitCall};
use super::visit::Visit;
use crate::engine::Answer;
use crate::error::Error;

/// A request on its way: [`Admission`] to a handler, or a visit to the self-serve [`Routes`]. A binding carries what
/// [`Next`] says, and reports what happened.
#[derive(Debug)]
pub struct Exchange {
    door: Door,
    /// What was asked of the client, until it has answered.
    call: Option<Call>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a request")]
enum Door {
    Guard(Admission),
    Routes(Visit),
}

impl Exchange {
    /// A request to a guarded handler, with its `Authorization` header, or more [`Credentials`].
    pub fn with_guard<'a>(guard: &Guard, credentials: impl Into<Credentials<'a>>) -> (Self, Next) {
        let mut admission = guard.admission();
        let next = admission.start(credentials);
        Exchange { door: Door::Guard(admission), call: None }.keeping(next)
    }

    /// A request to the routes.
    pub fn with_routes(routes: &Routes, call: VisitCall) -> (Self, Next) {
        let (visit, next) = routes.visit(call);
        Exchange { door: Door::Routes(visit), call: None }.keeping(next)
    }

    fn keeping(mut self, next: Next) -> (Self, Next) {
        self.keep(&next);
        (self, next)
    }

    fn keep(&mut self, next: &Next) {
        self.call = match next {
            Next::Call(call) => Some(call.clone()),
            _ => None,
        };
    }

    fn go(&mut self, event: impl FnOnce(&mut Admission) -> Next) -> Next {
        let next = match &mut self.door {
            Door::Guard(admission) => event(admission),
            Door::Routes(_) => Next::Done(None),
        };
        self.keep(&next);
        next
    }

    /// See [`Admission::verified`].
    pub fn verified(&mut self, verification: Verification) -> Next {
        self.go(|admission| admission.verified(verification))
    }

    /// See [`Admission::estimated`].
    pub fn estimated(&mut self, estimate: Price) -> Next {
        self.go(|admission| admission.estimated(estimate))
    }

    /// See [`Admission::scope_said`].
    pub fn scope_said(&mut self, may: bool) {
        if let Door::Guard(admission) = &mut self.door {
            admission.scope_said(may);
        }
    }

    /// See [`Admission::charged`].
    ///
    /// # Errors
    /// As there; a visit to the routes cannot be charged.
    pub fn charged(&mut self, amount: &Price) -> Result<(), Error> {
        match &mut self.door {
            Door::Guard(admission) => admission.charged(amount),
            Door::Routes(_) => Err(Error::unexpected("a charge of a visit")),
        }
    }

    /// See [`Admission::ended`].
    pub fn ended(&mut self, ending: Ending) -> Next {
        self.go(|admission| admission.ended(ending))
    }

    /// See [`Admission::priced`].
    pub fn priced(&mut self, price: Price) -> Next {
        self.go(|admission| admission.priced(price))
    }

    /// Goes on with what our own client answered.
    pub fn answered(&mut self, answer: Result<Answer, Error>, now: DateTime<Utc>) -> Next {
        let next = match &mut self.door {
            Door::Guard(admission) => admission.answered(answer, now),
            Door::Routes(visit) => visit.answered(answer, now),
        };
        self.keep(&next);
        next
    }

    /// Goes on with what a method of a double answered, as JSON.
    pub fn told(&mut self, json: Result<&str, Error>, now: DateTime<Utc>) -> Next {
        let answer = match (self.call.take(), json) {
            // What it answers is the body of the response, as it stands.
            (Some(Call::Create(_)), Ok(json)) => return Next::Respond(Routes::created(json.to_owned())),
            (Some(call), Ok(json)) => call.read(json),
            (None, Ok(_)) => Err(Error::unexpected("an answer that nobody waits for")),
            (_, Err(error)) => Err(error),
        };
        self.answered(answer, now)
    }
}
