//! A request that passed, until its end is recorded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::http::request::Parts;
use ::http::{Extensions, StatusCode, response};
use tokio::runtime::Handle;

use super::asks::RequestEnd;
use super::carry::now;
use super::door::{Door, Passed};
use crate::client::{EndTicket, Ends, OpenRequest};
use crate::engine::Reservation;
use crate::error::{Error, ErrorCode};
use crate::http::{Ending, Exchange, Next, Pass, Price, Routed};
use crate::key::grant::Grant;

pub(super) struct Admitted {
    door: Arc<Door>,
    pub(super) grant: Grant,
    pub(super) reservation: Option<Reservation>,
    /// Its head, for whoever says what it did cost.
    request: Option<Arc<Parts>>,
    /// Where its end is recorded if the client has no runtime of its own.
    runtime: Option<Handle>,
    state: Mutex<State>,
}

struct State {
    exchange: Exchange,
    stage: Stage,
    routed: Routed,
    /// Open until its end is recorded. None of a request whose end is worth nothing.
    ticket: Option<EndTicket>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Pricing,
    Recording,
    Over,
}

const CLOSED: &str = "the client was closed first";
const STOPPED: &str = "the runtime stopped first";

impl Admitted {
    pub(super) fn new(
        door: &Arc<Door>,
        Passed { exchange, pass, ticket }: Passed,
        request: Option<Arc<Parts>>,
        routed: Routed,
    ) -> Arc<Self> {
        let state = State { exchange, stage: Stage::Running, routed, ticket: None };
        let runtime = Handle::try_current().ok();
        let Pass { grant, reservation, .. } = pass;
        let (door, state) = (Arc::clone(door), Mutex::new(state));
        let admitted = Arc::new(Admitted { door, grant, reservation, request, runtime, state });
        if let Some(ticket) = ticket {
            admitted.open(&mut admitted.state(), ticket);
        }
        admitted
    }

    fn open(self: &Arc<Self>, state: &mut State, ticket: EndTicket) {
        let weak = Arc::downgrade(self);
        ticket.pass(weak);
        state.ticket = Some(ticket);
    }

    /// The handler says what its request costs.
    pub(super) fn charge(self: &Arc<Self>, amount: &Price) -> Result<(), Error> {
        let mut state = self.state();
        state.exchange.charged(amount)?;
        // Whoever says that did run.
        state.routed = Routed::Handler;
        if state.ticket.is_none() {
            let ticket = self.ends().begin();
            self.open(&mut state, ticket);
        }
        Ok(())
    }

    /// The routes led the request at least as far.
    #[cfg(feature = "axum")]
    pub(super) fn reached(&self, routed: Routed) {
        let mut state = self.state();
        if state.routed == Routed::Nowhere {
            state.routed = routed;
        }
    }

    /// The request has ended: what that is worth is recorded in a task of its own.
    pub(super) fn end(self: &Arc<Self>, ending: Ending, response: Option<Extensions>) {
        let next = {
            let mut state = self.state();
            if state.stage != Stage::Running {
                return;
            }
            let ending = Ending { routed: Some(state.routed), ..ending };
            state.take(|exchange| exchange.ended(ending))
        };
        if self.finish(&next) {
            return;
        }
        let Ending { status, completed, .. } = ending;
        let recording = Recording(Arc::clone(self));
        let record =
            async move { recording.record(next, status, completed, response.unwrap_or_default()).await };
        // Outside of any runtime it is dropped, which reports it.
        match self.door.ak.runtime().or_else(|| self.runtime.clone()) {
            Some(runtime) => drop(runtime.spawn(record)),
            None => drop(record),
        }
    }

    /// Whether nothing is left to do, which is reported.
    fn finish(&self, next: &Next) -> bool {
        let message = match next {
            Next::Price | Next::Call(_) => return false,
            Next::Done(message) => message.clone(),
            Next::Respond(_) | Next::Pass(_) | Next::Verify(_) | Next::Estimate => {
                Some("what a request cost is not recorded: it took a turn that it cannot take".to_owned())
            }
        };
        if let Some(message) = message {
            self.ends().report(&message);
        }
        let ticket = {
            let mut state = self.state();
            state.stage = Stage::Over;
            state.ticket.take()
        };
        drop(ticket);
        true
    }

    /// Goes through what is left of its end without the application and the database, and reports it.
    fn give_up(&self, why: &str) {
        let closed = || Err(Error::new(ErrorCode::Closed, why));
        // At once: whoever else comes here finds it over.
        let next = {
            let mut state = self.state();
            let routed = Some(state.routed);
            let mut next = match state.stage {
                Stage::Running => {
                    let ending = Ending { began: true, routed, ..Ending::never_ran() };
                    state.take(|exchange| exchange.ended(ending))
                }
                Stage::Pricing => Next::Price,
                Stage::Recording => state.take(|exchange| exchange.answered(closed(), now())),
                Stage::Over => return,
            };
            loop {
                next = match next {
                    Next::Price => state.take(|exchange| exchange.priced(Price::Failed(why.to_owned()))),
                    Next::Call(_) => state.take(|exchange| exchange.answered(closed(), now())),
                    over => break over,
                }
            }
        };
        self.finish(&next);
    }

    fn ends(&self) -> &Arc<Ends> {
        self.door.ak.ends()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, event: impl FnOnce(&mut Exchange) -> Next) -> Next {
        let next = event(&mut self.exchange);
        self.stage = match next {
            Next::Price => Stage::Pricing,
            Next::Call(_) => Stage::Recording,
            _ => Stage::Over,
        };
        next
    }
}

impl OpenRequest for Admitted {
    fn abandon(&self) {
        // What is being recorded has its call, which goes on.
        if self.state().stage != Stage::Recording {
            self.give_up(CLOSED);
        }
    }
}

/// The task that records an end. If it is dropped, its runtime stops: that is reported.
struct Recording(Arc<Admitted>);

impl Recording {
    async fn record(self, mut next: Next, status: Option<u16>, completed: bool, response: Extensions) {
        let admitted = &self.0;
        let mut response = Some(response);
        while !admitted.finish(&next) {
            next = match &next {
                Next::Price => {
                    let price = admitted.price(status, completed, response.take().unwrap_or_default()).await;
                    let mut state = admitted.state();
                    // The client may have been closed meanwhile, which reported it.
                    if state.stage != Stage::Pricing {
                        return;
                    }
                    state.take(|exchange| exchange.priced(price))
                }
                Next::Call(call) => {
                    let answer = admitted.door.call(call).await;
                    let mut state = admitted.state();
                    if state.stage != Stage::Recording {
                        return;
                    }
                    state.take(|exchange| exchange.answered(answer, now()))
                }
                _ => return,
            };
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.0.give_up(STOPPED);
    }
}

impl Admitted {
    async fn price(&self, status: Option<u16>, completed: bool, response: Extensions) -> Price {
        let (Some(price), Some(request)) = (&self.door.price, &self.request) else { return Price::Nothing };
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let (grant, reservation) = (self.grant.clone(), self.reservation.clone());
        let request = Arc::clone(request);
        price.ask(&RequestEnd { status, completed, grant, reservation, request, response }).await
    }
}

/// Ends a request when it is dropped, as far as it came by then.
pub(super) struct End {
    admitted: Arc<Admitted>,
    ending: Ending,
    response: Option<Extensions>,
}

impl End {
    pub(super) fn new(admitted: Arc<Admitted>) -> Self {
        End { admitted, ending: Ending::never_ran(), response: None }
    }

    /// The handler is called.
    pub(super) fn begin(&mut self) {
        self.ending.began = true;
    }

    /// It failed: with an error, or in a panic.
    pub(super) fn threw(&mut self) {
        self.ending.threw = true;
    }

    /// It answered.
    pub(super) fn sent(&mut self, response: &response::Parts) {
        self.ending.status = Some(response.status.as_u16());
        if self.admitted.request.is_some() {
            self.response = Some(response.extensions.clone());
        }
    }

    /// The response is whole.
    pub(super) fn completed(&mut self) {
        self.ending.completed = true;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.admitted.end(self.ending, self.response.take());
    }
}
