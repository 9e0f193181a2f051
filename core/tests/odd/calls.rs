//! The calls of a key, what they may answer, and the books that are kept of them.

use std::sync::atomic::Ordering::Relaxed;

use agentkey::{
    Charge, ChargeRefusal, Cost, CreateKey, Error, ErrorCode, ReservationId, ReservationRefusal, Reserve,
    Settlement,
};

use super::World;
use super::keys::{EMOJI, Key};

impl World {
    /// What a call of a key answered. A good key has no errors, except for a text that the database cannot store.
    pub fn heard<T>(&self, key: &Key, text: &str, answer: Result<T, Error>) -> Option<T> {
        let is_foreign = !self.is_utf8 && text.contains(EMOJI);
        let error = match answer {
            Ok(_) if is_foreign => panic!("{text} cannot be stored"),
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        let sqlstate = error.sqlstate().unwrap_or_default().to_owned();
        match (is_foreign, key.odd) {
            (true, _) => assert_eq!((error.code(), sqlstate.as_str()), (ErrorCode::Database, "22P05")),
            (false, None) => panic!("a good key has an error: {error:?}"),
            (false, Some(values)) => {
                assert_eq!(error.code(), ErrorCode::Database, "{values}: {error}");
                assert!(["22", "P0"].contains(&&sqlstate[..2]), "{values}: {error:?}");
            }
        }
        assert!(!error.may_have_been_recorded(), "{error:?}");
        *self.heard.lock().unwrap().entry(format!("error {sqlstate}")).or_default() += 1;
        None
    }

    /// What a call of a key was refused for. A good key may have no room, and that is all.
    pub fn refused(&self, key: &Key, reason: &str) {
        assert!(key.odd.is_some() || reason == "budget_exceeded", "a good key was refused: {reason}");
        if key.odd.is_some() {
            *self.heard.lock().unwrap().entry(format!("refused {reason}")).or_default() += 1;
        }
    }

    pub fn note(&self, key: &Key, used: i64, held: i64) {
        for n in &key.chain {
            self.books[*n].used.fetch_add(used, Relaxed);
            self.books[*n].held.fetch_add(held, Relaxed);
        }
    }

    pub async fn charge(&self, key: &Key, charge: Charge, text: &str, cost: i64) -> bool {
        let charged = match key.is_subject {
            true => self.ak.track_usage_by_subject(&key.secret, charge).await,
            false => self.ak.track_usage(&key.secret, charge).await,
        };
        match self.heard(key, text, charged) {
            Some(Ok(charged)) if !charged.replayed => {
                self.note(key, cost, 0);
                true
            }
            Some(Err(refusal)) => {
                self.refused(key, &refusal.to_string());
                false
            }
            Some(Ok(_)) | None => false,
        }
    }

    pub async fn reserve(
        &self,
        key: &Key,
        reserve: Reserve,
        text: &str,
        amount: i64,
    ) -> Option<ReservationId> {
        let held = match key.is_subject {
            true => self.ak.reserve_by_subject(&key.secret, reserve).await,
            false => self.ak.reserve(&key.secret, reserve).await,
        };
        match self.heard(key, text, held)? {
            Ok(held) => {
                assert!(!held.replayed);
                self.note(key, 0, amount);
                Some(held.id)
            }
            Err(refusal) => {
                self.refused(key, refusal.reason.as_str());
                None
            }
        }
    }

    pub async fn settle(&self, key: &Key, id: &ReservationId, held: i64, cost: i64) {
        let settled = self.ak.settle(id, Cost::Microcents(cost)).await;
        match self.heard(key, "", settled) {
            Some(Ok(Settlement { replayed, .. })) => {
                assert!(!replayed);
                self.note(key, cost, -held);
            }
            Some(Err(refusal)) => {
                assert!(matches!(refusal, ReservationRefusal::Unrecordable { .. }), "{refusal:?}");
                self.refused(key, "unrecordable");
                self.release(key, id, held).await;
            }
            None => {}
        }
    }

    pub async fn release(&self, key: &Key, id: &ReservationId, held: i64) {
        if let Some(released) = self.heard(key, "", self.ak.release(id).await) {
            assert_eq!(released, Ok(true));
            self.note(key, 0, -held);
        }
    }

    /// A child lives and dies.
    pub async fn child(&self, parent: &Key, cost: i64) {
        let spec = CreateKey::child_of(parent.id.clone()).budget_cents(1_000);
        let created = match self.ak.create(spec).await {
            Ok(created) => created,
            Err(error) => {
                assert!(parent.odd.is_some() && error.code() == ErrorCode::InvalidParent, "{error:?}");
                return self.refused(parent, "invalid_parent");
            }
        };
        let secret = created.key.expose().to_owned();
        let child = Key { id: created.id, secret, ..draws_of(parent) };
        self.charge(&child, Charge::new(Cost::Microcents(cost)), "", cost).await;
        // A child has its parent's account, for which a trigger may raise.
        let Some(revoked) = self.heard(parent, "", self.ak.revoke(child.id).await) else { return };
        assert!(revoked);
        let late = self.ak.track_usage(&child.secret, 1).await;
        if let Some(late) = self.heard(parent, "", late) {
            assert_eq!(late, Err(ChargeRefusal::InvalidKey));
        }
    }
}

/// A key that draws on the same budgets.
pub fn draws_of(key: &Key) -> Key {
    let (id, chain) = (key.id.clone(), key.chain.clone());
    Key { id, secret: String::new(), is_subject: false, chain, odd: key.odd }
}
