//! From the head of a request to its response.

use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::request::Parts;
use ::http::{HeaderName, Method, Request, Response, StatusCode};
use tower_service::Service;

use super::admitted::{Admitted, End};
use super::asks::{Question, RequestEnd, unwound};
use super::body::ResponseBody;
use super::carry::{Presented, add, now, response};
use super::grant::CallerGrant;
use crate::AgentKey;
use crate::client::EndTicket;
use crate::error::{Error, ErrorCode};
use crate::http::{self, Ending, Exchange, Guard, Header, Next, Pass, Routed};

/// What all requests of a layer share.
pub(super) struct Door {
    pub(super) ak: AgentKey,
    pub(super) guard: Guard,
    pub(super) estimate: Option<Question<Parts>>,
    pub(super) price: Option<Question<RequestEnd>>,
    pub(super) api_key_header: Option<HeaderName>,
}

/// A request that may pass.
pub(super) struct Passed {
    pub(super) exchange: Exchange,
    pub(super) pass: Pass,
    pub(super) ticket: Option<EndTicket>,
}

impl Door {
    pub(super) async fn serve<S, A, B>(
        self: Arc<Self>,
        mut service: S,
        request: Request<A>,
    ) -> Result<Response<ResponseBody<B>>, S::Error>
    where
        S: Service<Request<A>, Response = Response<B>>,
        B: http_body::Body,
    {
        let (mut parts, body) = request.into_parts();
        let (grant, headers, mut end) = match self.admit(&parts).await {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(response(refusal).map(ResponseBody::refusal)),
        };
        let method = parts.method.clone();
        parts.extensions.insert(grant.clone());
        end.begin();
        let outcome = unwound(|| service.call(Request::from_parts(parts, body))).await;
        let (mut parts, body) = match outcome {
            Ok(Ok(response)) => response.into_parts(),
            Ok(Err(error)) => {
                end.threw();
                return Err(error);
            }
            Err(panic) => {
                end.threw();
                drop(end);
                resume_unwind(panic)
            }
        };
        end.sent(&parts);
        add(&mut parts.headers, headers);
        if is_upgrade(&method, parts.status) {
            // A connection of its own, which ends when its handler lets go of the grant.
            grant.keep(end);
            return Ok(Response::from_parts(parts, ResponseBody::unwatched(body)));
        }
        let body = ResponseBody::watched(body, &method, &parts, end);
        Ok(Response::from_parts(parts, body))
    }

    async fn admit(
        self: &Arc<Self>,
        parts: &Parts,
    ) -> Result<(CallerGrant, Vec<Header>, End), http::Response> {
        let presented = Presented::of(&parts.headers, self.api_key_header.as_ref());
        let (mut exchange, mut next) = Exchange::with_guard(&self.guard, presented.credentials());
        drop(presented);
        if let (Next::Estimate, Some(estimate)) = (&next, &self.estimate) {
            next = exchange.estimated(estimate.ask(parts).await);
        }
        let request = self.price.as_ref().map(|_| Arc::new(parts.clone()));
        let routed = routed(parts);
        let asking = Box::pin(Arc::clone(self).ask(exchange, next));
        let mut passed = Lasting { door: Arc::clone(self), asking: Some(asking) }.await?;
        let headers = std::mem::take(&mut passed.pass.headers);
        let admitted = Admitted::new(self, passed, request, routed);
        Ok((CallerGrant::new(&admitted), headers, End::new(admitted)))
    }

    /// The calls before the handler.
    async fn ask(self: Arc<Self>, mut exchange: Exchange, mut next: Next) -> Result<Passed, http::Response> {
        let has_end = self.estimate.is_some() || self.price.is_some();
        let ticket = (has_end && matches!(next, Next::Call(_))).then(|| self.ak.ends().begin());
        loop {
            next = match next {
                Next::Call(call) => exchange.answered(self.call(&call).await, now()),
                Next::Pass(pass) => return Ok(Passed { exchange, pass, ticket }),
                Next::Respond(response) => return Err(response),
                Next::Verify(_) | Next::Estimate | Next::Price | Next::Done(_) => {
                    return Err(http::Response::unexpected("a request took a turn that it cannot take"));
                }
            }
        }
    }

    pub(super) async fn call(&self, call: &http::Call) -> Result<crate::engine::Answer, Error> {
        match call.request() {
            Some(request) => self.ak.call(request).await,
            None => Err(Error::new(ErrorCode::UnexpectedResponse, "a call that this door does not make")),
        }
    }
}

/// A tower service does not say whether it has a route: without axum's word, a 404 or 405 is of none.
fn routed(parts: &Parts) -> Routed {
    #[cfg(feature = "axum")]
    if super::axum::has_route(&parts.extensions) {
        return Routed::Path;
    }
    let _ = parts;
    Routed::Nowhere
}

fn is_upgrade(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success())
}

/// Goes on without its caller if that is gone: what was held meanwhile is given back.
struct Lasting<F: Future<Output = Result<Passed, http::Response>> + Send + 'static> {
    door: Arc<Door>,
    /// `None` when it is over.
    asking: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = Result<Passed, http::Response>> + Send + 'static> Future for Lasting<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(asking) = &mut self.asking else { return Poll::Pending };
        let output = std::task::ready!(asking.as_mut().poll(context));
        self.asking = None;
        Poll::Ready(output)
    }
}

impl<F: Future<Output = Result<Passed, http::Response>> + Send + 'static> Drop for Lasting<F> {
    fn drop(&mut self) {
        // A look-up that nobody waits for is not worth the while.
        let Some(asking) = self.asking.take().filter(|_| self.door.estimate.is_some()) else { return };
        // Outside of any runtime it is left to its time.
        let Some(runtime) = self.door.ak.runtime() else { return };
        let door = Arc::clone(&self.door);
        runtime.spawn(async move {
            if let Ok(passed) = asking.await {
                let admitted = Admitted::new(&door, passed, None, Routed::Nowhere);
                admitted.end(Ending::never_ran(), None);
            }
        });
    }
}
