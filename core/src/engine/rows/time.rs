//! Times of the database, as statements answer them.

use chrono::{DateTime, Utc};

use super::unreadable;
use crate::error::Error;

/// A time of the database: microseconds since 1970. Its infinities are the last and the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

/// The years 1 to 9999 in UTC: every language has a type for them. The database knows 4713 BC to 294276 AD.
const CALENDAR: (i64, i64) = (-62_135_596_800_000_000, 253_402_300_799_999_999);

impl Moment {
    const EVER: Moment = Moment(i64::MAX);
    const NEVER: Moment = Moment(i64::MIN);

    /// Reads seconds since 1970 with a decimal fraction, as `extract(epoch ...)` gives them.
    pub(crate) fn read(field: Option<&str>, column: &str) -> Result<Option<Self>, Error> {
        match field {
            None => Ok(None),
            Some("Infinity") => Ok(Some(Moment::EVER)),
            Some("-Infinity") => Ok(Some(Moment::NEVER)),
            Some(text) => match microseconds(text) {
                Some(micros) => Ok(Some(Moment(micros))),
                None => Err(unreadable(column, "no time", text)),
            },
        }
    }

    /// The time as people know it; `None` if it never comes. Times beyond the years 1 to 9999 are the nearest of these.
    pub(crate) fn calendar(self) -> Option<DateTime<Utc>> {
        (self != Moment::EVER).then(|| self.nearest())
    }

    /// The same of a reset: one that is infinite, or was infinitely long ago, never comes.
    pub(crate) fn reset(self) -> Option<DateTime<Utc>> {
        self.is_finite().then(|| self.nearest())
    }

    /// The nearest time of the calendar.
    pub(crate) fn nearest(self) -> DateTime<Utc> {
        let (first, last) = CALENDAR;
        DateTime::from_timestamp_micros(self.0.clamp(first, last)).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// So many seconds earlier.
    pub(crate) fn minus_seconds(self, seconds: u32) -> Self {
        Moment(self.0.saturating_sub(i64::from(seconds) * 1_000_000))
    }

    /// Whole seconds, rounded down; `None` if one of them is infinite.
    pub(crate) fn seconds_after(self, other: Moment) -> Option<i64> {
        let are_finite = self.is_finite() && other.is_finite();
        are_finite.then(|| self.0.saturating_sub(other.0).div_euclid(1_000_000))
    }

    fn is_finite(self) -> bool {
        !matches!(self, Moment::EVER | Moment::NEVER)
    }
}

pub(crate) fn is_over(time: Option<Moment>, now: Moment) -> bool {
    time.is_some_and(|time| time <= now)
}

/// A time that is there: the infinite are the last and the first of the calendar.
pub(crate) fn timestamp(field: Option<&str>, column: &str) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(Moment::read(field, column)?.map(Moment::nearest))
}

/// Times that the number does not hold are its ends: far off, but not infinite.
fn microseconds(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.get(..fraction.len().min(6))?;
    let fraction = match digits.len() {
        0 => 0,
        length => digits.parse::<i64>().ok()? * 10_i64.pow(6 - length as u32),
    };
    let whole = seconds.parse::<i64>().ok()?.saturating_mul(1_000_000);
    let micros = whole.saturating_add(if seconds.starts_with('-') { -fraction } else { fraction });
    Some(micros.clamp(i64::MIN + 1, i64::MAX - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_to_the_microsecond() {
        let read = |text: &str| timestamp(Some(text), "at").unwrap().map(|t| t.timestamp_micros());
        assert_eq!(read("1764000000.123456"), Some(1_764_000_000_123_456));
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("-1.5"), Some(-1_500_000));
        assert_eq!(read("-0.5"), Some(-500_000));
        let error = timestamp(Some("yesterday"), "revoked_at").unwrap_err();
        assert!(error.message().contains("revoked_at"), "{error}");
    }

    /// The ends of what Postgres has, and of what the number holds.
    #[test]
    fn times_beyond_the_calendar_are_its_ends() {
        let moment = |text: &str| Moment::read(Some(text), "at").unwrap().unwrap();
        let text = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339());
        let (first, last) = ("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00");
        for far in ["9224318015999.999999", "9223372036854.775807", "253402300800", "99999999999999999"] {
            assert_eq!(text(moment(far).calendar()).as_deref(), Some(last), "{far}");
            assert!(moment(far) < Moment::EVER && moment(far) > moment("253402300799"), "{far}");
        }
        for far in ["-210866803200", "-62135596801", "-99999999999999999"] {
            assert_eq!(text(moment(far).calendar()).as_deref(), Some(first), "{far}");
            assert!(moment(far) > Moment::NEVER && is_over(Some(moment(far)), moment("0")), "{far}");
        }
        assert_eq!((moment("Infinity").calendar(), moment("Infinity").reset()), (None, None));
        assert_eq!(text(moment("-Infinity").calendar()).as_deref(), Some(first));
        assert_eq!(moment("-Infinity").reset(), None);
        assert_eq!(text(timestamp(Some("Infinity"), "at").unwrap()).as_deref(), Some(last));
        assert_eq!(moment("99999999999999999").seconds_after(moment("Infinity")), None);
    }
}
