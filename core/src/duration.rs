//! Durations as people write them: `30m`, `12h`, `7d`, `1mo` (30 days).

use std::time::Duration;

use crate::error::{Error, ErrorCode, shortened};

/// A thousand years: more is surely a mistake, and would pass the last year that Python and JSON readers know.
const MAX_SECONDS: u64 = 1_000 * 365 * 86_400;

/// Reads a duration; `None` or an empty text is no limit.
///
/// # Errors
/// `invalid_duration` unless it is digits followed by `m`, `h`, `d` or `mo`, and at most a thousand years.
pub fn read(duration: Option<&str>) -> Result<Option<Duration>, Error> {
    let Some(text) = duration.filter(|d| !d.is_empty()) else { return Ok(None) };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_seconds = match unit {
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        "mo" => Some(30 * 86_400),
        _ => None,
    };
    unit_seconds
        .and_then(|unit| number.parse::<u64>().ok()?.checked_mul(unit))
        .map(Duration::from_secs)
        .filter(|duration| check(*duration).is_ok())
        .map(Some)
        .ok_or_else(|| {
            Error::new(ErrorCode::InvalidDuration, format!("Invalid duration: {}", shortened(text)))
        })
}

/// The same, or digits followed by `s`.
pub(crate) fn read_with_seconds(text: &str) -> Result<Option<Duration>, Error> {
    match text.strip_suffix('s').filter(|digits| !digits.is_empty() && digits.len() <= 9) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(digits.parse().ok().map(Duration::from_secs))
        }
        _ => read(Some(text)),
    }
}

/// Writes a duration in whole minutes, rounded up: what [`read`] reads.
pub(crate) fn write(duration: Duration) -> String {
    format!("{}m", duration.as_secs().div_ceil(60))
}

/// Refuses a duration that is absurdly long.
pub(crate) fn check(duration: Duration) -> Result<(), Error> {
    if duration.as_secs() > MAX_SECONDS {
        let message = format!("Invalid duration: {duration:?} is more than a thousand years");
        return Err(Error::new(ErrorCode::InvalidDuration, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_minutes_hours_days_and_months_of_thirty_days() {
        for (text, seconds) in
            [("5m", 300), ("24h", 86_400), ("7d", 604_800), ("1mo", 2_592_000), ("0h", 0), ("007m", 420)]
        {
            assert_eq!(read(Some(text)).unwrap(), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(read(None).unwrap(), None);
        assert_eq!(read(Some("")).unwrap(), None);
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("{}d", "9".repeat(1_000_000));
        for bad in [
            "h", "1", "1w", "1y", "-1h", "+1h", "1.5h", " 1h", "1h ", "1H", "1hh", "١h", "1e3h", "NaNd",
            "400000d", &long,
        ] {
            let error = read(Some(bad)).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidDuration);
            assert!(error.message().starts_with("Invalid duration: "));
            assert!(error.message().len() < 200);
        }
    }
}
