//! The layer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::request::Parts;
use ::http::{HeaderName, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::asks::{Question, RequestEnd};
use super::body::ResponseBody;
use super::door::Door;
use crate::AgentKey;
use crate::budget::money::Cost;
use crate::budget::reservation::IfExpired;
use crate::error::{Error, ErrorCode};
use crate::http::{Guard, Price, api_key_header};

/// Lets requests with a live key pass that has budget left. The others are answered by the layer.
///
/// The handler finds the caller's key as a [`CallerGrant`](super::CallerGrant) in the extensions of its request; with the
/// feature `axum` that is an extractor.
///
/// ```no_run
/// # fn example(ak: agentkey::AgentKey) -> Result<(), agentkey::Error> {
/// use agentkey::tower::{AgentKeyLayer, RequestEnd};
/// use agentkey::{Cost, IfExpired};
///
/// #[derive(Clone)]
/// struct Tokens(i64);
///
/// let guard = AgentKeyLayer::new(ak)
///     .scope("chat")
///     .reserve_cents(20)
///     // What the handler put into the extensions of its response.
///     .cost(|end: &RequestEnd| end.response.get::<Tokens>().map(|tokens| Cost::microcents(tokens.0 * 300)))
///     .if_expired(IfExpired::Settle)
///     .exceeded_status(402)?
///     .api_key_header("x-api-key")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AgentKeyLayer {
    ak: AgentKey,
    guard: Guard,
    estimate: Option<Question<Parts>>,
    price: Option<Question<RequestEnd>>,
    api_key_header: Option<HeaderName>,
}

impl AgentKeyLayer {
    /// Any live key passes.
    pub fn new(ak: AgentKey) -> Self {
        AgentKeyLayer { ak, guard: Guard::new(), estimate: None, price: None, api_key_header: None }
    }

    /// Only keys that may do `scope` pass. Called again, it asks for that one, too.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.guard = self.guard.scope(scope);
        self
    }

    /// What a request may cost, in cents or as a [`Cost`]: held before the handler runs, settled when its response has
    /// ended. A request that does not fit gets a 429.
    #[must_use]
    pub fn reserve_cents(self, estimate: impl Into<Cost>) -> Self {
        let estimate = estimate.into();
        self.reserve_with(move |_| estimate)
    }

    /// The same, worked out for each request from its head. One that says nothing, fails or panics lets nobody pass: 500.
    #[must_use]
    pub fn reserve_with<P: Into<Price>>(
        self,
        estimate: impl Fn(&Parts) -> P + Send + Sync + 'static,
    ) -> Self {
        self.estimated(Question::told(estimate))
    }

    /// The same, awaited.
    #[must_use]
    pub fn reserve_async<F>(self, estimate: impl Fn(Parts) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output: Into<Price>> + Send + 'static,
    {
        self.estimated(Question::awaited(estimate))
    }

    fn estimated(mut self, estimate: Question<Parts>) -> Self {
        self.guard = self.guard.holds(true);
        self.estimate = Some(estimate);
        self
    }

    /// What a request did cost, asked when its response has ended: whole, failed, or left by its client. Cents, a
    /// [`Cost`], or an `Option` or `Result` of them. Where it says nothing, a response below 400 cost what was held, and an
    /// error cost nothing. Where nothing is held, the cost is recorded whatever the budget.
    #[must_use]
    pub fn cost<P: Into<Price>>(self, cost: impl Fn(&RequestEnd) -> P + Send + Sync + 'static) -> Self {
        self.priced(Question::told(cost))
    }

    /// The same, awaited.
    #[must_use]
    pub fn cost_async<F>(self, cost: impl Fn(RequestEnd) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output: Into<Price>> + Send + 'static,
    {
        self.priced(Question::awaited(cost))
    }

    fn priced(mut self, price: Question<RequestEnd>) -> Self {
        self.guard = self.guard.prices(true);
        self.price = Some(price);
        self
    }

    /// How long an amount is held at most. Default 10 minutes; a stream that takes longer extends
    /// [`CallerGrant::reservation`](super::CallerGrant::reservation).
    ///
    /// # Errors
    /// `invalid_duration` unless it is between a second and 30 days.
    pub fn reserve_ttl(mut self, ttl: Duration) -> Result<Self, Error> {
        self.guard = self.guard.hold_for(ttl)?;
        Ok(self)
    }

    /// What an amount is worth that nobody settles in time, for the process was killed: given back, which is the default,
    /// or recorded as spent.
    #[must_use]
    pub fn if_expired(mut self, worth: IfExpired) -> Self {
        self.guard = self.guard.if_expired(worth);
        self
    }

    /// Whether an error costs what is held where `cost` says nothing. Default false.
    #[must_use]
    pub fn bill_errors(mut self, bill: bool) -> Self {
        self.guard = self.guard.bill_errors(bill);
        self
    }

    /// Puts `RateLimit` and `RateLimit-Policy` headers for the budget on the responses of those who pass.
    #[must_use]
    pub fn budget_headers(mut self, wanted: bool) -> Self {
        self.guard = self.guard.budget_headers(wanted);
        self
    }

    /// What a request without budget is answered: 429, as by default, or 402. The clients of model vendors repeat a 429 by
    /// themselves.
    ///
    /// # Errors
    /// `invalid_text` for any other status.
    pub fn exceeded_status(mut self, status: u16) -> Result<Self, Error> {
        self.guard = self.guard.exceeded_status(status)?;
        Ok(self)
    }

    /// A header that may hold the key, such as `x-api-key`. It counts where `Authorization` has no bearer token. Default
    /// none.
    ///
    /// # Errors
    /// `invalid_text` if it is no name of a header, or one that holds something else.
    pub fn api_key_header(mut self, name: &str) -> Result<Self, Error> {
        self.api_key_header = Some(key_header(name)?);
        Ok(self)
    }
}

pub(super) fn key_header(name: &str) -> Result<HeaderName, Error> {
    let refused = |e: ::http::header::InvalidHeaderName| Error::new(ErrorCode::InvalidText, e.to_string());
    api_key_header(name)?.parse().map_err(refused)
}

impl std::fmt::Debug for AgentKeyLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentKeyLayer").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AgentKeyLayer {
    type Service = AgentKeyService<S>;

    fn layer(&self, inner: S) -> AgentKeyService<S> {
        let AgentKeyLayer { ak, guard, estimate, price, api_key_header } = self.clone();
        AgentKeyService { inner, door: Arc::new(Door { ak, guard, estimate, price, api_key_header }) }
    }
}

/// What [`AgentKeyLayer`] makes of a service.
#[derive(Clone)]
pub struct AgentKeyService<S> {
    inner: S,
    door: Arc<Door>,
}

impl<S: std::fmt::Debug> std::fmt::Debug for AgentKeyService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentKeyService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, A, B> Service<Request<A>> for AgentKeyService<S>
where
    S: Service<Request<A>, Response = Response<B>, Future: Send> + Clone + Send + 'static,
    A: Send + 'static,
    B: http_body::Body + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<B, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        // The one that is ready serves this request.
        let other = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, other);
        ResponseFuture(Box::pin(Arc::clone(&self.door).serve(ready, request)))
    }
}

type Outcome<B, E> = Result<Response<ResponseBody<B>>, E>;

/// The response to come.
#[must_use]
pub struct ResponseFuture<B, E>(Pin<Box<dyn Future<Output = Outcome<B, E>> + Send>>);

impl<B, E> Future for ResponseFuture<B, E> {
    type Output = Outcome<B, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome<B, E>> {
        self.0.as_mut().poll(context)
    }
}

impl<B, E> std::fmt::Debug for ResponseFuture<B, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}
