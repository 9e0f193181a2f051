//! The HTTP policy for Express: what a middleware carries between the request, the client and the response.

use std::borrow::Cow;

use agentkey::gate::{
    self, Body, Call, Clerk, NewKey, OldKey, RateLimit, RevokePolicy, Route, SignupAccount, SignupBudget,
    Step, Verification, wire,
};
use agentkey::{AccountFilter, Verdict};
use chrono::Utc;
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

/// What the client said: a result as JSON, or why there is none.
#[napi(object)]
pub struct Said {
    /// The result.
    pub result: Option<String>,
    /// An error's code; unknown ones are of the database's side.
    pub code: Option<String>,
    /// An error's message.
    pub message: Option<String>,
}

/// A token to look up, or the response to a request without one.
#[napi(object)]
pub struct Begun {
    /// The token.
    pub token: Option<String>,
    /// The response.
    pub response: Option<NativeResponse>,
}

/// Whether a caller may pass.
#[napi(object)]
pub struct Decision {
    /// Headers for the handler's response.
    #[napi(ts_type = "[string, string][]")]
    pub headers: Vec<Vec<String>>,
    /// The response, if the caller may not.
    pub response: Option<NativeResponse>,
}

/// The door before a handler.
#[napi]
pub struct Guard(gate::Guard);

#[napi]
impl Guard {
    /// A door for keys that may do `scope`.
    #[napi(constructor)]
    pub fn new(scope: Option<String>, budget_headers: bool) -> Self {
        let guard = gate::Guard::new().budget_headers(budget_headers);
        Guard(match scope {
            Some(scope) => guard.scope(scope),
            None => guard,
        })
    }

    /// Reads the `Authorization` header.
    #[napi]
    pub fn begin(&self, authorization: Option<String>) -> Begun {
        begun(self.0.begin(authorization.as_deref()))
    }

    /// Decides on the verdict.
    #[napi]
    pub fn decide(&self, verdict: Said) -> Decision {
        match self.0.decide(verdict.verdict(), Utc::now()) {
            Ok(pass) => Decision { headers: headers(pass.headers), response: None },
            Err(response) => Decision { headers: Vec::new(), response: Some(response.into()) },
        }
    }
}

/// The response to a request for which nothing could be reserved; none if something was.
#[napi]
pub fn not_reserved(said: Said) -> Option<NativeResponse> {
    match said.read().and_then(|json| wire::read_refused_reserve(&json)) {
        Ok(None) => None,
        Ok(Some(refused)) => gate::held(Ok(Err(refused)), Utc::now()).err().map(NativeResponse::from),
        Err(error) => gate::held(Err(error), Utc::now()).err().map(NativeResponse::from),
    }
}

/// The routes' options.
#[napi(object)]
pub struct NativeRouteOptions {
    /// The scopes that a signup may ask for.
    pub signup_scopes: Option<Vec<String>>,
    /// Whether a signup must name an email address.
    pub require_email_for_signup: bool,
    /// Signups of one address in a window.
    pub signup_rate_max: Option<u32>,
    /// The window's length.
    pub signup_rate_seconds: Option<u32>,
    /// Whether the address is the account.
    pub email_is_account: bool,
    /// The longest life of a signup's key.
    pub signup_max_expires_in: Option<String>,
    /// The most cents that a signup may spend.
    pub signup_max_cents: Option<f64>,
    /// And their period.
    pub signup_period: Option<String>,
    /// Whether a key may revoke only itself and its descendants.
    pub only_descendants: bool,
}

/// A request to the routes.
#[napi(object)]
pub struct NativeCall {
    /// `signup`, `me`, `create`, or `delete`.
    #[napi(ts_type = "'signup' | 'me' | 'create' | 'delete'")]
    pub route: String,
    /// The key's id in the path.
    pub id: Option<String>,
    /// The header.
    pub authorization: Option<String>,
    /// JSON; none if there was no body.
    pub body: Option<String>,
    /// The client's address.
    pub address: Option<String>,
}

/// What to do next: one of these.
#[napi(object)]
pub struct NativeStep {
    /// Send it.
    pub response: Option<NativeResponse>,
    /// Look it up, then `verdict`.
    pub token: Option<String>,
    /// Create a key with these options (JSON), then `created`.
    pub create: Option<String>,
    /// Revoke a key, then `revoked`.
    pub revoke: Option<NativeRevocation>,
}

/// A key to revoke.
#[napi(object)]
pub struct NativeRevocation {
    /// Its id.
    pub id: String,
    /// Its account; none owns no key.
    pub account: Option<String>,
    /// If given, the key must be this one or a descendant.
    pub within: Option<String>,
}

/// The routes.
#[napi]
pub struct Routes(gate::Routes);

#[napi]
impl Routes {
    /// Checks the options.
    #[napi(constructor)]
    pub fn new(options: NativeRouteOptions) -> Result<Self> {
        gate::Routes::new(&options.read()).map(Routes).map_err(thrown)
    }

    /// Begins to serve a request.
    #[napi]
    pub fn handle(&self, call: NativeCall) -> Exchange {
        let route = match call.route.as_str() {
            "signup" => Route::Signup,
            "me" => Route::Me,
            "create" => Route::Create,
            _ => Route::Delete { id: call.id.unwrap_or_default() },
        };
        let body = match call.body {
            None => Body::Missing,
            Some(text) => serde_json::from_str(&text).map_or(Body::Unreadable, Body::Json),
        };
        let call =
            Call { route, authorization: call.authorization, body, address: call.address, now: Utc::now() };
        Exchange(Some(self.0.handle(call)))
    }
}

/// A request that is being served.
#[napi]
pub struct Exchange(Option<Step>);

#[napi]
impl Exchange {
    /// What to do next.
    #[napi]
    pub fn step(&self) -> NativeStep {
        let nothing = NativeStep { response: None, token: None, create: None, revoke: None };
        match &self.0 {
            None => nothing,
            Some(Step::Respond(response)) => {
                NativeStep { response: Some(response.clone().into()), ..nothing }
            }
            Some(Step::Validate { token, .. }) => {
                NativeStep { token: Some(token.expose().to_owned()), ..nothing }
            }
            Some(Step::Create(new)) => NativeStep { create: Some(spec(new)), ..nothing },
            Some(Step::Revoke(old)) => NativeStep { revoke: Some(revocation(old)), ..nothing },
        }
    }

    /// Goes on with the verdict.
    #[napi]
    pub fn verdict(&mut self, said: Said) {
        if let Some(Step::Validate { then, .. }) = self.0.take() {
            self.0 = Some(then.verdict(said.verdict(), Utc::now()));
        }
    }

    /// Goes on with the created key.
    #[napi]
    pub fn created(&mut self, said: Said) {
        self.0 = Some(Step::Respond(gate::Routes::created(said.read())));
    }

    /// Goes on with whether a key was revoked.
    #[napi]
    pub fn revoked(&mut self, said: Said) {
        self.0 = Some(Step::Respond(gate::Routes::revoked(said.read().map(|revoked| revoked == "true"))));
    }
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

/// A subject to look up, or a response.
#[napi(object)]
pub struct NativeSubject {
    /// The subject.
    pub subject: Option<String>,
    /// The response.
    pub response: Option<NativeResponse>,
}

/// The doors for Clerk's tokens.
#[napi]
pub struct ClerkDoor(Clerk);

#[napi]
impl ClerkDoor {
    /// For machine-to-machine tokens, or for API keys.
    #[napi(constructor)]
    pub fn new(api_keys: bool) -> Self {
        ClerkDoor(if api_keys { Clerk::ApiKey } else { Clerk::M2m })
    }

    /// Reads the `Authorization` header.
    #[napi]
    pub fn begin(&self, authorization: Option<String>) -> Begun {
        begun(self.0.begin(authorization.as_deref()))
    }

    /// The subject of a verified token.
    #[napi]
    pub fn subject(&self, said: NativeVerification) -> NativeSubject {
        let verification = match said.failure {
            Some(message) => Verification::Failed { status: said.status, message },
            None => {
                Verification::Known { subject: said.subject, revoked: said.revoked, expired: said.expired }
            }
        };
        match self.0.subject(verification) {
            Ok(subject) => NativeSubject { subject: Some(subject), response: None },
            Err(response) => NativeSubject { subject: None, response: Some(response.into()) },
        }
    }

    /// Whether a subject's row must be made.
    #[napi]
    pub fn needs_row(&self, verdict: Said) -> bool {
        verdict.verdict().is_ok_and(|verdict| Clerk::needs_row(&verdict))
    }

    /// The response when it could not be made.
    #[napi]
    pub fn row_failed(&self, said: Said) -> NativeResponse {
        let error =
            said.read().err().unwrap_or_else(|| named("database", "the row could not be made".to_owned()));
        Clerk::row_failed(&error).into()
    }
}

impl Said {
    fn read(self) -> std::result::Result<String, agentkey::Error> {
        match self.result {
            Some(result) => Ok(result),
            None => Err(named(self.code.as_deref().unwrap_or_default(), self.message.unwrap_or_default())),
        }
    }

    fn verdict(self) -> std::result::Result<Verdict, agentkey::Error> {
        self.read().and_then(|json| wire::read_verdict(&json))
    }
}

impl NativeRouteOptions {
    fn read(self) -> gate::RouteOptions {
        let defaults = gate::RouteOptions::default();
        let limit = self.signup_rate_max.zip(self.signup_rate_seconds);
        gate::RouteOptions {
            signup_scopes: self.signup_scopes,
            require_email_for_signup: self.require_email_for_signup,
            signup_rate_limit: limit.map(|(max, window_seconds)| RateLimit { max, window_seconds }),
            signup_account: if self.email_is_account {
                SignupAccount::Email
            } else {
                SignupAccount::Generated
            },
            signup_max_expires_in: self.signup_max_expires_in.unwrap_or(defaults.signup_max_expires_in),
            signup_budget: self
                .signup_max_cents
                .map(|cents| SignupBudget { max_cents: cents as i64, period: self.signup_period }),
            revoke_policy: if self.only_descendants {
                RevokePolicy::Descendants
            } else {
                RevokePolicy::Account
            },
        }
    }
}

impl From<gate::Response> for NativeResponse {
    fn from(response: gate::Response) -> Self {
        NativeResponse {
            status: response.status,
            headers: headers(response.headers),
            body: response.body,
            fault: response.fault,
        }
    }
}

fn headers(headers: Vec<gate::Header>) -> Vec<Vec<String>> {
    headers.into_iter().map(|(name, value)| vec![name.to_owned(), Cow::into_owned(value)]).collect()
}

fn begun(begun: std::result::Result<gate::Token, gate::Response>) -> Begun {
    match begun {
        Ok(token) => Begun { token: Some(token.expose().to_owned()), response: None },
        Err(response) => Begun { token: None, response: Some(response.into()) },
    }
}

fn spec(new: &NewKey) -> String {
    serde_json::json!(new.spec).to_string()
}

fn revocation(old: &OldKey) -> NativeRevocation {
    let account = match &old.account {
        AccountFilter::Only(account) => account.clone(),
        AccountFilter::Any => None,
    };
    NativeRevocation { id: old.id.clone(), account, within: old.within.as_ref().map(ToString::to_string) }
}
