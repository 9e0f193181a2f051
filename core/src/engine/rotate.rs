//! Rotations: a new secret for a key.

use super::admin::{Admin, Next, Plan};
use super::busy::Look;
use super::rows::time::timestamp;
use super::rows::{fields, read_key_id};
use super::spends::NEEDED;
use super::{Answer, Options};
use crate::error::{Error, ErrorCode};
use crate::key::credential::Credential;
use crate::key::raw::MintedKey;
use crate::key::rotation::{Rotate, RotateRefusal, Rotated};
use crate::table::shape::{ROTATION, TableShape};
use crate::table::template::{StatementKind, Statements};

/// A rotation on its way. Its secret is one for all attempts: a repeated one changes nothing more.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    of: Credential,
    rotate: Rotate,
    minted: MintedKey,
    pub(super) look: Look,
}

impl Rotation {
    pub(super) fn new(of: Credential, rotate: Rotate, options: &Options) -> Result<Self, Error> {
        rotate.check()?;
        Ok(Rotation {
            of,
            rotate,
            minted: options.key_prefix.mint(options.key_format)?,
            look: Look::default(),
        })
    }

    pub(super) fn has_idempotency_key(&self) -> bool {
        self.rotate.idempotency_key.is_some()
    }

    pub(super) fn plan(&self, statements: &Statements) -> Result<Plan, Error> {
        let shape = &statements.shape;
        shape.require(ROTATION)?;
        shape.require(NEEDED)?;
        let (id, hash) = match &self.of {
            Credential::Id(id) => (Some(id.to_string()).filter(|id| shape.fits_id(id)), None),
            Credential::Key(hash) | Credential::Mistyped(hash) => (None, Some(hash.as_str().to_owned())),
            // It has no secret.
            Credential::Subject(_) => (None, None),
        };
        if id.is_none() && hash.is_none() {
            return Ok(Plan::Answer(Answer::Rotated(Err(RotateRefusal::InvalidKey))));
        }
        let grace = self.rotate.grace;
        let params = vec![
            id,
            hash,
            Some(self.minted.raw.hash().as_str().to_owned()),
            Some(self.minted.shown_prefix.clone()),
            Some(format!("{}.{:09}", grace.as_secs(), grace.subsec_nanos())),
            self.rotate.idempotency_key.clone(),
            self.look.is_waiting.then(|| "true".to_owned()),
        ];
        Ok(Plan::Send(StatementKind::RotateKey, statements.sql(StatementKind::RotateKey), params))
    }

    pub(super) fn after(&self, rows: &[String], shape: &TableShape) -> Result<Next, Error> {
        let Some(row) = rows.first() else {
            return Ok(Next::Answer(Answer::Rotated(Err(RotateRefusal::InvalidKey))));
        };
        let [id, status, expires_at, other] = fields(row, "a rotated key's row")?;
        let outcome = match status.as_deref() {
            Some("busy") => return Ok(Next::LookAgain(Admin::Rotate(Box::new(self.clone())))),
            Some("rotated") => {
                let id = id.ok_or_else(|| Error::unexpected("a key without an id"))?;
                Ok(Rotated {
                    key: self.minted.raw.clone(),
                    id: read_key_id(&id, shape)?,
                    previous_expires_at: timestamp(expires_at.as_deref(), "prev_key_expires_at")?,
                })
            }
            Some("revoked") => Err(RotateRefusal::Revoked),
            Some("idempotency_conflict") => Err(RotateRefusal::IdempotencyConflict),
            Some("former_of_another") => {
                let [id, other] = [id, other].map(Option::unwrap_or_default);
                // Nothing was written.
                let message = format!(
                    "the secret of key {id} is also the former one (prev_key_hash) of key {other}: rotate that one first"
                );
                return Err(Error::new(ErrorCode::UnexpectedResponse, message));
            }
            status => return Err(Error::unexpected(format_args!("the status {status:?}"))),
        };
        Ok(Next::Answer(Answer::Rotated(outcome)))
    }
}
