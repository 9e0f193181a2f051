//! How long a key lives: `30m`, `12h`, `7d`, `1mo` (30 days).

use crate::error::{Error, ErrorCode};

/// A thousand years: more is surely a mistake, and would pass the last year that Python and JSON readers know.
const MAX_SECONDS: u64 = 1_000 * 365 * 86_400;

/// Seconds from now until a key expires, or `None` for never (no or an empty duration).
pub fn seconds_until_expiry(duration: Option<&str>) -> Result<Option<u64>, Error> {
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
        .filter(|seconds| *seconds <= MAX_SECONDS)
        .map(Some)
        .ok_or_else(|| {
            Error::new(ErrorCode::InvalidDuration, format!("Invalid duration: {}", shortened(text)))
        })
}

/// A hostile value may be megabytes long; an error message need not be.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 100;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_minutes_hours_days_and_months_of_thirty_days() {
        for (text, seconds) in
            [("5m", 300), ("24h", 86_400), ("7d", 604_800), ("1mo", 2_592_000), ("0h", 0), ("007m", 420)]
        {
            assert_eq!(seconds_until_expiry(Some(text)).unwrap(), Some(seconds), "{text}");
        }
        assert_eq!(seconds_until_expiry(None).unwrap(), None);
        assert_eq!(seconds_until_expiry(Some("")).unwrap(), None);
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("{}d", "9".repeat(1_000_000));
        for bad in [
            "h", "1", "1w", "1y", "-1h", "+1h", "1.5h", " 1h", "1h ", "1H", "1hh", "١h", "1e3h", "NaNd",
            "400000d", &long,
        ] {
            let error = seconds_until_expiry(Some(bad)).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidDuration);
            assert!(error.message().starts_with("Invalid duration: "));
            assert!(error.message().len() < 200);
        }
    }
}
