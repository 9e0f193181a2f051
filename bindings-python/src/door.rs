//! Requests at a door: what ASGI and FastAPI carry between the application, the client and the core.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentkey::engine::{Answer, Request};
use agentkey::http::{
    self, Body, Ending, Next, Price, RateLimit, RevokePolicy, Route, Routed, SignupAccount, SignupBudget,
    VisitCall,
};
use agentkey::{Error, Period};
use chrono::Utc;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{misuse, named, raise, wrong_value};
use crate::options::in_range;
use crate::results::grant_object;

/// What a handler requires of a caller, and what its requests cost.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Guard {
    guard: http::Guard,
    /// The name of the header that may hold the key, in lower case.
    #[pyo3(get)]
    api_key_header: Option<String>,
}

#[pymethods]
impl Guard {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    #[pyo3(signature = (*, scopes, holds, prices, ttl, if_expired, bill_errors, budget_headers, exceeded_status, api_key_header))]
    fn new(
        scopes: Vec<String>,
        holds: bool,
        prices: bool,
        ttl: &str,
        if_expired: &str,
        bill_errors: bool,
        budget_headers: bool,
        exceeded_status: i64,
        api_key_header: Option<&str>,
    ) -> PyResult<Self> {
        let mut guard = http::Guard::new()
            .holds(holds)
            .prices(prices)
            .ttl(ttl)
            .map_err(raise)?
            .if_expired(if_expired.parse().map_err(raise)?)
            .bill_errors(bill_errors)
            .budget_headers(budget_headers)
            .exceeded_status(exceeded_status.try_into().unwrap_or(u16::MAX))
            .map_err(raise)?;
        for scope in scopes {
            guard = guard.scope(scope);
        }
        let api_key_header = api_key_header.map(http::api_key_header).transpose().map_err(raise)?;
        Ok(Guard { guard, api_key_header })
    }

    /// Begins a request. `is_double`: the client is an application's own double.
    #[pyo3(signature = (authorization, api_key, is_double))]
    fn begin(&self, authorization: Option<&str>, api_key: Option<&str>, is_double: bool) -> Exchange {
        let guard = self.guard.clone().double(is_double);
        let credentials = http::Credentials::new(authorization).api_key(api_key);
        Exchange::new(http::Exchange::with_guard(&guard, credentials))
    }
}

/// A request on its way. Clones of it in Rust are the same request.
#[pyclass(frozen, module = "pyagentkey._native")]
#[derive(Clone)]
pub struct Exchange(Arc<Mutex<State>>);

struct State {
    exchange: http::Exchange,
    next: Next,
    /// What our own client answered last.
    answered: Option<Answered>,
}

/// What became of a call, for who watches it.
#[pyclass(frozen, get_all, module = "pyagentkey._native")]
#[derive(Clone)]
pub struct Answered {
    /// Why it was refused, if it was.
    refusal: Option<String>,
    /// The key, where the answer tells it.
    key_id: Option<String>,
}

impl Answered {
    fn of(answer: &Answer) -> Self {
        let key_id = match answer {
            Answer::Validated(Ok(grant)) => Some(grant.id.to_string()),
            Answer::Reserved(Ok(held)) => Some(held.grant.id.to_string()),
            _ => None,
        };
        Answered { refusal: answer.refusal().map(str::to_owned), key_id }
    }
}

#[pymethods]
impl Exchange {
    /// What to do now.
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        step(py, &self.state().next)
    }

    /// The call that is to be made, as a method and its arguments in JSON, for a double.
    fn call(&self) -> Option<String> {
        match &self.state().next {
            Next::Call(call) => Some(call.json()),
            _ => None,
        }
    }

    /// What the call that is to be made asks of our own client, by the name that counters have.
    #[getter]
    fn operation(&self) -> Option<&'static str> {
        self.request().map(|request| request.operation())
    }

    /// What our own client answered last.
    #[getter]
    fn answer(&self) -> Option<Answered> {
        self.state().answered.clone()
    }

    /// Goes on with what a double's method answered, as JSON.
    fn told(&self, json: &str) {
        self.go(|exchange| exchange.told(Ok(json), Utc::now()));
    }

    /// Goes on with why a call failed.
    #[pyo3(signature = (code, message))]
    fn failed(&self, code: Option<&str>, message: String) {
        let error = named(code, message);
        self.go(|exchange| exchange.told(Err(error), Utc::now()));
    }

    /// Goes on with what the request may cost at most, as JSON.
    #[pyo3(signature = (json))]
    fn estimated(&self, json: Option<&str>) {
        self.go(|exchange| exchange.estimated(Price::read(json)));
    }

    /// The handler says what the request costs, as JSON.
    #[pyo3(signature = (json))]
    fn charge(&self, json: Option<&str>) -> PyResult<()> {
        self.state().exchange.charged(&Price::read(json)).map_err(raise)
    }

    /// Goes on with how the request ended.
    #[pyo3(signature = (*, began, routed, status, threw, completed))]
    fn ended(
        &self,
        began: bool,
        routed: Option<&str>,
        status: Option<u16>,
        threw: bool,
        completed: bool,
    ) -> PyResult<()> {
        let mut ending = Ending::never_ran();
        ending.routed = match routed {
            None => None,
            Some("nowhere") => Some(Routed::Nowhere),
            Some("path") => Some(Routed::Path),
            Some("handler") => Some(Routed::Handler),
            Some(_) => return Err(misuse("routed is nowhere, path or handler")),
        };
        ending.began = began;
        ending.status = status;
        ending.threw = threw;
        ending.completed = completed;
        self.go(|exchange| exchange.ended(ending));
        Ok(())
    }

    /// Goes on with what the application says that the request did cost, as JSON.
    #[pyo3(signature = (json))]
    fn priced(&self, json: Option<&str>) {
        self.go(|exchange| exchange.priced(Price::read(json)));
    }

    /// Goes on with why the application could not say it.
    fn price_failed(&self, why: String) {
        self.go(|exchange| exchange.priced(Price::Failed(why)));
    }
}

impl Exchange {
    fn new((exchange, next): (http::Exchange, Next)) -> Self {
        Exchange(Arc::new(Mutex::new(State { exchange, next, answered: None })))
    }

    /// The call that is to be made, for our own client.
    pub(crate) fn request(&self) -> Option<Request> {
        match &self.state().next {
            Next::Call(call) => call.request(),
            _ => None,
        }
    }

    /// Goes on with our own client's answer.
    pub(crate) fn answered(&self, answer: Result<Answer, Error>) {
        self.state().answered = answer.as_ref().ok().map(Answered::of);
        self.go(|exchange| exchange.answered(answer, Utc::now()));
    }

    fn go(&self, event: impl FnOnce(&mut http::Exchange) -> Next) {
        let mut state = self.state();
        state.next = event(&mut state.exchange);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a door does next.
#[pyclass(frozen, get_all, module = "pyagentkey._native")]
pub struct Step {
    /// `estimate`, `call`, `respond`, `pass`, `price` or `done`.
    kind: &'static str,
    /// To send.
    response: Option<Py<Response>>,
    /// Of a caller who may pass: the key.
    grant: Option<Py<PyAny>>,
    /// What is held for the request, as JSON.
    reservation: Option<String>,
    /// For the handler's response.
    headers: Vec<(String, String)>,
    /// For the log.
    message: Option<String>,
}

fn step(py: Python<'_>, next: &Next) -> PyResult<Step> {
    let nothing = |kind| Step {
        kind,
        response: None,
        grant: None,
        reservation: None,
        headers: Vec::new(),
        message: None,
    };
    Ok(match next {
        // No door of Python's asks Clerk.
        Next::Verify(_) => nothing("verify"),
        Next::Estimate => nothing("estimate"),
        Next::Call(_) => nothing("call"),
        Next::Respond(response) => {
            Step { response: Some(Py::new(py, Response(response.clone()))?), ..nothing("respond") }
        }
        Next::Pass(pass) => Step {
            grant: Some(grant_object(py, &pass.grant)?),
            reservation: pass.reservation.clone().map(|held| Answer::Reserved(Ok(held)).json(true)),
            headers: headers(&pass.headers),
            ..nothing("pass")
        },
        Next::Price => nothing("price"),
        Next::Done(message) => Step { message: message.clone(), ..nothing("done") },
    })
}

/// A response to send as it is.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Response(http::Response);

#[pymethods]
impl Response {
    #[getter]
    fn status(&self) -> u16 {
        self.0.status
    }

    #[getter]
    fn headers(&self) -> Vec<(String, String)> {
        headers(&self.0.headers)
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.body.as_bytes())
    }

    /// What failed on this side, for the log.
    #[getter]
    fn fault(&self) -> Option<&str> {
        self.0.fault.as_deref()
    }
}

fn headers(headers: &[http::Header]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_owned())).collect()
}

/// What a request presents.
#[derive(IntoPyObject)]
pub(crate) enum Presented {
    Key(String),
    Nothing(Response),
}

pub(crate) fn presented(authorization: Option<&str>, api_key: Option<&str>) -> Presented {
    match http::Token::of(http::Credentials::new(authorization).api_key(api_key)) {
        Ok(token) => Presented::Key(token.expose().to_owned()),
        Err(response) => Presented::Nothing(Response(response)),
    }
}

/// The self-serve routes.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Routes {
    routes: http::Routes,
    /// Whether signup is open and nobody said that this is meant.
    #[pyo3(get)]
    opens_signup_unasked: bool,
    /// The name of the header that may hold the key, in lower case.
    #[pyo3(get)]
    api_key_header: Option<String>,
}

#[pymethods]
impl Routes {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    #[pyo3(signature = (*, signup, signup_scopes, require_email_for_signup, signup_rate_limit, signup_account, signup_max_expires_in, signup_budget, revoke_policy, manage, api_key_header))]
    fn new(
        signup: Option<bool>,
        signup_scopes: Option<Vec<String>>,
        require_email_for_signup: bool,
        signup_rate_limit: Option<(i64, i64)>,
        signup_account: &str,
        signup_max_expires_in: String,
        signup_budget: Option<(i64, Option<String>)>,
        revoke_policy: &str,
        manage: bool,
        api_key_header: Option<&str>,
    ) -> PyResult<Self> {
        let most = i64::from(u32::MAX);
        let mut options = http::RouteOptions::default();
        options.signup = signup;
        options.signup_scopes = signup_scopes;
        options.require_email_for_signup = require_email_for_signup;
        if let Some((max, seconds)) = signup_rate_limit {
            let max = in_range("signup_rate_limit", max, 0, most)?;
            let seconds = in_range("signup_rate_limit", seconds, 1, most)?;
            options.signup_rate_limit = Some(RateLimit::new(max, seconds));
        }
        options.signup_account = match signup_account {
            "generated" => SignupAccount::Generated,
            "email" => SignupAccount::Email,
            _ => return Err(wrong_value("signup_account must be \"generated\" or \"email\"")),
        };
        options.signup_max_expires_in = signup_max_expires_in;
        if let Some((cents, period)) = signup_budget {
            let period = period.map(|period| period.parse::<Period>()).transpose().map_err(raise)?;
            options.signup_budget = Some(SignupBudget::new(cents, period));
        }
        options.revoke_policy = match revoke_policy {
            "account" => RevokePolicy::Account,
            "descendants" => RevokePolicy::Descendants,
            _ => return Err(wrong_value("revoke_policy must be \"account\" or \"descendants\"")),
        };
        options.manage = manage;
        let opens_signup_unasked = options.opens_signup_unasked();
        let routes = http::Routes::new(&options).map_err(raise)?;
        let api_key_header = api_key_header.map(http::api_key_header).transpose().map_err(raise)?;
        Ok(Routes { routes, opens_signup_unasked, api_key_header })
    }

    /// The OpenAPI description of the routes that are served.
    fn openapi(&self) -> String {
        self.routes.openapi()
    }

    /// Begins to serve a request. The path has the query with it.
    #[expect(clippy::too_many_arguments, reason = "what a request says")]
    #[pyo3(signature = (method, path, authorization, api_key, body, address, is_double))]
    fn visit(
        &self,
        method: &str,
        path: &str,
        authorization: Option<String>,
        api_key: Option<String>,
        body: &[u8],
        address: Option<String>,
        is_double: bool,
    ) -> Exchange {
        let mut call = VisitCall::new(Route::of(method, path), Utc::now());
        call.authorization = authorization;
        call.api_key = api_key;
        call.body = Body::read(body);
        call.address = address;
        call.is_double = is_double;
        Exchange::new(http::Exchange::with_routes(&self.routes, call))
    }
}
