//! The self-serve routes.

use agentkey::Period;
use agentkey::http::{self, Body, RateLimit, RevokePolicy, Route, SignupAccount, SignupBudget, VisitCall};
use chrono::Utc;
use napi_derive::napi;

use crate::error::{Result, thrown};
use crate::exchange::Exchange;

/// The longest body that is read, in bytes.
#[napi]
pub const MOST_BODY_BYTES: u32 = Body::MOST_BYTES as u32;

/// The routes' options.
#[napi(object)]
pub struct NativeRouteOptions {
    /// Whether anybody may sign up.
    pub signup: Option<bool>,
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
    /// Whether a key may manage its descendants.
    pub manage: bool,
    /// A header that may hold the key.
    pub api_key_header: Option<String>,
}

/// A request to the routes.
#[napi(object)]
pub struct NativeVisit {
    /// Which route it takes.
    #[napi(
        ts_type = "'signup' | 'me' | 'create' | 'delete' | 'list' | 'update' | 'rotate' | 'disable' | 'enable' | 'requestIncrease' | 'listIncreases' | 'decideIncrease'"
    )]
    pub route: String,
    /// The id in the path: the key's, or the request's.
    pub id: Option<String>,
    /// What follows the question mark.
    pub query: Option<String>,
    /// The header.
    pub authorization: Option<String>,
    /// The header that may hold the key.
    pub api_key: Option<String>,
    /// JSON; none if there was no body.
    pub body: Option<String>,
    /// Whether more was sent than is read.
    pub is_too_large: bool,
    /// The client's address.
    pub address: Option<String>,
    /// Whether the client is an application's own double.
    pub is_double: bool,
}

/// The routes.
#[napi]
pub struct Routes {
    routes: http::Routes,
    /// Whether signup is open and nobody said that this is meant.
    #[napi(readonly)]
    pub opens_signup_unasked: bool,
    /// The name of the header that may hold the key, in lower case.
    #[napi(readonly)]
    pub api_key_header: Option<String>,
}

#[napi]
impl Routes {
    /// Checks the options.
    #[napi(constructor)]
    pub fn new(options: NativeRouteOptions) -> Result<Self> {
        let mut read = http::RouteOptions::default();
        read.signup = options.signup;
        read.signup_scopes = options.signup_scopes;
        read.require_email_for_signup = options.require_email_for_signup;
        let rate = options.signup_rate_max.zip(options.signup_rate_seconds);
        read.signup_rate_limit = rate.map(|(max, seconds)| RateLimit::new(max, seconds));
        if options.email_is_account {
            read.signup_account = SignupAccount::Email;
        }
        if let Some(longest) = options.signup_max_expires_in {
            read.signup_max_expires_in = longest;
        }
        if let Some(cents) = options.signup_max_cents {
            let period = options.signup_period.map(|period| period.parse::<Period>());
            let period = period.transpose().map_err(thrown)?;
            read.signup_budget = Some(SignupBudget::new(cents as i64, period));
        }
        if options.only_descendants {
            read.revoke_policy = RevokePolicy::Descendants;
        }
        read.manage = options.manage;
        let opens_signup_unasked = read.opens_signup_unasked();
        let routes = http::Routes::new(&read).map_err(thrown)?;
        let api_key_header = options.api_key_header.map(|name| http::api_key_header(&name)).transpose();
        Ok(Routes { routes, opens_signup_unasked, api_key_header: api_key_header.map_err(thrown)? })
    }

    /// Begins to serve a request.
    #[napi]
    pub fn visit(&self, visit: NativeVisit) -> Exchange {
        let id = visit.id.unwrap_or_default();
        let route = match visit.route.as_str() {
            "signup" => Route::Signup,
            "me" => Route::Me,
            "create" => Route::Create,
            "delete" => Route::Delete { id },
            "list" => Route::List { query: visit.query.unwrap_or_default() },
            "update" => Route::Update { id },
            "rotate" => Route::Rotate { id },
            "disable" => Route::Disable { id },
            "enable" => Route::Enable { id },
            "requestIncrease" => Route::RequestIncrease,
            "listIncreases" => Route::ListIncreases { query: visit.query.unwrap_or_default() },
            "decideIncrease" => Route::DecideIncrease { id },
            _ => Route::Unknown,
        };
        let mut call = VisitCall::new(route, Utc::now());
        call.authorization = visit.authorization;
        call.api_key = visit.api_key;
        call.body = match visit.body {
            _ if visit.is_too_large => Body::TooLarge,
            body => Body::parsed(body.unwrap_or_default().as_bytes()),
        };
        call.address = visit.address;
        call.is_double = visit.is_double;
        Exchange::new(http::Exchange::with_routes(&self.routes, call))
    }
}
