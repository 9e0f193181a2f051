//! Where each request goes.

use std::sync::Arc;

use super::admin::Admin;
use super::batch::Pending;
use super::busy::Look;
use super::deliveries::DeliveryWork;
use super::explain::Explain;
use super::follow::Follow;
use super::increases::IncreaseWork;
use super::keys::KeyWork;
use super::ledger::LedgerWork;
use super::list::List;
use super::refund::Refund;
use super::rotate::Rotation;
use super::rows::ended::ReservationChange;
use super::rows::new_row::NewRow;
use super::sweep::Sweep;
use super::{Credential, Engine, Request};
use crate::budget::reservation::check_ttl;
use crate::error::Error;
use crate::key::raw::KeyFormat;
use crate::table::shape::MAX_INDEXED_BYTES;
use crate::table::template::KeyColumn;

impl Engine {
    /// Puts a request into its lane, or answers it where no statement is needed.
    pub(super) fn route(&mut self, caller: Pending<()>, request: Request) -> Result<(), Error> {
        match request {
            Request::Validate(credential) => self.route_lookup(caller, credential),
            Request::Charge(credential, mut charge) => {
                charge.cost = self.options.limited(charge.cost);
                return self.route_charge(caller, credential, charge);
            }
            Request::Reserve(credential, mut reserve) => {
                reserve.cost = self.options.limited(reserve.cost);
                return self.route_spend(caller, credential, reserve.try_into()?);
            }
            Request::Settle(id, cost) => {
                let cost = self.options.limited(cost);
                self.route_change(caller, &id, ReservationChange::Settle(cost));
            }
            Request::Release(id) => self.route_change(caller, &id, ReservationChange::Release),
            Request::Extend(id, ttl) => {
                check_ttl(ttl)?;
                self.route_change(caller, &id, ReservationChange::Extend(ttl));
            }
            Request::Refund(key_id, refund) => {
                let refund = Refund::new(key_id, refund.try_into()?)?;
                self.route_admin(caller, Admin::Refund(Box::new(refund)));
            }
            Request::SweepReservations => self.route_admin(caller, Admin::Sweep(Sweep::default())),
            Request::Create(spec) => {
                let row = NewRow::for_key(spec, &self.options)?;
                self.route_admin(caller, Admin::Insert(Box::new(row)));
            }
            Request::EnsureSubject(subject, spec) => {
                let row = NewRow::for_subject(subject, spec, &self.options)?;
                self.route_admin(caller, Admin::Insert(Box::new(row)));
            }
            Request::Get(id) => self.route_admin(caller, Admin::Keys(KeyWork::Get(id))),
            Request::Explain(credential, cost) => {
                let explain = Explain::new(self.text_of(credential), self.options.limited(cost));
                self.route_admin(caller, Admin::Keys(KeyWork::Explain(explain)));
            }
            Request::List(filter) => {
                let list = List::new(filter)?;
                self.route_admin(caller, Admin::Keys(KeyWork::List(Box::new(list))));
            }
            Request::Update(id, changes) => {
                let work = KeyWork::update(id, changes, &self.options)?;
                self.route_admin(caller, Admin::Keys(work));
            }
            Request::Rotate(of, rotate) => {
                let rotation = Rotation::new(of, rotate, &self.options)?;
                self.route_admin(caller, Admin::Rotate(Box::new(rotation)));
            }
            Request::RequestIncrease(of, request) => {
                request.check()?;
                let work = IncreaseWork::Request(self.text_of(of), request);
                self.route_admin(caller, Admin::Keys(KeyWork::Increases(Box::new(work))));
            }
            Request::ListIncreases(filter) => {
                let work = IncreaseWork::List(filter);
                self.route_admin(caller, Admin::Keys(KeyWork::Increases(Box::new(work))));
            }
            Request::DecideIncrease(id, decision) => {
                decision.check()?;
                let work = IncreaseWork::Decide(id, decision, Look::default());
                self.route_admin(caller, Admin::Keys(KeyWork::Increases(Box::new(work))));
            }
            Request::Revoke(revocation) => {
                self.route_admin(caller, Admin::Revoke(revocation, Look::default()))
            }
            Request::RevokeAll(filter) => self.route_admin(caller, Admin::RevokeAll(filter.into())),
            Request::Events(filter) => {
                filter.check()?;
                let work = match filter.after {
                    Some(id) => LedgerWork::Follow(Follow::new(filter, id)),
                    None => LedgerWork::Events(filter),
                };
                self.route_admin(caller, Admin::Ledger(work));
            }
            Request::Usage(filter) => {
                filter.by.of_calendar()?;
                self.route_admin(caller, Admin::Ledger(LedgerWork::Usage(filter)));
            }
            Request::VerifyLedger(id) => self.route_admin(caller, Admin::Ledger(LedgerWork::Verify(id))),
            Request::PruneEvents(age) => self.route_admin(caller, Admin::Ledger(LedgerWork::Prune(age))),
            Request::ClaimDeliveries(webhook, most) => {
                let work = DeliveryWork::Claim { webhook, most: most.clamp(1, 100), moves: 0 };
                self.route_admin(caller, Admin::Deliveries(work));
            }
            Request::EndDelivery(end) => self.route_admin(caller, Admin::Deliveries(DeliveryWork::End(end))),
            Request::Deliveries(filter) => {
                self.route_admin(caller, Admin::Deliveries(DeliveryWork::List(filter)));
            }
            Request::CountSignup(signup) => {
                self.route_admin(caller, Admin::CountSignup(signup, Look::default()));
            }
            Request::Diagnose(of) => self.route_admin(caller, Admin::Diagnose(of)),
            // A migration may take as long as it takes.
            Request::Migrate => {
                self.route_admin(caller, Admin::Migrate { step: 0 });
            }
        }
        Ok(())
    }

    /// The column and text of a credential; `None` if no row can have it.
    pub(super) fn text_of(&self, credential: Credential) -> Option<(KeyColumn, Arc<str>)> {
        match credential {
            Credential::Mistyped(_) if self.options.key_format == KeyFormat::Checksum => None,
            credential => text_of(credential),
        }
    }
}

/// The column and text of a credential; `None` if no row can have it.
pub(super) fn text_of(credential: Credential) -> Option<(KeyColumn, Arc<str>)> {
    match credential {
        Credential::Key(hash) | Credential::Mistyped(hash) => Some((KeyColumn::KeyHash, hash.into_text())),
        Credential::Subject(subject) => (subject.len() <= MAX_INDEXED_BYTES && !subject.contains('\0'))
            .then(|| (KeyColumn::Subject, Arc::from(subject))),
        Credential::Id(id) => Some((KeyColumn::Id, Arc::from(id.to_string()))),
    }
}
