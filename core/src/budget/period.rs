//! Budget periods. When a period ends is decided in one place, `sql/next_reset.sql`, by the database's clock: the
//! earliest anchor + n periods that is yet to come, so that the 31st stays the 31st.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, ErrorCode, shortened};

/// How often a budget starts afresh. A key without a period has one budget for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Period {
    /// Every hour from the key's creation.
    Hour,
    /// Every 24 hours from the key's creation.
    Day,
    /// Every seven days from the key's creation.
    Week,
    /// Midnight UTC on the day of the month of the key's creation, or that month's last day.
    Month,
    /// Midnight UTC on the date of the key's creation, or the 28th of February.
    Year,
    /// Every so many minutes, hours or days from the key's creation, written `5m`, `36h`, `7d`.
    Window(Window),
}

/// A period of so many minutes, hours or days: [`Period::from_str`] reads one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    count: u32,
    unit: char,
}

/// The most of a unit that a window has: as `period_seconds.sql` reads it.
const MAX_COUNT: u32 = 99_999;

/// Which periods a client accepts for new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AcceptedPeriods {
    /// All.
    #[default]
    All,
    /// `day` and `month`: those that the original package knows, for tables that it serves too.
    DayAndMonth,
}

impl Period {
    /// Every so many minutes: at least 1, and 99,999 at most.
    pub fn minutes(count: u32) -> Self {
        Period::Window(Window { count: count.clamp(1, MAX_COUNT), unit: 'm' })
    }

    /// How long it is, where its length is fixed: months and years differ.
    pub fn seconds(self) -> Option<u64> {
        match self {
            Period::Hour => Some(3_600),
            Period::Day => Some(86_400),
            Period::Week => Some(604_800),
            Period::Month | Period::Year => None,
            Period::Window(Window { count, unit }) => Some(u64::from(count) * unit_seconds(unit)?),
        }
    }

    /// Refuses a period that a client does not accept.
    pub(crate) fn accept(self, accepted: AcceptedPeriods) -> Result<(), Error> {
        match (accepted, self) {
            (AcceptedPeriods::All, _) | (AcceptedPeriods::DayAndMonth, Period::Day | Period::Month) => Ok(()),
            (AcceptedPeriods::DayAndMonth, _) => Err(invalid(&self.to_string())),
        }
    }

    /// Refuses one that the calendar has not.
    pub(crate) fn of_calendar(self) -> Result<Self, Error> {
        match self {
            Period::Window(_) => Err(invalid(&self.to_string())),
            named => Ok(named),
        }
    }
}

fn unit_seconds(unit: char) -> Option<u64> {
    match unit {
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    }
}

fn window(text: &str) -> Option<Window> {
    let unit = text.chars().last()?;
    unit_seconds(unit)?;
    let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
    // One text for each window: neither 05m nor +5m.
    let is_canonical = text == format!("{count}{unit}");
    (is_canonical && (1..=MAX_COUNT).contains(&count)).then_some(Window { count, unit })
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "hour" => Period::Hour,
            "day" => Period::Day,
            "week" => Period::Week,
            "month" => Period::Month,
            "year" => Period::Year,
            _ => Period::Window(window(text).ok_or_else(|| invalid(text))?),
        })
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Period::Hour => f.write_str("hour"),
            Period::Day => f.write_str("day"),
            Period::Week => f.write_str("week"),
            Period::Month => f.write_str("month"),
            Period::Year => f.write_str("year"),
            Period::Window(Window { count, unit }) => write!(f, "{count}{unit}"),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn invalid(text: &str) -> Error {
    Error::new(ErrorCode::InvalidBudgetPeriod, format!("Invalid budget period: {}", shortened(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_named_exactly() {
        assert_eq!("month".parse::<Period>().unwrap(), Period::Month);
        for bad in [
            "",
            "Day",
            "daily",
            "fortnight",
            "day ",
            "m",
            "0m",
            "05m",
            "+5m",
            "5",
            "5s",
            "5M",
            "5mo",
            "1.5h",
            "100000m",
            "5m ",
            "٥m",
            "-5m",
        ] {
            let error = bad.parse::<Period>().unwrap_err();
            assert_eq!(error.message(), format!("Invalid budget period: {bad}"));
        }
    }

    #[test]
    fn windows_read_as_they_are_written() {
        for (text, seconds) in
            [("1m", 60), ("5m", 300), ("36h", 129_600), ("7d", 604_800), ("99999d", 8_639_913_600)]
        {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.to_string().as_str(), period.seconds()), (text, Some(seconds)));
            assert!(period.of_calendar().is_err());
        }
        assert_eq!(Period::minutes(5).to_string(), "5m");
    }

    #[test]
    fn a_client_may_accept_only_what_the_original_knows() {
        assert!(Period::Week.accept(AcceptedPeriods::All).is_ok());
        assert!(Period::Day.accept(AcceptedPeriods::DayAndMonth).is_ok());
        assert!(Period::Week.accept(AcceptedPeriods::DayAndMonth).is_err());
    }
}
