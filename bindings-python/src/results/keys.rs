//! Keys: looked up and created.

use agentkey::{Balance, CreatedKey, MICROCENTS_PER_CENT, RawKey};
use chrono::{DateTime, Utc};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Reservation, account_id, decimal_cents, key_id, list, members, repr};

/// A live key, whether its money is told to the micro-cent, and what is held for its request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Caller {
    pub(crate) grant: agentkey::Grant,
    pub(crate) exact: bool,
    pub(crate) reservation: Option<Box<Reservation>>,
}

result_object! {
    /// A live key: what it may do and spend.
    Grant(Caller) with money {
        #[getter]
        fn valid(&self) -> bool {
            true
        }

        #[getter]
        fn reason(&self) -> Option<&str> {
            None
        }

        #[getter]
        fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
            key_id(py, &self.0.grant.id)
        }

        #[getter]
        fn account_id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
            self.0.grant.account_id.as_ref().map(|account| account_id(py, account))
        }

        #[getter]
        fn user_id(&self) -> Option<&str> {
            self.0.grant.user_id.as_deref()
        }

        #[getter]
        fn scopes(&self) -> Option<Vec<&str>> {
            list(self.0.grant.scopes.as_deref())
        }

        #[getter]
        fn budget_cents(&self) -> Option<i64> {
            self.0.grant.budget_cents
        }

        #[getter]
        fn budget_reserved_cents(&self) -> i64 {
            self.0.grant.budget_reserved_cents
        }

        #[getter]
        fn budget_period(&self) -> Option<&str> {
            self.0.grant.budget_period.as_deref()
        }

        #[getter]
        fn budget_reset_at(&self) -> Option<DateTime<Utc>> {
            self.0.grant.budget_reset_at
        }

        #[getter]
        fn expires_at(&self) -> Option<DateTime<Utc>> {
            self.0.grant.expires_at
        }

        #[getter]
        fn delegated_by(&self) -> Option<&str> {
            self.0.grant.delegated_by.as_deref()
        }

        #[getter]
        fn name(&self) -> &str {
            &self.0.grant.name
        }

        #[getter]
        fn reservation(&self) -> Option<Reservation> {
            self.0.reservation.as_deref().cloned()
        }

        /// Whether the key may do `scope`.
        #[pyo3(signature = (scope, /))]
        fn has_scope(&self, scope: &str) -> bool {
            self.0.grant.has_scope(scope)
        }

        fn __bool__(&self) -> bool {
            true
        }
    } [
        "valid", "id", "account_id", "user_id", "scopes", "budget_cents", "budget_used_cents", "budget_reserved_cents",
        "budget_remaining_cents", "budget_period", "budget_reset_at", "expires_at", "delegated_by", "name",
    ] ["budget_used_microcents", "budget_remaining_microcents"]
}

impl Grant {
    fn balance(&self) -> Option<Balance> {
        let grant = &self.0.grant;
        let exactly = |cents: i64| cents.saturating_mul(MICROCENTS_PER_CENT);
        Some(Balance {
            budget_microcents: grant.budget_cents.map(exactly),
            used_microcents: grant.budget_used_microcents,
            reserved_microcents: exactly(grant.budget_reserved_cents),
        })
    }

    fn exact(&self) -> bool {
        self.0.exact
    }
}

result_object! {
    /// A refused key: false.
    Denial(agentkey::Denial) {
        #[getter]
        fn valid(&self) -> bool {
            false
        }

        #[getter]
        fn reason(&self) -> &'static str {
            self.0.reason.as_str()
        }

        #[getter]
        fn limit(&self) -> Option<Limit> {
            self.0.limit.clone().map(Limit)
        }

        /// A refused key may do nothing.
        #[pyo3(signature = (_scope, /), text_signature = "($self, scope, /)")]
        fn has_scope(&self, _scope: &str) -> bool {
            false
        }

        fn __bool__(&self) -> bool {
            false
        }
    } ["valid", "reason"] ["limit"]
}

result_object! {
    /// A budget that stands in the way.
    Limit(agentkey::Limit) {
        #[getter]
        fn key_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
            key_id(py, &self.0.key_id)
        }

        #[getter]
        fn budget_cents(&self) -> i64 {
            self.0.budget_cents
        }

        #[getter]
        fn used_cents(&self) -> i64 {
            self.0.used_cents
        }

        #[getter]
        fn reserved_cents(&self) -> i64 {
            self.0.reserved_cents
        }

        #[getter]
        fn resets_at(&self) -> Option<DateTime<Utc>> {
            self.0.resets_at
        }
    } ["key_id", "budget_cents", "used_cents", "reserved_cents", "resets_at"]
}

result_object! {
    /// A new key, with its secret.
    Created((RawKey, CreatedKey)) {
        #[getter]
        fn key(&self) -> &str {
            self.0.0.expose()
        }

        #[getter]
        fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
            key_id(py, &self.0.1.id)
        }

        #[getter]
        fn scopes(&self) -> Option<Vec<&str>> {
            list(self.0.1.scopes.as_deref())
        }

        #[getter]
        fn budget_cents(&self) -> Option<i64> {
            self.0.1.budget_cents
        }

        #[getter]
        fn budget_period(&self) -> Option<&str> {
            self.0.1.budget_period.as_deref()
        }

        #[getter]
        fn expires_at(&self) -> Option<DateTime<Utc>> {
            self.0.1.expires_at
        }
    } ["key", "id", "scopes", "budget_cents", "budget_period", "expires_at"]
}

result_object! {
    /// Whether scopes are ones that keys may have: false if not.
    ScopeCheck(Vec<String>) {
        #[getter]
        fn valid(&self) -> bool {
            self.0.is_empty()
        }

        #[getter]
        fn invalid(&self) -> Vec<&str> {
            self.0.iter().map(String::as_str).collect()
        }

        fn __bool__(&self) -> bool {
            self.valid()
        }
    } ["valid"] ["invalid"]
}

result_object! {
    /// Counters.
    Stats(agentkey::Stats) {
        #[getter]
        fn statements(&self) -> u64 {
            self.0.statements
        }

        #[getter]
        fn pending(&self) -> usize {
            self.0.pending
        }

        #[getter]
        fn retries(&self) -> u64 {
            self.0.retries
        }

        #[getter]
        fn failed_touches(&self) -> u64 {
            self.0.failed_touches
        }
    } ["statements", "pending", "retries", "failed_touches"]
}

impl From<agentkey::Created> for Created {
    fn from(created: agentkey::Created) -> Self {
        Created((created.key.clone(), created.row()))
    }
}

impl Created {
    /// As JSON, with the secret.
    pub(crate) fn wire(&self) -> String {
        agentkey::gate::wire::created(self.0.0.expose(), &self.0.1)
    }
}
