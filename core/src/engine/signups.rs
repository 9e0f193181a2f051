//! Signups, counted by client for all processes that share a table.

use super::Answer;
use super::admin::{Admin, Next, Plan};
use super::busy::Look;
use super::rows::fields;
use crate::error::Error;
use crate::table::shape::SIGNUPS;
use crate::table::template::{StatementKind, Statements};

/// So many clients whose hashes begin alike have counts of their own in one window; the others of these share one. There
/// are 256 such beginnings, so a flood of addresses leaves about 100,000 rows at most.
const MOST_OF_SHARD: u32 = 400;

/// A signup of a client, and how many it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignupCount {
    /// Whose it is: a SHA-256 in lower-case hexadecimal digits, as no address is stored.
    pub client: String,
    /// How many a client may have in one window.
    pub max: u32,
    /// The window's length, from a client's first signup on.
    pub window_seconds: u32,
}

impl SignupCount {
    /// So many signups in a window of so many seconds.
    pub fn new(client: impl Into<String>, max: u32, window_seconds: u32) -> Self {
        SignupCount { client: client.into(), max, window_seconds }
    }

    pub(super) fn plan(&self, look: Look, statements: &Statements) -> Result<Plan, Error> {
        statements.shape.require(&[SIGNUPS])?;
        if self.max == 0 {
            return Ok(Plan::Answer(Answer::SignupCounted(Err(self.window_seconds.max(1)))));
        }
        let numbers = [self.max, self.window_seconds, MOST_OF_SHARD].map(|number| Some(number.to_string()));
        let mut params = vec![Some(self.client.clone())];
        params.extend(numbers);
        params.push(look.is_waiting.then(|| "true".to_owned()));
        let kind = StatementKind::CountSignup;
        Ok(Plan::Send(kind, statements.sql(kind), params))
    }

    pub(super) fn after(&self, look: Look, rows: &[String]) -> Result<Next, Error> {
        let wrong = || Error::unexpected("a count of signups");
        let [state, seconds] = fields(rows.first().ok_or_else(wrong)?, "a count of signups")?;
        match state.as_deref() {
            Some("counted") => Ok(Next::Answer(Answer::SignupCounted(Ok(())))),
            Some("full") => {
                let seconds: i64 = seconds.and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
                let longest = i64::from(self.window_seconds.max(1));
                let seconds = u32::try_from(seconds.clamp(1, longest)).map_err(|_| wrong())?;
                Ok(Next::Answer(Answer::SignupCounted(Err(seconds))))
            }
            Some("busy") => Ok(Next::LookAgain(Admin::CountSignup(self.clone(), look))),
            _ => Err(wrong()),
        }
    }
}
