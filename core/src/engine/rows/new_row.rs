//! `insert_key.sql`: the row of a new key or subject, and what the statement answers.

use std::time::Duration;

use super::limits::{limit_rows, unusable_hashes};
use super::lookup::LookedUp;
use super::time::Moment;
use super::{fields, read_key_id};
use crate::budget::limit::KeyLimit;
use crate::engine::options::Options;
use crate::error::{Error, ErrorCode};
use crate::id::KeyId;
use crate::key::delegation::{Ancestry, Parent};
use crate::key::new_key::{CreateKey, Created, invalid_budget};
use crate::key::raw::{KeyHash, RawKey, unusable_hash};
use crate::table::shape::{LIMITS, MAX_INDEXED_BYTES, TableShape, invalid_account};

/// The columns that tie a child to its parent.
pub(crate) const LINK: &[&str] = &["parent_id", "ancestor_ids"];

/// A row to insert: checked, but not yet against the table.
#[derive(Debug, Clone)]
pub(crate) struct NewRow {
    spec: CreateKey,
    key_hash: KeyHash,
    shown_prefix: String,
    owner: Owner,
    /// The hashes of the rows of its limits.
    limit_hashes: Vec<KeyHash>,
    /// The parent's row, once it is known.
    parent_id: Option<KeyId>,
    former: FormerParent,
}

/// Whether the parent's secret was looked for among those that were replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FormerParent {
    NotAsked,
    Asking,
    Asked,
}

/// Who holds what the row is found by.
#[derive(Debug, Clone)]
enum Owner {
    /// Whoever created the key, and gets its secret.
    Caller(RawKey),
    /// Somebody with an identity of another system.
    Subject(String),
}

impl NewRow {
    /// A row for a freshly minted key.
    pub(crate) fn for_key(spec: CreateKey, options: &Options) -> Result<Self, Error> {
        spec.check(options.valid_scopes.as_deref(), options.accepted_periods)?;
        let minted = options.key_prefix.mint(options.key_format)?;
        let limit_hashes = unusable_hashes(spec.limits.len())?;
        Ok(NewRow {
            spec,
            key_hash: minted.raw.hash(),
            shown_prefix: minted.shown_prefix,
            owner: Owner::Caller(minted.raw),
            limit_hashes,
            parent_id: None,
            former: FormerParent::NotAsked,
        })
    }

    /// The row of an external subject, whose account is the subject itself unless the spec names one.
    pub(crate) fn for_subject(
        subject: String,
        mut spec: CreateKey,
        options: &Options,
    ) -> Result<Self, Error> {
        if subject.is_empty() || subject.contains('\0') || subject.len() > MAX_INDEXED_BYTES {
            let message = format!(
                "Invalid subject: it must have 1 to {MAX_INDEXED_BYTES} bytes without NUL characters"
            );
            return Err(Error::new(ErrorCode::InvalidSubject, message));
        }
        if spec.parent.is_none() {
            spec.account_id.get_or_insert_with(|| subject.as_str().into());
        }
        spec.check(options.valid_scopes.as_deref(), options.accepted_periods)?;
        let limit_hashes = unusable_hashes(spec.limits.len())?;
        Ok(NewRow {
            spec,
            key_hash: unusable_hash()?,
            shown_prefix: options.key_prefix.for_subject(),
            owner: Owner::Subject(subject),
            limit_hashes,
            parent_id: None,
            former: FormerParent::NotAsked,
        })
    }

    /// The parent that is not looked up yet.
    pub(crate) fn parent(&self) -> Option<&Parent> {
        self.spec.parent.as_ref().filter(|_| self.parent_id.is_none())
    }

    /// The hash of the parent's secret, while it is looked for among those that were replaced.
    pub(crate) fn former_parent(&self) -> Option<&KeyHash> {
        match self.parent() {
            Some(Parent::Key(hash)) if self.former == FormerParent::Asking => Some(hash),
            _ => None,
        }
    }

    /// The same with the parent looked for there, once; `None` if that is no use.
    pub(crate) fn asking_for_former_parent(&self) -> Option<Self> {
        let is_open = self.former == FormerParent::NotAsked && matches!(self.parent(), Some(Parent::Key(_)));
        is_open.then(|| NewRow { former: FormerParent::Asking, ..self.clone() })
    }

    /// The same below the key that was found there.
    pub(crate) fn with_former_parent(&self, rows: &[String]) -> Result<Self, Error> {
        let [_, hash] = fields(rows.first().ok_or_else(Ancestry::missing)?, "a key's hash")?;
        let hash = hash.as_deref().and_then(KeyHash::parse).ok_or_else(Ancestry::missing)?;
        let mut row = NewRow { former: FormerParent::Asked, ..self.clone() };
        row.spec.parent = Some(Parent::Key(hash));
        Ok(row)
    }

    pub(crate) fn has_limits(&self) -> bool {
        !self.spec.limits.is_empty()
    }

    pub(crate) fn is_subject(&self) -> bool {
        matches!(self.owner, Owner::Subject(_))
    }

    /// The same below its parent, whose bounds it keeps.
    pub(crate) fn below(mut self, parent: Option<LookedUp<'_>>, options: &Options) -> Result<Self, Error> {
        let parent = parent.ok_or_else(Ancestry::missing)?;
        let parent = Ancestry::new(parent.verdict, parent.ancestors.len(), parent.seconds_left)?;
        parent.bind(&mut self.spec, subject_of(&self.owner))?;
        self.spec.check(options.valid_scopes.as_deref(), options.accepted_periods)?;
        self.parent_id = Some(parent.id().clone());
        Ok(self)
    }

    /// How long it lives. The default is the clients' own: of a child the parent's end comes first.
    fn expires_in(&self, options: &Options) -> Option<Duration> {
        let default = options.default_expires_in.filter(|_| !self.is_subject());
        self.spec.expires_in.or(default)
    }

    /// The parameter of the statement, once the row is known to fit the table.
    pub(crate) fn parameter(&self, shape: &TableShape, options: &Options) -> Result<String, Error> {
        let spec = &self.spec;
        let subject = subject_of(&self.owner);
        // A caller's child keeps within its bounds even where the table has no room for the link, as in the original.
        let is_linked = !spec.parent.as_ref().is_some_and(Parent::is_optional) || shape.require(LINK).is_ok();
        let parent_id = self.parent_id.as_ref().filter(|_| is_linked);
        let needed = [
            ("user_id", spec.user_id.is_some()),
            ("scopes", spec.scopes.is_some()),
            ("budget_cents", spec.budget_cents.is_some()),
            ("budget_used_cents", spec.budget_cents.is_some()),
            ("budget_period", spec.budget_period.is_some()),
            ("budget_reset_at", spec.budget_period.is_some()),
            ("expires_at", self.expires_in(options).is_some()),
            ("delegated_by", spec.delegated_by.is_some()),
            ("external_subject", subject.is_some()),
            ("parent_id", parent_id.is_some()),
            ("ancestor_ids", parent_id.is_some()),
        ];
        let needed: Vec<&str> =
            needed.into_iter().filter(|(_, used)| *used).map(|(column, _)| column).collect();
        shape.require(&needed)?;
        if !spec.limits.is_empty() {
            shape.require(LIMITS)?;
            KeyLimit::check_fits(&spec.limits, shape.max_cents())?;
        }
        if spec.metadata.is_some() {
            shape.require_metadata()?;
        }
        if let Some(cents) = spec.budget_cents.filter(|cents| *cents > shape.max_cents()) {
            let why = format!("the most that the table holds is {}", shape.max_cents());
            return Err(invalid_budget(cents, &why));
        }
        let account = spec.account_id.as_ref().map(ToString::to_string);
        match &account {
            Some(account) if !shape.fits_account(account) => return Err(invalid_account(account, shape)),
            None if shape.account_required() => {
                let message = "Invalid account id: the table requires one";
                return Err(Error::new(ErrorCode::InvalidAccountId, message));
            }
            _ => {}
        }
        let mut parameter = serde_json::json!({
            "key_hash": self.key_hash.as_str(),
            "key_prefix": self.shown_prefix,
            "account_id": account,
            "user_id": spec.user_id,
            "scopes": spec.scopes.as_ref().map(|scopes| shape.scopes_parameter(scopes)),
            "budget_cents": spec.budget_cents,
            "budget_period": spec.budget_period,
            "align": options.align.as_str(),
            "expires_in_seconds": self.expires_in(options).map(|lifetime| lifetime.as_secs()),
            "delegated_by": spec.delegated_by,
            "metadata": spec.metadata,
            "name": spec.name.as_deref().unwrap_or("default"),
            "external_subject": subject,
            "parent_id": parent_id.map(KeyId::to_string),
        });
        if !spec.limits.is_empty() {
            parameter["limits"] = limit_rows(&spec.limits, &self.limit_hashes, options);
        }
        Ok(parameter.to_string())
    }

    /// The created key; `None` for a subject.
    pub(crate) fn created(&self, rows: &[String], shape: &TableShape) -> Result<Option<Created>, Error> {
        let row = match (rows, &self.owner) {
            ([row], _) => row,
            // It has its row already.
            ([], Owner::Subject(_)) => return Ok(None),
            ([], Owner::Caller(_)) if self.parent_id.is_some() => return Err(Ancestry::revoked()),
            _ => return Err(Error::unexpected("not one row for one key")),
        };
        let [id, expires_at] = fields(row, "an inserted key's row")?;
        let id = read_key_id(&id.ok_or_else(|| Error::unexpected("a key without an id"))?, shape)?;
        let Owner::Caller(key) = &self.owner else { return Ok(None) };
        Ok(Some(Created {
            key: key.clone(),
            id,
            scopes: self.spec.scopes.clone(),
            budget_cents: self.spec.budget_cents,
            budget_period: self.spec.budget_period,
            expires_at: Moment::read(expires_at.as_deref(), "expires_at")?.and_then(Moment::calendar),
        }))
    }
}

fn subject_of(owner: &Owner) -> Option<&str> {
    match owner {
        Owner::Subject(subject) => Some(subject),
        Owner::Caller(_) => None,
    }
}
