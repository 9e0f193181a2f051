//! The HTTP policy of the core, for frameworks to carry.

use agentkey::gate;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::args::{in_range, texts};
use crate::errors::{raise, wrong_value};
use crate::results::{Caller, Grant, Reservation, Told};

/// What a handler requires of a caller.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Guard(pub(crate) gate::Guard);

#[pymethods]
impl Guard {
    #[new]
    #[pyo3(signature = (*, scope, budget_headers))]
    fn new(scope: Option<String>, budget_headers: bool) -> Self {
        let guard = gate::Guard::new().budget_headers(budget_headers);
        Guard(match scope {
            Some(scope) => guard.scope(scope),
            None => guard,
        })
    }
}

/// A caller who may pass.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Pass {
    pass: gate::Pass,
    exact: bool,
    reservation: Option<agentkey::Reservation>,
}

#[pymethods]
impl Pass {
    #[getter]
    fn grant(&self) -> Grant {
        let exact = self.exact;
        let reservation = self.reservation.clone().map(|of| Box::new(Reservation(Told { of, exact })));
        Grant(Caller { grant: self.pass.grant.clone(), exact, reservation })
    }

    /// For the handler's response.
    #[getter]
    fn headers(&self) -> Vec<(&str, &str)> {
        headers(&self.pass.headers)
    }
}

/// A response to send as it is.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Response(pub(crate) gate::Response);

#[pymethods]
impl Response {
    #[getter]
    fn status(&self) -> u16 {
        self.0.status
    }

    #[getter]
    fn headers(&self) -> Vec<(&str, &str)> {
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

/// What a guard decides.
#[derive(IntoPyObject)]
#[allow(clippy::large_enum_variant, reason = "the large one is by far the most common")]
pub(crate) enum Admission {
    Passed(Pass),
    Refused(Response),
}

impl Admission {
    /// A pass, with what is held for its request.
    pub(crate) fn of(
        decision: Result<(gate::Pass, Option<agentkey::Reservation>), gate::Response>,
        exact: bool,
    ) -> Self {
        match decision {
            Ok((pass, reservation)) => Admission::Passed(Pass { pass, exact, reservation }),
            Err(response) => Admission::Refused(Response(response)),
        }
    }
}

/// What a request presents.
#[derive(IntoPyObject)]
pub(crate) enum Presented {
    Key(String),
    Nothing(Response),
}

impl Presented {
    pub(crate) fn of(authorization: Option<&str>) -> Self {
        match gate::Guard::new().begin(authorization) {
            Ok(token) => Presented::Key(token.expose().to_owned()),
            Err(response) => Presented::Nothing(Response(response)),
        }
    }
}

/// The self-serve routes.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Routes(pub(crate) gate::Routes);

#[pymethods]
impl Routes {
    #[new]
    #[pyo3(signature = (*, signup_scopes, require_email_for_signup, signup_rate_limit, signup_account, signup_max_expires_in, signup_budget, revoke_policy))]
    fn new(
        signup_scopes: Option<&Bound<'_, PyAny>>,
        require_email_for_signup: bool,
        signup_rate_limit: Option<(i64, i64)>,
        signup_account: &str,
        signup_max_expires_in: String,
        signup_budget: Option<(i64, Option<String>)>,
        revoke_policy: &str,
    ) -> PyResult<Self> {
        let rate_limit = |(max, seconds)| {
            Ok::<_, PyErr>(gate::RateLimit {
                max: in_range("signup_rate_limit", max, 0, i64::from(u32::MAX))?,
                window_seconds: in_range("signup_rate_limit", seconds, 1, i64::from(u32::MAX))?,
            })
        };
        let options = gate::RouteOptions {
            signup_scopes: signup_scopes.map(|scopes| texts("signup_scopes", scopes)).transpose()?,
            require_email_for_signup,
            signup_rate_limit: signup_rate_limit.map(rate_limit).transpose()?,
            signup_account: match signup_account {
                "generated" => gate::SignupAccount::Generated,
                "email" => gate::SignupAccount::Email,
                _ => return Err(wrong_value("signup_account must be \"generated\" or \"email\"")),
            },
            signup_max_expires_in,
            signup_budget: signup_budget.map(|(max_cents, period)| gate::SignupBudget { max_cents, period }),
            revoke_policy: match revoke_policy {
                "account" => gate::RevokePolicy::Account,
                "descendants" => gate::RevokePolicy::Descendants,
                _ => return Err(wrong_value("revoke_policy must be \"account\" or \"descendants\"")),
            },
        };
        gate::Routes::new(&options).map(Routes).map_err(raise)
    }
}

fn headers(headers: &[gate::Header]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (*name, value.as_ref())).collect()
}
