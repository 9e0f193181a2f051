//! Admission: from the head of a request to the end of its reservation. A door reports what happened, and does what
//! [`Next`] says.
//!
//! ```text
//! start ─ Verify ─ verified ─┐
//!   └────────────────────────┴─ Estimate ─ estimated ─ Call ─ answered ─ Pass ─ ended ─ Price ─ priced ─ Call ─ answered ─ Done
//!                                                         (any of them may be Respond instead)
//! ```

use chrono::{DateTime, Utc};

use super::bearer::{Credentials, Token, token};
use super::call::{Call, Caller};
use super::clerk::{Clerk, Verification};
use super::ending::{Ending, Price, worth};
use super::guard::{Guard, Pass};
use super::response::Response;
use crate::budget::money::Cost;
use crate::budget::reservation::{ReservationId, Reserve};
use crate::engine::Answer;
use crate::error::{Error, ErrorCode};
use crate::id::KeyId;
use crate::key::grant::DenialReason;

/// What the door does next.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "every door must do everything")]
#[expect(clippy::large_enum_variant, reason = "taken apart at once")]
pub enum Next {
    /// Ask Clerk whose token this is, and go on with [`Admission::verified`].
    Verify(Token),
    /// Ask the application what the request may cost, and go on with [`Admission::estimated`].
    Estimate,
    /// Make the call, and go on with [`Admission::answered`].
    Call(Call),
    /// Send the response. The request is served.
    Respond(Response),
    /// Run the handler, and go on with [`Admission::ended`] when its response has ended.
    Pass(Pass),
    /// Ask the application what the request did cost, and go on with [`Admission::priced`].
    Price,
    /// Nothing more. A message is for the log: nobody waits for it any more.
    Done(Option<String>),
}

/// A request on its way. Make one with [`Guard::admission`].
#[derive(Debug)]
pub struct Admission {
    guard: Guard,
    state: State,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a request")]
enum State {
    Begun,
    Verifying(Clerk),
    Estimating(Caller),
    /// Looked up, with what is to be held. A subject that is seen for the first time gets its row.
    LookingUp {
        caller: Caller,
        hold: Option<Cost>,
        is_new: bool,
    },
    /// Looked up, and holding in a call of its own: of a double, or where several scopes are asked for.
    Holding {
        caller: Caller,
        cost: Cost,
        pass: Pass,
    },
    Provisioning {
        subject: String,
        hold: Option<Cost>,
    },
    Running(Admitted),
    Pricing(Admitted, Ending),
    /// With what the log says if it fails, and whether `cost` failed before.
    Recording {
        what: String,
        failed_price: Option<String>,
    },
    Over,
}

/// A request that passed.
#[derive(Debug)]
struct Admitted {
    caller: Caller,
    key_id: KeyId,
    held: Option<(ReservationId, Cost)>,
    /// What the handler said that it costs.
    said: Option<Cost>,
}

impl Admission {
    pub(super) fn new(guard: Guard) -> Self {
        Admission { guard, state: State::Begun }
    }

    /// Begins with what the request presents: its `Authorization` header, or more [`Credentials`].
    pub fn start<'a>(&mut self, credentials: impl Into<Credentials<'a>>) -> Next {
        let credentials = credentials.into();
        match self.guard.clerk {
            None => match token(credentials, "Missing API key") {
                Ok(token) => self.known(Caller::Key(token)),
                Err(response) => self.respond(response),
            },
            Some(clerk) => match clerk.begin(credentials) {
                Ok(token) => {
                    self.state = State::Verifying(clerk);
                    Next::Verify(token)
                }
                Err(response) => self.respond(response),
            },
        }
    }

    /// Goes on with what Clerk said of the token.
    pub fn verified(&mut self, verification: Verification) -> Next {
        let State::Verifying(clerk) = self.state else { return self.misuse("verified") };
        match clerk.subject(verification) {
            Ok(subject) => self.known(Caller::Subject(subject)),
            Err(response) => self.respond(response),
        }
    }

    fn known(&mut self, caller: Caller) -> Next {
        if self.guard.holds {
            self.state = State::Estimating(caller);
            return Next::Estimate;
        }
        self.look_up(caller, None, false)
    }

    /// Goes on with what the request may cost at most.
    pub fn estimated(&mut self, estimate: Price) -> Next {
        let State::Estimating(caller) = std::mem::replace(&mut self.state, State::Over) else {
            return self.misuse("estimated");
        };
        let why = match estimate {
            Price::Amount(cost) => return self.look_up(caller, Some(cost), false),
            Price::Nothing => "no estimate was given".to_owned(),
            Price::Failed(why) => why,
        };
        // An estimate that cannot be read is this side's fault. Nobody passes without a hold.
        let error = Error::new(ErrorCode::InvalidBudget, format!("cannot reserve: {why}"));
        self.respond(Response::unavailable(&error))
    }

    /// One call before the handler: a look-up, or a hold that is one too.
    fn look_up(&mut self, caller: Caller, hold: Option<Cost>, is_new: bool) -> Next {
        let call = match hold {
            Some(cost) if self.guard.holds_at_once() => Call::Reserve(caller.clone(), self.hold(cost)),
            _ => Call::Validate(caller.clone()),
        };
        self.state = State::LookingUp { caller, hold, is_new };
        Next::Call(call)
    }

    /// A double has a rule of its own, which says whether the caller that it is about to answer may do the scope.
    pub fn scope_said(&mut self, may: bool) {
        self.guard.scope_said = Some(may);
    }

    fn hold(&self, cost: Cost) -> Reserve {
        let mut reserve = Reserve::new(cost);
        reserve.ttl = self.guard.ttl;
        reserve.if_expired = self.guard.if_expired;
        reserve.scope = self.guard.scopes.first().cloned();
        reserve
    }

    /// Goes on with what the client answered.
    pub fn answered(&mut self, answer: Result<Answer, Error>, now: DateTime<Utc>) -> Next {
        match std::mem::replace(&mut self.state, State::Over) {
            State::LookingUp { caller, hold, is_new } => self.looked_up(caller, hold, is_new, answer, now),
            State::Holding { caller, cost, pass } => match answer {
                Ok(Answer::Reserved(Ok(mut reservation))) => {
                    reservation.grant = Box::new(pass.grant.clone());
                    self.admit(caller, Some(cost), Pass { reservation: Some(reservation), ..pass })
                }
                Ok(Answer::Reserved(refused)) => match self.guard.decide_held(refused, now) {
                    Ok(_) => self.misuse("answered"),
                    Err(response) => self.respond(response),
                },
                Err(error) => self.respond(Response::unavailable(&error)),
                Ok(_) => self.misuse("answered"),
            },
            State::Provisioning { subject, hold } => match answer {
                Ok(_) => self.look_up(Caller::Subject(subject), hold, true),
                Err(error) => self.respond(Response::unavailable(&error)),
            },
            State::Recording { what, failed_price } => {
                let problem = match answer {
                    Err(error) => Some(format!("{}: {}", error.code(), error.message())),
                    Ok(Answer::Settled(Err(reason))) => Some(reason.to_string()),
                    Ok(Answer::Released(Err(reason))) => Some(reason.to_string()),
                    Ok(Answer::Charged(Err(reason))) => Some(reason.to_string()),
                    Ok(_) => None,
                };
                let problem = problem.map(|problem| format!("{what} is not recorded: {problem}"));
                let lines: Vec<String> = failed_price.into_iter().chain(problem).collect();
                Next::Done((!lines.is_empty()).then(|| lines.join("; ")))
            }
            _ => self.misuse("answered"),
        }
    }

    fn looked_up(
        &mut self,
        caller: Caller,
        hold: Option<Cost>,
        is_new: bool,
        answer: Result<Answer, Error>,
        now: DateTime<Utc>,
    ) -> Next {
        let unknown = matches!(
            &answer,
            Ok(Answer::Validated(Err(denial))) if denial.reason == DenialReason::Invalid
        ) || matches!(
            &answer,
            Ok(Answer::Reserved(Err(refusal))) if refusal.reason == DenialReason::Invalid.into()
        );
        if let (Caller::Subject(subject), true, false) = (&caller, unknown, is_new) {
            let subject = subject.clone();
            self.state = State::Provisioning { subject: subject.clone(), hold };
            return Next::Call(Call::EnsureSubject(subject));
        }
        let decided = match answer {
            Err(error) => Err(Response::unavailable(&error)),
            Ok(Answer::Validated(verdict)) => self.guard.decide(verdict, now),
            Ok(Answer::Reserved(reserved)) => self.guard.decide_held(reserved, now),
            Ok(_) => return self.misuse("answered"),
        };
        match (decided, hold) {
            (Ok(pass), Some(cost)) if pass.reservation.is_none() => {
                let call = Call::Reserve(caller.clone(), self.hold(cost));
                self.state = State::Holding { caller, cost, pass };
                Next::Call(call)
            }
            (Ok(pass), hold) => self.admit(caller, hold, pass),
            (Err(response), _) => self.respond(response),
        }
    }

    fn admit(&mut self, caller: Caller, hold: Option<Cost>, pass: Pass) -> Next {
        let held = pass.reservation.as_ref().map(|held| held.id.clone()).zip(hold);
        self.state = State::Running(Admitted { caller, key_id: pass.grant.id.clone(), held, said: None });
        Next::Pass(pass)
    }

    /// The handler says what the request costs, so that nobody is asked when it has ended. What it says adds up.
    ///
    /// # Errors
    /// `invalid_text` if that is no amount, or if no request is being served any more.
    pub fn charged(&mut self, amount: &Price) -> Result<(), Error> {
        let refused = |message: &str| Err(Error::new(ErrorCode::InvalidText, message));
        match (&mut self.state, amount) {
            (State::Running(admitted), Price::Amount(cost)) => {
                admitted.said = Some(admitted.said.unwrap_or(Cost::Free).plus(*cost));
                Ok(())
            }
            (State::Running(_), Price::Failed(why)) => refused(why),
            (State::Running(_), Price::Nothing) => refused("nothing was said; name an amount"),
            _ => refused("the request has ended: it is charged no more"),
        }
    }

    /// Goes on with how the request ended.
    pub fn ended(&mut self, ending: Ending) -> Next {
        let State::Running(admitted) = std::mem::replace(&mut self.state, State::Over) else {
            return self.misuse("ended");
        };
        if let Some(said) = admitted.said {
            return self.record(admitted, ending, Price::Amount(said));
        }
        if self.guard.prices && ending.ran() {
            self.state = State::Pricing(admitted, ending);
            return Next::Price;
        }
        self.record(admitted, ending, Price::Nothing)
    }

    /// Goes on with what the application says that the request did cost.
    pub fn priced(&mut self, price: Price) -> Next {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Pricing(admitted, ending) => self.record(admitted, ending, price),
            _ => self.misuse("priced"),
        }
    }

    fn record(&mut self, admitted: Admitted, ending: Ending, price: Price) -> Next {
        let Admitted { caller, key_id, held, said: _ } = admitted;
        let estimate = held.as_ref().map(|(_, cost)| *cost);
        let amount = worth(&ending, &price, estimate.unwrap_or(Cost::Free), self.guard.bill_errors);
        let shown = match amount {
            Cost::Microcents(amount) => format!("{amount} micro-cents"),
            Cost::Free | Cost::Invalid => "nothing".to_owned(),
        };
        let reservation = held.as_ref().map(|(id, _)| format!(", reservation {id}")).unwrap_or_default();
        let what = format!("what a request cost ({shown}, key {key_id}{reservation})");
        let failed_price = match &price {
            Price::Failed(why) => Some(format!("cost failed, the estimate counts: {what}: {why}")),
            Price::Amount(_) | Price::Nothing => None,
        };
        let call = match (held, amount) {
            (Some((id, _)), Cost::Microcents(_)) => Call::Settle(id, amount),
            // A cost that the application says and that is nothing ends the reservation as a settlement.
            (Some((id, _)), Cost::Free) if matches!(price, Price::Amount(_)) => Call::Settle(id, Cost::Free),
            (Some((id, _)), Cost::Free | Cost::Invalid) => Call::Release(id),
            (None, Cost::Microcents(_)) => Call::Charge(caller, amount, key_id),
            (None, Cost::Free | Cost::Invalid) => return Next::Done(failed_price),
        };
        self.state = State::Recording { what, failed_price };
        Next::Call(call)
    }

    fn respond(&mut self, response: Response) -> Next {
        self.state = State::Over;
        Next::Respond(response)
    }

    /// A door that reports what cannot have happened. Nobody passes by it.
    fn misuse(&mut self, event: &str) -> Next {
        self.state = State::Over;
        let message = format!("a door reported {event:?} out of turn");
        Next::Respond(Response::unavailable(&Error::new(ErrorCode::UnexpectedResponse, message)))
    }
}
