//! What the ledger tells.

use chrono::{DateTime, Utc};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{key_id, members, repr};

result_object! {
    /// An entry of the ledger.
    Event(agentkey::Event) {
        #[getter]
        fn id(&self) -> i64 {
            self.0.id
        }

        #[getter]
        fn at(&self) -> DateTime<Utc> {
            self.0.at
        }

        #[getter]
        fn key_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
            key_id(py, &self.0.key_id)
        }

        #[getter]
        fn account_id(&self) -> Option<&str> {
            self.0.account_id.as_deref()
        }

        #[getter]
        fn kind(&self) -> &str {
            &self.0.kind
        }

        #[getter]
        fn amount_microcents(&self) -> Option<i64> {
            self.0.amount_microcents
        }

        #[getter]
        fn used_after_microcents(&self) -> Option<i64> {
            self.0.used_after_microcents
        }

        #[getter]
        fn reserved_after_microcents(&self) -> Option<i64> {
            self.0.reserved_after_microcents
        }

        #[getter]
        fn remaining_after_microcents(&self) -> Option<i64> {
            self.0.remaining_after_microcents
        }

        #[getter]
        fn idempotency_key(&self) -> Option<&str> {
            self.0.idempotency_key.as_deref()
        }

        #[getter]
        fn reservation_id(&self) -> Option<&str> {
            self.0.reservation_id.as_deref()
        }

        #[getter]
        fn via_key_id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
            self.0.via_key_id.as_ref().map(|id| key_id(py, id))
        }

        #[getter]
        fn actor(&self) -> Option<&str> {
            self.0.actor.as_deref()
        }

        #[getter]
        fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
            let metadata = self.0.metadata.as_ref().map(ToString::to_string);
            metadata.map(|text| py.import("json")?.call_method1("loads", (text,))).transpose()
        }
    } [
        "id", "at", "key_id", "account_id", "kind", "amount_microcents", "used_after_microcents",
        "reserved_after_microcents", "remaining_after_microcents", "idempotency_key", "reservation_id", "via_key_id",
        "actor", "metadata",
    ]
}

result_object! {
    /// What a key spent in a period.
    UsageOfPeriod(agentkey::UsageOfPeriod) {
        #[getter]
        fn from_(&self) -> DateTime<Utc> {
            self.0.from
        }

        #[getter]
        fn spent_microcents(&self) -> i64 {
            self.0.spent_microcents
        }

        #[getter]
        fn charges(&self) -> i64 {
            self.0.charges
        }
    } ["from_", "spent_microcents", "charges"]
}

result_object! {
    /// A key whose counters are not what the ledger says.
    Discrepancy(agentkey::Discrepancy) {
        #[getter]
        fn key_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
            key_id(py, &self.0.key_id)
        }

        #[getter]
        fn used_microcents(&self) -> i64 {
            self.0.used_microcents
        }

        #[getter]
        fn ledger_microcents(&self) -> i64 {
            self.0.ledger_microcents
        }

        #[getter]
        fn reserved_microcents(&self) -> i64 {
            self.0.reserved_microcents
        }

        #[getter]
        fn held_microcents(&self) -> i64 {
            self.0.held_microcents
        }
    } ["key_id", "used_microcents", "ledger_microcents", "reserved_microcents", "held_microcents"]
}
