//! Keys: secrets, scopes, delegation, what a new key is and what a look-up says of one. Pure rules, no SQL.

pub(crate) mod credential;
pub(crate) mod delegation;
pub(crate) mod explanation;
pub(crate) mod grant;
pub(crate) mod new_key;
pub(crate) mod raw;
pub(crate) mod record;
pub(crate) mod rotation;
pub(crate) mod scope;
