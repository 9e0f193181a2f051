//! Deliveries as JSON, as a binding sends them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answers::json;
use crate::engine::webhook::Delivery;

pub(super) fn claimed(deliveries: &[Delivery]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        event_id: i64,
        attempt: u32,
        headers: BTreeMap<&'static str, String>,
        body: &'a str,
    }
    fn fields(delivery: &Delivery) -> Fields<'_> {
        Fields {
            event_id: delivery.event_id,
            attempt: delivery.attempt,
            headers: delivery.headers().into_iter().collect(),
            body: &delivery.body,
        }
    }
    json(&deliveries.iter().map(fields).collect::<Vec<_>>())
}
