//! The ids of keys and accounts, in the types of the user's columns.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The id of a key: a number where the column is of an integer type, text otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::exhaustive_enums, reason = "ids are numbers or text")]
pub enum KeyId {
    /// SERIAL, BIGSERIAL, and the like.
    Integer(i64),
    /// UUID, TEXT, and the like.
    Text(String),
}

/// The id of an account: a number where the column is INTEGER, text otherwise (also for BIGINT, as in the original).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::exhaustive_enums, reason = "ids are numbers or text")]
pub enum AccountId {
    /// An INTEGER.
    Integer(i64),
    /// Anything else.
    Text(String),
}

macro_rules! id_conversions {
    ($id:ident) => {
        impl std::fmt::Display for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $id::Integer(n) => n.fmt(f),
                    $id::Text(text) => text.fmt(f),
                }
            }
        }

        impl From<i64> for $id {
            fn from(n: i64) -> Self {
                $id::Integer(n)
            }
        }

        impl From<i32> for $id {
            fn from(n: i32) -> Self {
                $id::Integer(i64::from(n))
            }
        }

        impl From<&str> for $id {
            fn from(text: &str) -> Self {
                $id::Text(text.to_owned())
            }
        }

        impl From<String> for $id {
            fn from(text: String) -> Self {
                $id::Text(text)
            }
        }

        impl $id {
            pub(crate) fn read(text: &str, integer: bool) -> Result<Self, Error> {
                if integer {
                    text.parse().map($id::Integer).map_err(|_| Error::unexpected("an id"))
                } else {
                    Ok($id::Text(text.to_owned()))
                }
            }
        }
    };
}

id_conversions!(KeyId);
id_conversions!(AccountId);
