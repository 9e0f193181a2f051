//! Revocations: of one key, and of many.

use super::admin::{Admin, Next};
use super::busy::Look;
use super::rows::{fields, is_true};
use super::{AccountFilter, Answer, Revocation, RevokeFilter};
use crate::error::Error;
use crate::id::KeyId;
use crate::table::shape::TableShape;

/// Revocations of many keys: of all that nobody else has locked at once, then of the others, one after the other.
#[derive(Debug, Clone)]
pub(super) struct RevokeAll {
    filter: RevokeFilter,
    revoked: u64,
    /// The id of a row that somebody else had locked.
    busy: Option<String>,
    /// How it goes about such rows: a few times it looks again, then it waits for one after the other.
    pub(super) look: Look,
}

impl From<RevokeFilter> for RevokeAll {
    fn from(filter: RevokeFilter) -> Self {
        RevokeAll { filter, revoked: 0, busy: None, look: Look::default() }
    }
}

impl RevokeAll {
    pub(super) fn after(mut self, rows: &[String]) -> Result<Next, Error> {
        self.busy = None;
        for row in rows {
            let [id, revoked] = fields(row, "a key to be revoked")?;
            match (id, is_true(&revoked)) {
                (_, true) => self.revoked += 1,
                (Some(id), false) => self.busy = Some(id.into_owned()),
                (None, false) => return Err(Error::unexpected("a key without an id")),
            }
        }
        Ok(match self.busy {
            Some(_) => Next::LookAgain(Admin::RevokeAll(self)),
            None => Next::Answer(Answer::RevokedAll(self.revoked)),
        })
    }

    /// `None` if no key can be meant.
    pub(super) fn params(&self, shape: &TableShape) -> Option<Vec<Option<String>>> {
        let [account, parent, human] = match &self.filter {
            RevokeFilter::Account(account) => {
                let account = account.to_string();
                shape.fits_account(&account).then_some([Some(account), None, None])
            }
            RevokeFilter::Parent(id) => {
                let id = id.to_string();
                shape.fits_id(&id).then_some([None, Some(id), None])
            }
            RevokeFilter::DelegatedBy(human) => {
                (!human.contains('\0')).then(|| [None, None, Some(human.clone())])
            }
        }?;
        let waits_for = self.busy.clone().filter(|_| self.look.is_waiting);
        Some(vec![account, parent, human, waits_for])
    }
}

/// `None` if no key can be meant. An id that the column cannot hold matches no key.
pub(super) fn revoke_params(
    revocation: &Revocation,
    look: Look,
    shape: &TableShape,
) -> Option<Vec<Option<String>>> {
    let Revocation { key_id, account, within } = revocation;
    let (id, within) = (key_id.to_string(), within.as_ref().map(KeyId::to_string));
    let account = match account {
        AccountFilter::Any => None,
        AccountFilter::Only(account) => {
            Some(account.as_ref()?.to_string()).filter(|account| shape.fits_account(account)).map(Some)?
        }
    };
    let fits = shape.fits_id(&id) && within.as_ref().is_none_or(|within| shape.fits_id(within));
    let waits_for = look.is_waiting.then(|| id.clone());
    fits.then(|| vec![Some(id), account, within, waits_for])
}

/// Whether a row says that somebody else has locked the key.
pub(super) fn is_busy(row: &str) -> Result<bool, Error> {
    let [_, is_done] = fields(row, "a changed key's row")?;
    Ok(!is_true(&is_done))
}
