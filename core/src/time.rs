//! Times as JSON has them.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// A time with milliseconds, in UTC.
pub fn timestamp(at: &DateTime<Utc>) -> String {
    let text = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    match at.year() {
        0..=9999 => text,
        // Beyond them JavaScript writes a sign and six digits.
        year => {
            format!("{year:+07}{}", text.get(text.len() - "-01-01T00:00:00.000Z".len()..).unwrap_or_default())
        }
    }
}

pub(crate) fn write_time<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    timestamp(at).serialize(serializer)
}

pub(crate) fn write_optional_time<S: Serializer>(
    at: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    at.as_ref().map(timestamp).serialize(serializer)
}
