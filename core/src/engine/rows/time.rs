//! Times of the database, as statements answer them.

use chrono::{DateTime, Utc};

use crate::error::Error;

/// A time of the database: microseconds since 1970. Its infinities are the first and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    const EVER: Moment = Moment(i64::MAX);
    const NEVER: Moment = Moment(i64::MIN);

    /// Reads seconds since 1970 with a decimal fraction, as `extract(epoch ...)` gives them.
    pub(crate) fn read(field: Option<&str>) -> Result<Option<Self>, Error> {
        match field {
            None => Ok(None),
            Some("Infinity") => Ok(Some(Moment::EVER)),
            Some("-Infinity") => Ok(Some(Moment::NEVER)),
            Some(text) => microseconds(text).map(|micros| Some(Moment(micros))),
        }
    }

    /// What lies beyond every calendar is no time at all.
    pub(crate) fn calendar(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }

    /// So many seconds earlier.
    pub(crate) fn minus_seconds(self, seconds: u32) -> Self {
        Moment(self.0.saturating_sub(i64::from(seconds) * 1_000_000))
    }

    /// Whole seconds, rounded down; `None` if one of them is infinite.
    pub(crate) fn seconds_after(self, other: Moment) -> Option<i64> {
        let is_finite = |moment: Moment| !matches!(moment, Moment::EVER | Moment::NEVER);
        (is_finite(self) && is_finite(other)).then(|| self.0.saturating_sub(other.0).div_euclid(1_000_000))
    }
}

pub(crate) fn is_over(time: Option<Moment>, now: Moment) -> bool {
    time.is_some_and(|time| time <= now)
}

pub(crate) fn timestamp(field: Option<&str>) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(Moment::read(field)?.and_then(Moment::calendar))
}

fn microseconds(text: &str) -> Result<i64, Error> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let micros = || {
        let padded = format!("{fraction:0<6}");
        let fraction: i64 = padded.get(..6)?.parse().ok()?;
        let whole = seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?;
        whole.checked_add(if seconds.starts_with('-') { -fraction } else { fraction })
    };
    micros().ok_or_else(|| Error::unexpected("a timestamp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_to_the_microsecond() {
        let read = |text: &str| timestamp(Some(text)).unwrap().map(|t| t.timestamp_micros());
        assert_eq!(read("1764000000.123456"), Some(1_764_000_000_123_456));
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("-1.5"), Some(-1_500_000));
        assert_eq!(read("-0.5"), Some(-500_000));
        assert_eq!(read("Infinity"), None);
        assert!(timestamp(Some("yesterday")).is_err());
    }
}
