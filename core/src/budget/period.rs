//! Budget periods. When a period ends is decided in one place, `sql/next_reset.sql`, by the database's clock: the
//! earliest anchor + n periods that is yet to come, so that the 31st stays the 31st.

use std::str::FromStr;

use crate::error::{Error, ErrorCode, shortened};

/// How often a budget starts afresh. A key without a period has one budget for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
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
}

/// Which periods a client accepts for new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AcceptedPeriods {
    /// All five.
    #[default]
    All,
    /// `day` and `month`: those that the original package knows, for tables that it serves too.
    DayAndMonth,
}

impl Period {
    /// As the table stores it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Year => "year",
        }
    }

    /// Refuses a period that a client does not accept.
    pub(crate) fn accept(self, accepted: AcceptedPeriods) -> Result<(), Error> {
        match (accepted, self) {
            (AcceptedPeriods::All, _) | (AcceptedPeriods::DayAndMonth, Period::Day | Period::Month) => Ok(()),
            (AcceptedPeriods::DayAndMonth, _) => Err(invalid(self.as_str())),
        }
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year]
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or_else(|| invalid(text))
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
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
        for bad in ["", "Day", "daily", "fortnight", "day "] {
            let error = bad.parse::<Period>().unwrap_err();
            assert_eq!(error.message(), format!("Invalid budget period: {bad}"));
        }
    }

    #[test]
    fn a_client_may_accept_only_what_the_original_knows() {
        assert!(Period::Week.accept(AcceptedPeriods::All).is_ok());
        assert!(Period::Day.accept(AcceptedPeriods::DayAndMonth).is_ok());
        assert!(Period::Week.accept(AcceptedPeriods::DayAndMonth).is_err());
    }
}
