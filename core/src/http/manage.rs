//! What a caller may do with the keys below its own: list them, change them, give them new secrets. Never more than it
//! could reach by making a key.

use serde_json::{Map, Value};

use super::body::{Body, Wanted};
use super::call::Call;
use super::child::{forbidden, may_grant, may_live, may_spend};
use super::response::Response;
use super::route::query_members;
use super::visit::is_id;
use crate::id::KeyId;
use crate::key::credential::Credential;
use crate::key::grant::Grant;
use crate::key::record::{KeyFilter, KeyRecord, KeyUpdate};
use crate::key::rotation::{Rotate, read_grace};
use crate::key::scope::ADMIN;

/// Whether a key is the caller's to manage: it descends from the caller's, and is of the same account. Who holds a key
/// may not change that key itself, nor its siblings: a thief would lock its owner out.
pub(super) fn is_managed(caller: &Grant, key: &KeyRecord) -> bool {
    key.ancestors.contains(&caller.id) && key.grant.account_id == caller.account_id
}

/// A change of a key, checked as far as it is known without the key.
#[derive(Debug)]
pub(super) enum Change {
    Update(KeyUpdate),
    Rotate(Rotate),
}

const CHANGED: &[&str] = &["name", "scopes", "budget_cents", "budget_period", "expires_in"];
const ROTATED: &[&str] = &["grace", "idempotency_key"];

impl Change {
    /// Only what is named is changed. `null` is no budget, one budget for life, no end, and the caller's own scopes, as
    /// where a key is made without them.
    pub(super) fn update(caller: &Grant, body: &Body) -> Result<Self, Response> {
        let members = body.members()?;
        only(members, CHANGED)?;
        if members.is_empty() {
            return Err(Response::bad_request(&format!("The body must name one of {}", CHANGED.join(", "))));
        }
        let wanted = Wanted::read(members)?;
        let is_given = |name: &str| members.contains_key(name);
        let mut update = KeyUpdate::new();
        if is_given("name") {
            update.name = Some(wanted.name.ok_or_else(|| Response::bad_request("name must be a string"))?);
        }
        if is_given("scopes") {
            if let Some(scopes) = &wanted.scopes {
                may_grant(caller, scopes)?;
            }
            update.scopes = Some(wanted.scopes.or_else(|| caller.scopes.clone()));
        }
        if is_given("budget_cents") {
            may_spend(caller, wanted.budget_cents)?;
            update.budget_cents = Some(wanted.budget_cents);
        }
        if is_given("budget_period") {
            update.budget_period = Some(wanted.budget_period);
        }
        if is_given("expires_in") {
            let lifetime = wanted.expires_in.and_then(|lifetime| lifetime.duration);
            may_live(caller, lifetime)?;
            update.expires_in = Some(lifetime);
        }
        Ok(Change::Update(update))
    }

    /// A body may be missing: then both secrets count for a day.
    pub(super) fn rotate(body: &Body) -> Result<Self, Response> {
        let mut rotate = Rotate::new();
        if *body == Body::Missing {
            return Ok(Change::Rotate(rotate));
        }
        let members = body.members()?;
        only(members, ROTATED)?;
        if let Some(grace) = string(members, "grace")? {
            rotate = rotate.grace(read_grace(grace).map_err(|e| Response::bad_request(e.message()))?);
        }
        if let Some(key) = string(members, "idempotency_key")? {
            rotate = rotate.idempotency_key(key);
        }
        rotate.check().map_err(|error| Response::bad_request(error.message()))?;
        Ok(Change::Rotate(rotate))
    }

    pub(super) fn switch(disabled: bool) -> Self {
        Change::Update(KeyUpdate::new().disabled(disabled))
    }

    /// The call that changes a key which the caller manages.
    pub(super) fn call(self, caller: &Grant, key: &KeyRecord) -> Result<Call, Response> {
        if key.revoked_at.is_some() {
            return Err(Response::error(409, "revoked"));
        }
        let id = key.grant.id.clone();
        match self {
            Change::Update(update) => Ok(Call::Update(id, Box::new(update))),
            // Its secret is as good as the key: that of a key which may do more must not come into the caller's hands.
            Change::Rotate(rotate) => {
                match &key.grant.scopes {
                    Some(scopes) => may_grant(caller, scopes)?,
                    None if caller.has_scope(ADMIN) => {}
                    None => return Err(forbidden("The key may do everything, and yours may not", [])),
                }
                Ok(Call::Rotate(Credential::Id(id), rotate))
            }
        }
    }
}

/// Refuses members that mean nothing: a typing error must not pass for a change.
fn only(members: &Map<String, Value>, known: &[&str]) -> Result<(), Response> {
    match members.keys().all(|name| known.contains(&name.as_str())) {
        true => Ok(()),
        false => {
            Err(Response::bad_request(&format!("The body may name {}, and nothing else", known.join(", "))))
        }
    }
}

fn string<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, Response> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Response::bad_request(&format!("{name} must be a string"))),
    }
}

/// A page of the keys below the caller's.
#[derive(Debug)]
pub(super) struct Page(KeyFilter);

const MOST_KEYS: u32 = 1_000;

impl Page {
    /// Of the caller's own children, or of the children of a key below it.
    pub(super) fn read(caller: &Grant, query: &str) -> Result<Self, Response> {
        let mut filter = KeyFilter::new().parent(caller.id.clone());
        filter.account_id.clone_from(&caller.account_id);
        let mut seen = Vec::new();
        for (name, value) in query_members(query) {
            let wrong = |must: &str| Response::bad_request(&format!("{name} must {must}"));
            let id =
                |value: &str| is_id(value).then(|| KeyId::from(value)).ok_or_else(|| wrong("be a key's id"));
            match name.as_str() {
                "parent" => filter.parent = Some(id(&value)?),
                "after" => filter.after = Some(id(&value)?),
                "state" => {
                    let state = value.parse().map_err(|_| wrong("be live, revoked, disabled or expired"))?;
                    filter.state = Some(state);
                }
                "scope" if value.contains('\0') || value.is_empty() => return Err(wrong("be a scope")),
                "scope" => filter.scope = Some(value),
                "over_share" => {
                    let share = value.parse().ok().filter(|share: &f64| *share > 0.0 && *share <= 1.0);
                    filter.over_share = Some(share.ok_or_else(|| wrong("be above 0 and at most 1"))?);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST_KEYS).contains(limit));
                    let limit = limit.ok_or_else(|| wrong(&format!("be a number from 1 to {MOST_KEYS}")))?;
                    filter.limit = Some(limit);
                }
                _ => {
                    let names = "parent, state, scope, over_share, after and limit";
                    return Err(Response::bad_request(&format!(
                        "The query may name {names}, and nothing else"
                    )));
                }
            }
            if seen.contains(&name) {
                return Err(Response::bad_request(&format!("{name} is named twice")));
            }
            seen.push(name);
        }
        Ok(Page(filter))
    }

    pub(super) fn filter(&self) -> &KeyFilter {
        &self.0
    }

    /// What to go on after, if there may be more. Nothing is told of keys that are not the caller's to see.
    pub(super) fn next(&self, caller: &Grant, keys: &[KeyRecord]) -> Option<KeyId> {
        let is_full = keys.len() >= self.0.most() as usize;
        keys.last().filter(|key| is_full && is_managed(caller, key)).map(|key| key.grant.id.clone())
    }
}
