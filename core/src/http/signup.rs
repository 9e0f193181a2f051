//! `POST /signup`: a key for anybody, within the limits that the server sets.

use serde::Serialize;

use super::body::{Body, Lifetime, Wanted, member};
use super::call::NewKey;
use super::response::Response;
use super::routes::RouteOptions;
use crate::budget::period::Period;
use crate::engine::json::json;
use crate::error::{Error, ErrorCode};
use crate::key::new_key::{CreateKey, not_negative};

/// Whose keys signups are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SignupAccount {
    /// Each signup is an account of its own, `signup:` and a UUID; the address, which nobody has verified, is the user.
    #[default]
    Generated,
    /// The address is the account, as in the original: who knows an address gets a key of its account, and with it
    /// may revoke the others.
    Email,
}

/// What a signup may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignupBudget {
    /// The most cents, and what a signup that names none gets.
    pub max_cents: i64,
    /// The only period; `None` is one budget for life.
    pub period: Option<Period>,
}

impl SignupBudget {
    /// One budget for life, or of a period.
    pub fn new(max_cents: i64, period: Option<Period>) -> Self {
        SignupBudget { max_cents, period }
    }
}

const LONGEST_EMAIL: usize = 255;
const USUAL_LIFETIME: &str = "24h";

/// The checked options, and what follows from them.
#[derive(Debug)]
pub(super) struct Signup {
    scopes: Vec<String>,
    require_email: bool,
    account: SignupAccount,
    budget: Option<SignupBudget>,
    longest: Lifetime,
    usual: Lifetime,
}

impl Signup {
    pub(super) fn new(options: &RouteOptions) -> Result<Self, Error> {
        let longest = Lifetime::read(options.signup_max_expires_in.clone())?;
        if longest.duration.is_none() {
            return Err(Error::new(
                ErrorCode::InvalidDuration,
                "Invalid duration: signup_max_expires_in is empty",
            ));
        }
        if let Some(budget) = &options.signup_budget {
            not_negative(budget.max_cents)?;
        }
        let usual = Lifetime::read(USUAL_LIFETIME.to_owned())?;
        let usual = if usual.duration < longest.duration { usual } else { longest.clone() };
        Ok(Signup {
            scopes: options.signup_scopes.clone().unwrap_or_default(),
            require_email: options.require_email_for_signup,
            account: options.signup_account,
            budget: options.signup_budget,
            longest,
            usual,
        })
    }

    /// The key to create.
    pub(super) fn key(&self, body: &Body) -> Result<NewKey, Response> {
        if self.require_email && *body == Body::Missing {
            return Err(no_email());
        }
        let members = body.members()?;
        let email = self.email(member(members, "email"))?;
        let wanted = Wanted::read(members)?;
        let scopes = self.scopes(wanted.scopes)?;
        let (budget_cents, budget_period) = self.budget(wanted.budget_cents, wanted.budget_period)?;
        let expires_in = self.lifetime(wanted.expires_in)?;
        let (account_id, user_id) = match (self.account, email) {
            (SignupAccount::Email, Some(email)) => (email, None),
            (_, email) => (own_account().map_err(|error| Response::unavailable(&error))?, email),
        };
        let spec = CreateKey {
            metadata: None,
            limits: Vec::new(),
            account_id: Some(account_id.into()),
            user_id,
            scopes: Some(scopes),
            budget_cents,
            budget_period,
            expires_in: expires_in.duration,
            delegated_by: None,
            name: wanted.name,
            parent: None,
        };
        Ok(NewKey { spec, expires_in: Some(expires_in.text) })
    }

    fn email(&self, value: Option<&serde_json::Value>) -> Result<Option<String>, Response> {
        let Some(value) = value else { return if self.require_email { Err(no_email()) } else { Ok(None) } };
        match value.as_str() {
            Some("") if !self.require_email => Ok(None),
            Some(email) if is_email(email) => Ok(Some(email.to_owned())),
            _ => Err(no_email()),
        }
    }

    fn scopes(&self, wanted: Option<Vec<String>>) -> Result<Vec<String>, Response> {
        let Some(wanted) = wanted else { return Ok(self.scopes.clone()) };
        let refused: Vec<&str> =
            wanted.iter().map(String::as_str).filter(|s| !self.scopes.iter().any(|a| a == s)).collect();
        if refused.is_empty() {
            return Ok(wanted);
        }
        #[derive(Serialize)]
        struct Refusal<'a> {
            error: String,
            allowed: &'a [String],
        }
        let error = format!("Scopes not allowed on signup: {}", refused.join(", "));
        Err(Response::new(400, json(&Refusal { error, allowed: &self.scopes })))
    }

    fn budget(
        &self,
        cents: Option<i64>,
        period: Option<Period>,
    ) -> Result<(Option<i64>, Option<Period>), Response> {
        let Some(budget) = &self.budget else { return Ok((cents, period)) };
        if cents.is_some_and(|cents| cents > budget.max_cents) {
            return Err(Response::bad_request(&format!(
                "budget_cents on signup must be at most {}",
                budget.max_cents
            )));
        }
        if period.is_some() && period != budget.period {
            let allowed = budget.period.map_or_else(|| "absent".to_owned(), |period| period.to_string());
            return Err(Response::bad_request(&format!("budget_period on signup must be {allowed}")));
        }
        Ok((Some(cents.unwrap_or(budget.max_cents)), budget.period))
    }

    /// Never for ever: what signs itself up ends by itself.
    fn lifetime(&self, wanted: Option<Lifetime>) -> Result<Lifetime, Response> {
        match wanted {
            None => Ok(self.usual.clone()),
            Some(wanted) if wanted.duration.is_some() && wanted.duration <= self.longest.duration => {
                Ok(wanted)
            }
            Some(_) => {
                let message =
                    format!("expires_in on signup must be a duration of at most {}", self.longest.text);
                Err(Response::bad_request(&message))
            }
        }
    }
}

fn no_email() -> Response {
    Response::bad_request("Valid email is required")
}

fn is_email(text: &str) -> bool {
    // Counted as JavaScript counts, like the original.
    text.contains('@') && !text.contains('\0') && text.encode_utf16().count() <= LONGEST_EMAIL
}

/// `signup:` and a random UUID.
fn own_account() -> Result<String, Error> {
    crate::random::uuid().map(|uuid| format!("signup:{uuid}"))
}
