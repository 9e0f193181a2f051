//! Alarms as they come, and their deliveries to webhooks.

use std::time::Duration;

use super::AgentKey;
use super::calls::mismatch;
use crate::budget::ledger::{Event, EventFilter};
use crate::engine::{Answer, Delivery, DeliveryEnd, DeliveryFilter, OpenDelivery, Request, Webhook};
use crate::error::{Error, ErrorCode};

/// Attempts of one call of `deliver` at most.
const DELIVERIES: u32 = 10;
const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// How often new entries are looked for.
const LOOK: Duration = Duration::from_secs(1);

impl AgentKey {
    /// Entries of the ledger as they come, those of [`EventFilter::after`] first; without it those that are written from the
    /// first call of [`Events::next`] on.
    ///
    /// ```no_run
    /// # async fn example(ak: &agentkey::AgentKey) -> Result<(), agentkey::Error> {
    /// let mut alarms = ak.follow(agentkey::EventFilter::new().alarms());
    /// while let Some(alarm) = alarms.next().await? {
    ///     println!("{}: {} {:?}", alarm.key_id, alarm.kind, alarm.metadata);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(&self, filter: EventFilter) -> Events {
        Events { ak: self.clone(), filter, page: Vec::new().into_iter() }
    }

    /// Delivers what is due of a webhook's alarms, and says how many attempts were made: 0 is time for a pause. `send` makes
    /// the POST, follows no redirect, and answers the status, or a word why there was none; it has 15 seconds. Any number of
    /// processes may call it: a delivery is one process's at a time. Alarms count from when a webhook is first delivered to.
    ///
    /// # Errors
    /// `migration_required` if there is no outbox.
    pub async fn deliver<F, S>(&self, webhook: &Webhook, send: F) -> Result<u32, Error>
    where
        F: Fn(Delivery) -> S,
        S: Future<Output = Result<u16, String>>,
    {
        let mut attempts = 0;
        while attempts < DELIVERIES {
            let claim = Request::ClaimDeliveries(webhook.clone(), 1);
            let claimed: Vec<Delivery> = match self.call(claim).await? {
                Answer::Claimed(claimed) => claimed,
                other => return Err(mismatch(&other)),
            };
            let Some(delivery) = claimed.into_iter().next() else { break };
            attempts += 1;
            let sent = tokio::time::timeout(SEND_TIMEOUT, send(delivery.clone())).await;
            let end = DeliveryEnd::of(webhook, &delivery, sent.unwrap_or_else(|_| Err("timeout".to_owned())));
            match self.call(Request::EndDelivery(end)).await? {
                Answer::DeliveryEnded(_) => {}
                other => return Err(mismatch(&other)),
            }
        }
        Ok(attempts)
    }

    /// Deliveries that are not done, the latest first.
    ///
    /// # Errors
    /// `migration_required` if there is no outbox.
    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<OpenDelivery>, Error> {
        match self.call(Request::Deliveries(filter)).await? {
            Answer::Deliveries(deliveries) => Ok(deliveries),
            other => Err(mismatch(&other)),
        }
    }
}

/// Entries of the ledger as they come: see [`AgentKey::follow`].
#[derive(Debug)]
pub struct Events {
    ak: AgentKey,
    filter: EventFilter,
    page: std::vec::IntoIter<Event>,
}

impl Events {
    /// The next entry, once it is there; `None` when the client is closed. Nothing is lost if this future is dropped.
    ///
    /// # Errors
    /// Those of [`AgentKey::events`]. The next call goes on where this one failed.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.page.next() {
                self.filter.after = Some(event.id);
                return Ok(Some(event));
            }
            let page = match self.filter.after {
                Some(_) => self.ak.events(self.filter.clone()).await,
                None => self.begin().await,
            };
            match page {
                Err(error) if error.code() == ErrorCode::Closed => return Ok(None),
                page => self.page = page?.into_iter(),
            }
            if self.page.len() == 0 {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    async fn begin(&mut self) -> Result<Vec<Event>, Error> {
        let latest = self.ak.events(EventFilter::new().limit(1)).await?;
        self.filter.after = Some(latest.first().map_or(0, |event| event.id));
        Ok(Vec::new())
    }
}
