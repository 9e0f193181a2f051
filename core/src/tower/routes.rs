//! The self-serve routes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::request::Parts;
use ::http::{HeaderName, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tower_service::Service;

use super::carry::{Presented, now, response};
use super::layer::key_header;
use crate::AgentKey;
use crate::budget::period::Period;
use crate::error::{Error, ErrorCode};
use crate::http::{
    self, Body, Exchange, Next, RateLimit, RevokePolicy, Route, RouteOptions, Routes, SignupAccount,
    SignupBudget, VisitCall,
};

type Address = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// The routes `POST /signup`, `GET /sdk-keys/me`, `POST /sdk-keys`, `DELETE /sdk-keys/{id}`, `POST` and
/// `GET /sdk-keys/increases`, and `POST /sdk-keys/increases/{id}`, and with [`manage`](KeyRoutes::manage) those for the
/// keys below the caller's, relative to where they are mounted.
///
/// ```no_run
/// # #[cfg(feature = "axum")]
/// # fn example(ak: agentkey::AgentKey) -> Result<axum::Router, agentkey::Error> {
/// use agentkey::tower::KeyRoutes;
///
/// let routes = KeyRoutes::new(ak).signup_scopes(["search"]).signup_budget(100, None).router()?;
/// Ok(axum::Router::new().nest("/keys", routes))
/// # }
/// ```
#[derive(Clone)]
pub struct KeyRoutes {
    ak: AgentKey,
    options: RouteOptions,
    api_key_header: Option<HeaderName>,
    address: Address,
}

impl KeyRoutes {
    /// With the defaults of every option.
    pub fn new(ak: AgentKey) -> Self {
        KeyRoutes { ak, options: RouteOptions::default(), api_key_header: None, address: Arc::new(peer) }
    }

    /// Whether `POST /signup` is there: anybody gets a key. By default it is, as in the other languages, with a warning
    /// where `signup_budget` is missing, for such keys have no limit; `true` says that this is meant.
    #[must_use]
    pub fn signup(mut self, open: bool) -> Self {
        self.options.signup = Some(open);
        self
    }

    /// The scopes that a signup may ask for, and gets if it asks for none. Default none at all.
    #[must_use]
    pub fn signup_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.options.signup_scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Whether a signup must name an email address. Default true.
    #[must_use]
    pub fn require_email_for_signup(mut self, required: bool) -> Self {
        self.options.require_email_for_signup = required;
        self
    }

    /// How often one client address may sign up. All processes count together in the database; each for itself until the
    /// table is migrated.
    #[must_use]
    pub fn signup_rate_limit(mut self, limit: RateLimit) -> Self {
        self.options.signup_rate_limit = Some(limit);
        self
    }

    /// The client's address, for `signup_rate_limit`. By default that of the connection, where the app is served with
    /// `into_make_service_with_connect_info::<SocketAddr>()`; behind a proxy it must be the one that the proxy vouches for.
    /// Those without an address share one count.
    #[must_use]
    pub fn client_address(
        mut self,
        address: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.address = Arc::new(address);
        self
    }

    /// Whose keys signups are.
    #[must_use]
    pub fn signup_account(mut self, account: SignupAccount) -> Self {
        self.options.signup_account = account;
        self
    }

    /// The longest that a signup's key may live: a duration such as `30d`. Default `365d`.
    #[must_use]
    pub fn signup_max_expires_in(mut self, longest: impl Into<String>) -> Self {
        self.options.signup_max_expires_in = longest.into();
        self
    }

    /// What a signup may spend, and does if it names no budget: for life, or of each period. Default what it asks for.
    #[must_use]
    pub fn signup_budget(mut self, max_cents: i64, period: impl Into<Option<Period>>) -> Self {
        self.options.signup_budget = Some(SignupBudget::new(max_cents, period.into()));
        self
    }

    /// Which keys a caller may revoke.
    #[must_use]
    pub fn revoke_policy(mut self, policy: RevokePolicy) -> Self {
        self.options.revoke_policy = policy;
        self
    }

    /// Whether a caller may manage the keys below its own: `GET /sdk-keys`, `PATCH /sdk-keys/{id}`, and
    /// `POST /sdk-keys/{id}/rotate`, `/disable` and `/enable`. Default false.
    #[must_use]
    pub fn manage(mut self, manage: bool) -> Self {
        self.options.manage = manage;
        self
    }

    /// A header that may hold the key, as of [`AgentKeyLayer`](super::AgentKeyLayer::api_key_header).
    ///
    /// # Errors
    /// `invalid_text` if it is no name of a header, or one that holds something else.
    pub fn api_key_header(mut self, name: &str) -> Result<Self, Error> {
        self.api_key_header = Some(key_header(name)?);
        Ok(self)
    }

    /// As a service, which answers 404 to all other requests.
    ///
    /// # Errors
    /// `invalid_duration`, `invalid_budget`.
    pub fn service(self) -> Result<KeyRoutesService, Error> {
        let KeyRoutes { ak, options, api_key_header, address } = self;
        let routes = Routes::new(&options)?;
        if options.opens_signup_unasked() {
            tracing::warn!(
                target: "agentkey",
                "POST /signup gives anybody a key without a limit: set a signup_budget, or signup(false), or signup(true)"
            );
        }
        Ok(KeyRoutesService(Arc::new(Inner { ak, routes, api_key_header, address })))
    }

    /// As a router of axum, to merge or to nest.
    ///
    /// # Errors
    /// As [`service`](KeyRoutes::service).
    #[cfg(feature = "axum")]
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Result<::axum::Router<S>, Error> {
        use ::axum::routing::{get_service, patch_service, post_service};

        let (has_signup, manage) = (self.options.signup != Some(false), self.options.manage);
        let service = self.service()?;
        let mut router = ::axum::Router::new()
            .route("/sdk-keys", post_service(service.clone()))
            .route(
                "/sdk-keys/increases",
                get_service(service.clone()).post_service(service.clone()).delete_service(service.clone()),
            )
            .route("/sdk-keys/increases/{id}", post_service(service.clone()))
            .route("/sdk-keys/{id}", get_service(service.clone()).delete_service(service.clone()));
        if manage {
            router = router
                .route("/sdk-keys", get_service(service.clone()))
                .route("/sdk-keys/{id}", patch_service(service.clone()));
            for path in ["/sdk-keys/{id}/rotate", "/sdk-keys/{id}/disable", "/sdk-keys/{id}/enable"] {
                router = router.route(path, post_service(service.clone()));
            }
        }
        if has_signup {
            router = router.route("/signup", post_service(service));
        }
        Ok(router)
    }
}

impl std::fmt::Debug for KeyRoutes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRoutes").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The path and the query.
fn target(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("", |target| target.as_str())
}

fn peer(parts: &Parts) -> Option<String> {
    #[cfg(feature = "axum")]
    return super::axum::peer(&parts.extensions);
    #[cfg(not(feature = "axum"))]
    {
        let _ = parts;
        None
    }
}

/// [`KeyRoutes`] as a service.
#[derive(Clone)]
pub struct KeyRoutesService(Arc<Inner>);

struct Inner {
    ak: AgentKey,
    routes: Routes,
    api_key_header: Option<HeaderName>,
    address: Address,
}

impl std::fmt::Debug for KeyRoutesService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyRoutesService")
    }
}

impl<B> Service<Request<B>> for KeyRoutesService
where
    B: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = KeyRoutesFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> KeyRoutesFuture {
        let inner = Arc::clone(&self.0);
        KeyRoutesFuture(Box::pin(async move { Ok(response(inner.serve(request).await)) }))
    }
}

impl Inner {
    async fn serve<B>(&self, request: Request<B>) -> http::Response
    where
        B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let (parts, body) = request.into_parts();
        let mut visit = VisitCall::new(Route::of(parts.method.as_str(), target(&parts)), now());
        let Presented { authorization, api_key } =
            Presented::of(&parts.headers, self.api_key_header.as_ref());
        visit.authorization = authorization;
        visit.api_key = api_key;
        visit.address = (self.address)(&parts);
        if visit.route.has_body() {
            visit.body = read(body).await;
        }
        let (mut exchange, mut next) = Exchange::with_routes(&self.routes, visit);
        loop {
            next = match next {
                Next::Respond(response) => return response,
                Next::Call(call) => {
                    let answer = match call.request() {
                        Some(request) => self.ak.call(request).await,
                        None => {
                            Err(Error::new(ErrorCode::UnexpectedResponse, "a call that routes do not make"))
                        }
                    };
                    exchange.answered(answer, now())
                }
                _ => return http::Response::unexpected("a visit took a turn that it cannot take"),
            }
        }
    }
}

async fn read<B>(body: B) -> Body
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    match Limited::new(body, Body::MOST_BYTES).collect().await {
        Ok(whole) => Body::read(&whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Body::TooLarge,
        // It broke off: there is nobody to read the answer.
        Err(_) => Body::Unreadable,
    }
}

type Outcome = Result<Response<Full<Bytes>>, Infallible>;

/// The response to come.
#[must_use]
pub struct KeyRoutesFuture(Pin<Box<dyn Future<Output = Outcome> + Send>>);

impl Future for KeyRoutesFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.0.as_mut().poll(context)
    }
}

impl std::fmt::Debug for KeyRoutesFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyRoutesFuture")
    }
}
