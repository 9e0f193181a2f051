//! Keys to create, as JSON, and what names a key.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::object::Object;
use crate::budget::limit::KeyLimit;
use crate::duration;
use crate::error::{Error, ErrorCode};
use crate::id::{AccountId, KeyId};
use crate::key::credential::Credential;
use crate::key::delegation::Parent;
use crate::key::new_key::CreateKey;
use crate::key::raw::{KeyHash, KeyPrefix};

/// A raw key on its way to its hash.
#[derive(Deserialize)]
pub(super) struct Secret(zeroize::Zeroizing<String>);

/// Several. The error of something else does not repeat it.
pub(super) fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
    Vec::deserialize(deserializer).map_err(|_| D::Error::custom("secrets must be an array of strings"))
}

impl AsRef<str> for Secret {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

pub(super) fn credential(
    key: Option<Secret>,
    subject: Option<String>,
    id: Option<KeyId>,
) -> Result<Credential, Error> {
    match (key, subject, id) {
        (Some(Secret(key)), None, None) => Ok(Credential::of_key(&key)),
        (None, Some(subject), None) => Ok(Credential::Subject(subject)),
        (None, None, Some(id)) => Ok(Credential::Id(id)),
        _ => Err(Error::new(ErrorCode::InvalidText, "Invalid request: give one of key, subject and keyId")),
    }
}

/// A key: its id or its secret.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum KeyJson {
    Id(i64),
    Text(Secret),
}

impl KeyJson {
    pub(super) fn read(self, prefix: &KeyPrefix) -> Credential {
        match self {
            KeyJson::Id(id) => Credential::Id(id.into()),
            KeyJson::Text(Secret(text)) if prefix.is_of(&text) => Credential::of_key(&text),
            KeyJson::Text(Secret(text)) => Credential::Id(text.as_str().into()),
        }
    }
}

/// A key by its id or secret, or by its subject.
pub(super) fn key_or_subject(
    key: Option<KeyJson>,
    subject: Option<String>,
    prefix: &KeyPrefix,
) -> Result<Credential, Error> {
    match (key, subject) {
        (Some(key), None) => Ok(key.read(prefix)),
        (None, Some(subject)) => Ok(Credential::Subject(subject)),
        _ => Err(Error::new(ErrorCode::InvalidText, "Invalid request: give one of key and subject")),
    }
}

/// A key to create, as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct CreateKeyJson {
    account_id: Option<AccountId>,
    user_id: Option<String>,
    scopes: Option<Vec<String>>,
    budget_cents: Option<i64>,
    budget_period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Vec<KeyLimitJson>>,
    expires_in: Option<String>,
    delegated_by: Option<String>,
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
    parent: Option<ParentJson>,
}

/// A limit, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeyLimitJson {
    cents: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    when_exceeded: Option<String>,
}

impl KeyLimitJson {
    pub(super) fn read_all(limits: Vec<KeyLimitJson>) -> Result<Vec<KeyLimit>, Error> {
        limits.into_iter().map(KeyLimitJson::read).collect()
    }

    fn read(self) -> Result<KeyLimit, Error> {
        let period = self.period.map(|period| period.parse()).transpose()?;
        let when_exceeded = self.when_exceeded.map(|text| text.parse()).transpose()?.unwrap_or_default();
        Ok(KeyLimit { cents: self.cents, period, when_exceeded })
    }

    fn of(limit: &KeyLimit) -> Self {
        KeyLimitJson {
            cents: limit.cents,
            period: limit.period.map(|period| period.to_string()),
            when_exceeded: Some(limit.when_exceeded.as_str().to_owned()),
        }
    }
}

/// A parent: an id or a raw key, or an object that says which.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ParentJson {
    /// An id or a raw key.
    Text(String),
    Id(i64),
    Named(NamedParent),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum NamedParent {
    Id(KeyId),
    KeyHash(String),
    Subject(String),
    Caller(KeyId),
}

impl CreateKeyJson {
    pub(super) fn read(self, prefix: Option<&KeyPrefix>) -> Result<CreateKey, Error> {
        Ok(CreateKey {
            account_id: self.account_id,
            user_id: self.user_id,
            scopes: self.scopes,
            budget_cents: self.budget_cents,
            budget_period: self.budget_period.map(|period| period.parse()).transpose()?,
            limits: self.limits.map_or_else(|| Ok(Vec::new()), KeyLimitJson::read_all)?,
            expires_in: duration::read(self.expires_in.as_deref())?,
            delegated_by: self.delegated_by,
            name: self.name,
            metadata: self.metadata,
            parent: self.parent.map(|parent| parent.read(prefix)).transpose()?,
        })
    }
}

impl ParentJson {
    fn read(self, prefix: Option<&KeyPrefix>) -> Result<Parent, Error> {
        Ok(match self {
            ParentJson::Text(text) => Parent::of_text(&text, prefix),
            ParentJson::Id(id) => Parent::Id(id.to_string()),
            ParentJson::Named(NamedParent::Id(id)) => Parent::Id(id.to_string()),
            ParentJson::Named(NamedParent::Subject(subject)) => Parent::Subject(subject),
            ParentJson::Named(NamedParent::Caller(id)) => Parent::Caller(id.to_string()),
            ParentJson::Named(NamedParent::KeyHash(hash)) => {
                Parent::Key(KeyHash::parse(&hash).ok_or_else(|| {
                    Error::new(ErrorCode::InvalidParent, "Invalid parent: its hash is none")
                })?)
            }
        })
    }
}

/// Reads what the npm package's `create` takes. A member that is not known is refused: a misspelt budget must not make
/// a key without one.
impl<'de> Deserialize<'de> for CreateKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(spec) = Object::<CreateKeyJson>::deserialize(deserializer)?;
        spec.read(None).map_err(serde::de::Error::custom)
    }
}

/// Of a parent's raw key only the hash is written.
impl Serialize for CreateKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parent = self.parent.as_ref().map(|parent| match parent {
            Parent::Id(id) => NamedParent::Id(KeyId::Text(id.clone())),
            Parent::Key(hash) => NamedParent::KeyHash(hash.as_str().to_owned()),
            Parent::Subject(subject) => NamedParent::Subject(subject.clone()),
            Parent::Caller(id) => NamedParent::Caller(KeyId::Text(id.clone())),
        });
        let json = CreateKeyJson {
            account_id: self.account_id.clone(),
            user_id: self.user_id.clone(),
            scopes: self.scopes.clone(),
            budget_cents: self.budget_cents,
            budget_period: self.budget_period.map(|period| period.to_string()),
            limits: (!self.limits.is_empty()).then(|| self.limits.iter().map(KeyLimitJson::of).collect()),
            expires_in: self.expires_in.map(duration::write),
            delegated_by: self.delegated_by.clone(),
            name: self.name.clone(),
            metadata: self.metadata.clone(),
            parent: parent.map(ParentJson::Named),
        };
        json.serialize(serializer)
    }
}
