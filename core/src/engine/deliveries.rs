//! Deliveries of alarms to webhooks: taken by one process at a time, and ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Answer;
use super::admin::{Admin, Next, Plan};
use super::rows::ledger::{read_claimed, read_json};
use super::rows::only_field;
use super::webhook::{DeliveryEnd, Webhook};
use crate::error::Error;
use crate::id::KeyId;
use crate::table::shape::ALARMS;
use crate::table::template::{StatementKind, Statements};

/// A sender has to say within it what became of a delivery; after it the delivery is anybody's.
const LEASE: Duration = Duration::from_secs(60);
/// So often the place in the ledger moves on within a call.
const MOVES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// Which deliveries are shown. Every member may stay unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeliveryFilter {
    /// Only of the webhook of this name.
    pub webhook: Option<String>,
    /// Only those that are not tried again.
    pub dead: bool,
    /// How many at most: 100 if unset, never more than 1,000.
    pub limit: Option<u32>,
}

impl DeliveryFilter {
    /// All.
    pub fn new() -> Self {
        DeliveryFilter::default()
    }

    /// Only of the webhook of this name.
    pub fn webhook(mut self, name: impl Into<String>) -> Self {
        self.webhook = Some(name.into());
        self
    }

    /// Only those that are not tried again.
    pub fn dead(mut self) -> Self {
        self.dead = true;
        self
    }

    /// So many at most.
    pub fn limit(mut self, deliveries: u32) -> Self {
        self.limit = Some(deliveries);
        self
    }
}

/// A delivery that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OpenDelivery {
    /// The webhook's name.
    pub webhook: String,
    /// The event.
    pub event_id: i64,
    /// The key that it is about.
    pub key_id: KeyId,
    /// The event's kind.
    pub kind: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again, ISO 8601; `None` if it is dead.
    pub next_at: Option<String>,
    /// Since when it is dead.
    pub dead_at: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// An operation on deliveries.
#[derive(Debug, Clone)]
pub(super) enum DeliveryWork {
    Claim { webhook: Webhook, most: u32, moves: u32 },
    End(DeliveryEnd),
    List(DeliveryFilter),
}

impl DeliveryWork {
    pub(super) fn plan(&self, statements: &Statements) -> Result<Plan, Error> {
        statements.shape.require(&["+events", ALARMS])?;
        let text = |text: &dyn ToString| Some(text.to_string());
        let (kind, params) = match self {
            DeliveryWork::Claim { webhook, most, .. } => {
                let params = vec![text(&webhook.name()), text(most), text(&LEASE.as_secs()), text(&true)];
                (StatementKind::ClaimDeliveries, params)
            }
            DeliveryWork::End(end) => {
                let (what, seconds, why) = end.decided();
                let of = [text(&end.webhook), text(&end.event_id), text(&end.attempt)];
                let params = of.into_iter().chain([text(&what), text(&seconds), why]).collect();
                (StatementKind::EndDelivery, params)
            }
            DeliveryWork::List(DeliveryFilter { webhook, dead, limit }) => {
                let most = limit.unwrap_or(100).clamp(1, 1_000);
                let dead = dead.then(|| "true".to_owned());
                (StatementKind::Deliveries, vec![webhook.clone(), dead, text(&most)])
            }
        };
        Ok(Plan::Send(kind, statements.sql(kind), params))
    }

    pub(super) fn after(&self, rows: &[String]) -> Result<Next, Error> {
        Ok(Next::Answer(match self {
            DeliveryWork::Claim { webhook, most, moves } => {
                let (has_moved, claimed) = read_claimed(rows)?;
                if claimed.is_empty() && has_moved && *moves < MOVES {
                    let pause = FIRST_PAUSE * (1 << moves);
                    let again =
                        DeliveryWork::Claim { webhook: webhook.clone(), most: *most, moves: moves + 1 };
                    return Ok(Next::Pause(pause, Admin::Deliveries(again)));
                }
                let deliveries =
                    claimed.iter().map(|(event, attempt, time)| webhook.delivery(event, *attempt, *time));
                Answer::Claimed(deliveries.collect())
            }
            DeliveryWork::End(_) => {
                let ended: Option<u64> = rows.first().and_then(|row| only_field(row)?.parse().ok());
                Answer::DeliveryEnded(ended.ok_or_else(|| Error::unexpected("a count of deliveries"))? > 0)
            }
            DeliveryWork::List(_) => Answer::Deliveries(read_json(rows)?),
        }))
    }
}
