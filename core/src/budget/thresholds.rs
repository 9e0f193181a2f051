//! The shares of a budget at which an alarm is raised.

use crate::error::{Error, ErrorCode};

const WHOLE: u16 = 1_000;
const MOST: usize = 10;

/// Shares of a budget, in thousandths, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thresholds(Vec<u16>);

impl Thresholds {
    /// Reads shares such as 0.8.
    ///
    /// # Errors
    /// `invalid_budget` for what is no share.
    pub fn new(shares: impl IntoIterator<Item = f64>) -> Result<Self, Error> {
        let mut read = Vec::new();
        for share in shares {
            read.push(thousandths(share).ok_or_else(|| invalid(format_args!("{share}")))?);
        }
        read.sort_unstable();
        read.dedup();
        if read.len() > MOST {
            return Err(invalid(format_args!("{} shares", read.len())));
        }
        Ok(Thresholds(read))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In thousandths.
    pub(crate) fn thousandths(&self) -> &[u16] {
        &self.0
    }
}

/// As it is written, not as it is rounded.
fn thousandths(share: f64) -> Option<u16> {
    let text = share.to_string();
    let (whole, digits) = text.split_once('.').unwrap_or((&text, ""));
    let digits = (digits.len() <= 3).then(|| format!("{digits:0<3}"))?;
    let thousandths: u16 = format!("{whole}{digits}").parse().ok()?;
    (1..=WHOLE).contains(&thousandths).then_some(thousandths)
}

fn invalid(what: std::fmt::Arguments<'_>) -> Error {
    let message = format!(
        "Invalid thresholds: {what}; give at most {MOST} shares of the budget above 0 and up to 1, with at most three digits, such as 0.5, 0.8, 1"
    );
    Error::new(ErrorCode::InvalidBudget, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_exactly_or_refused() {
        assert_eq!(Thresholds::new([1.0, 0.5, 0.8, 0.5]).unwrap().thousandths(), [500, 800, 1000]);
        assert_eq!(Thresholds::new([0.001, 0.333]).unwrap().thousandths(), [1, 333]);
        assert!(Thresholds::new([]).unwrap().is_empty());
        for bad in [0.0, -0.5, 1.001, 80.0, 0.1234, 0.0001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = Thresholds::new([0.5, bad]).unwrap_err();
            assert!(error.message().contains("such as 0.5"), "{error}");
        }
        assert!(Thresholds::new((1..=11).map(|n| f64::from(n) / 100.0)).is_err());
    }
}
