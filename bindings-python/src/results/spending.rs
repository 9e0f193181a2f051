//! Charges and reservations.

use agentkey::{Balance, ChargeRefusal, RefusedReserve};
use chrono::{DateTime, Utc};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Limit, Told, decimal_cents, members, repr, whole_cents};

result_object! {
    /// A charge that is recorded.
    Usage(Told<Option<agentkey::Recorded>>) with money {
        #[getter]
        fn success(&self) -> bool {
            true
        }

        #[getter]
        fn reason(&self) -> Option<&str> {
            None
        }

        #[getter]
        fn over_budget(&self) -> bool {
            self.overage_cents().is_some()
        }

        #[getter]
        fn overage_cents(&self) -> Option<i64> {
            let over = self.balance().map(|balance| balance.over_microcents());
            over.filter(|over| *over > 0).map(whole_cents)
        }

        #[getter]
        fn replayed(&self) -> bool {
            self.0.of.is_some_and(|recorded| recorded.replayed)
        }

        fn __bool__(&self) -> bool {
            true
        }
    } ["success", "budget_used_cents", "budget_remaining_cents"] [
        "over_budget", "overage_cents", "budget_used_microcents", "budget_remaining_microcents", "replayed",
    ]
}

impl Usage {
    fn balance(&self) -> Option<Balance> {
        self.0.of.map(|recorded| recorded.balance)
    }

    fn exact(&self) -> bool {
        self.0.exact
    }
}

result_object! {
    /// A refused charge: false.
    UsageRefusal(ChargeRefusal) {
        #[getter]
        fn success(&self) -> bool {
            false
        }

        #[getter]
        fn reason(&self) -> &'static str {
            self.0.as_str()
        }

        fn __bool__(&self) -> bool {
            false
        }
    } ["success", "reason"]
}

result_object! {
    /// An amount that is held.
    Reservation(Told<agentkey::Reservation>) with money {
        #[getter]
        fn success(&self) -> bool {
            true
        }

        #[getter]
        fn reason(&self) -> Option<&str> {
            None
        }

        #[getter]
        fn reservation_id(&self) -> &str {
            self.0.of.id.as_str()
        }

        #[getter]
        fn expires_at(&self) -> DateTime<Utc> {
            self.0.of.expires_at
        }

        #[getter]
        fn budget_reserved_cents(&self) -> i64 {
            self.0.of.balance.reserved_cents()
        }

        #[getter]
        fn replayed(&self) -> bool {
            self.0.of.replayed
        }

        fn __bool__(&self) -> bool {
            true
        }
    } [
        "success", "reservation_id", "expires_at", "budget_used_cents", "budget_remaining_cents",
        "budget_reserved_cents",
    ] ["budget_used_microcents", "budget_remaining_microcents", "replayed"]
}

impl Reservation {
    fn balance(&self) -> Option<Balance> {
        Some(self.0.of.balance)
    }

    fn exact(&self) -> bool {
        self.0.exact
    }
}

result_object! {
    /// A refused reserve: false.
    ReserveRefusal(RefusedReserve) {
        #[getter]
        fn success(&self) -> bool {
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

        fn __bool__(&self) -> bool {
            false
        }
    } ["success", "reason"] ["limit"]
}

result_object! {
    /// A settled reservation.
    Settlement(Told<agentkey::Settlement>) with money {
        #[getter]
        fn success(&self) -> bool {
            true
        }

        #[getter]
        fn reason(&self) -> Option<&str> {
            None
        }

        #[getter]
        fn cost_cents(&self) -> i64 {
            whole_cents(self.0.of.cost_microcents)
        }

        #[getter]
        fn cost_microcents(&self) -> Option<i64> {
            self.0.exact.then_some(self.0.of.cost_microcents)
        }

        #[getter]
        fn cost<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
            decimal_cents(py, self.0.of.cost_microcents)
        }

        #[getter]
        fn overage_cents(&self) -> i64 {
            whole_cents(self.0.of.overage_microcents)
        }

        #[getter]
        fn replayed(&self) -> bool {
            self.0.of.replayed
        }

        fn __bool__(&self) -> bool {
            true
        }
    } ["success", "cost_cents", "overage_cents", "budget_used_cents", "budget_remaining_cents"] [
        "cost_microcents", "budget_used_microcents", "budget_remaining_microcents", "replayed",
    ]
}

impl Settlement {
    fn balance(&self) -> Option<Balance> {
        Some(self.0.of.balance)
    }

    fn exact(&self) -> bool {
        self.0.exact
    }
}

result_object! {
    /// A reservation that is released, or ended otherwise before.
    Released(bool) {
        #[getter]
        fn success(&self) -> bool {
            true
        }

        #[getter]
        fn reason(&self) -> Option<&str> {
            None
        }

        #[getter]
        fn released(&self) -> bool {
            self.0
        }

        fn __bool__(&self) -> bool {
            true
        }
    } ["success", "released"]
}

result_object! {
    /// A reservation that lives longer.
    Extended(DateTime<Utc>) {
        #[getter]
        fn success(&self) -> bool {
            true
        }

        #[getter]
        fn reason(&self) -> Option<&str> {
            None
        }

        #[getter]
        fn expires_at(&self) -> DateTime<Utc> {
            self.0
        }

        fn __bool__(&self) -> bool {
            true
        }
    } ["success", "expires_at"]
}

result_object! {
    /// A reservation that was not settled, released or extended: false.
    FinishRefusal(agentkey::FinishRefusal) {
        #[getter]
        fn success(&self) -> bool {
            false
        }

        #[getter]
        fn reason(&self) -> &'static str {
            self.0.as_str()
        }

        fn __bool__(&self) -> bool {
            false
        }
    } ["success", "reason"]
}
