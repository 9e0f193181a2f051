//! Money: whole cents in the API, micro-cents (1 cent = 1,000,000) underneath, integers throughout. A sum that
//! cannot be stored is refused, never wrapped.

/// Micro-cents in a cent.
pub const MICROCENTS_PER_CENT: i64 = 1_000_000;

/// The most cents that a budget can hold: 40 thousand million dollars. It leaves room to add and subtract two totals in
/// 64-bit micro-cents, and it limits every key, also one without a budget.
pub const MAX_CENTS: i64 = 4_000_000_000_000;

/// A fraction of a cent up to this many decimal places' last unit is taken for floating-point noise.
const NOISE_PLACES: usize = 9;
/// A micro-cent is the sixth decimal place of a cent.
const CENT_PLACES: u8 = 6;
/// The shortest form of the smallest positive double is not much longer.
const LONGEST_DECIMAL: usize = 400;

/// How costs that are given in cents, perhaps with a fraction, are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rounding {
    /// A fraction of a cent counts as a whole one, as in the original.
    #[default]
    Up,
    /// To the micro-cent; only a fraction of that is rounded up.
    Exact,
}

/// What a call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an amount has no other forms")]
pub enum Cost {
    /// Nothing, or less: there is nothing to record.
    Free,
    /// A positive number of micro-cents. More than can be represented is the most that can be: no budget has room for it.
    Microcents(i64),
    /// Not a number, or infinite.
    Invalid,
}

impl Cost {
    /// Whole cents.
    pub const fn cents(cents: i64) -> Cost {
        if cents <= 0 { Cost::Free } else { Cost::Microcents(cents.saturating_mul(MICROCENTS_PER_CENT)) }
    }

    /// Whole micro-cents.
    pub const fn microcents(microcents: i64) -> Cost {
        if microcents <= 0 { Cost::Free } else { Cost::Microcents(microcents) }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Cost) -> Cost {
        match (self, other) {
            (Cost::Invalid, _) | (_, Cost::Invalid) => Cost::Invalid,
            (Cost::Free, cost) | (cost, Cost::Free) => cost,
            (Cost::Microcents(one), Cost::Microcents(other)) => Cost::Microcents(one.saturating_add(other)),
        }
    }

    /// Cents as languages with one number type give them. A fraction of a cent is rounded up, after noise up to 1e-9
    /// (110.00000000000001) is dropped. The number is read by its shortest decimal form: no float is calculated with.
    pub fn from_cents_f64(cents: f64) -> Cost {
        Cost::from_cents_f64_with(cents, Rounding::Up)
    }

    /// The same, rounded as is wished.
    pub fn from_cents_f64_with(cents: f64, rounding: Rounding) -> Cost {
        if !cents.is_finite() {
            return Cost::Invalid;
        }
        if cents <= 0.0 {
            return Cost::Free;
        }
        let places = match rounding {
            Rounding::Up => 0,
            Rounding::Exact => CENT_PLACES,
        };
        let unit = 10i64.pow(u32::from(CENT_PLACES - places));
        match scaled(&format!("{cents}"), places, true) {
            // A positive cost is never nothing, however small.
            Some(count) => Cost::Microcents(count.max(1).saturating_mul(unit)),
            None => Cost::Invalid,
        }
    }

    /// US dollars as a decimal text, such as `0.00042` or `4.2e-4`: digits, at most one point among them, perhaps a minus
    /// and an exponent. Exact to the micro-cent (eight places); a fraction of that is rounded up. Anything else is
    /// `Invalid`.
    pub fn from_usd(text: &str) -> Cost {
        let (digits, is_negative) = match text.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let digits = match digits.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => without_exponent(mantissa, exponent),
            None => Some(digits.to_owned()),
        };
        match digits.and_then(|digits| scaled(&digits, CENT_PLACES + 2, false)) {
            Some(_) if is_negative => Cost::Free,
            Some(count) => Cost::microcents(count),
            None => Cost::Invalid,
        }
    }
}

/// A decimal with its point moved. Beyond `LONGEST_DECIMAL` places it makes no difference how far.
fn without_exponent(mantissa: &str, exponent: &str) -> Option<String> {
    let (sign, magnitude) = match exponent.strip_prefix('-') {
        Some(magnitude) => (-1, magnitude),
        None => (1, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if magnitude.is_empty() || mantissa.len() > 64 || whole.len() + fraction.len() == 0 {
        return None;
    }
    if !is_number(magnitude) || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let places = magnitude.parse::<usize>().unwrap_or(usize::MAX).min(LONGEST_DECIMAL - 100);
    Some(match sign {
        1 => {
            let moved = fraction.len().min(places);
            let (up, rest) = fraction.split_at(moved);
            format!("{whole}{up}{:0<width$}.{rest}", "", width = places - moved)
        }
        _ => {
            let moved = whole.len().min(places);
            let (rest, down) = whole.split_at(whole.len() - moved);
            format!("{rest}.{:0<width$}{down}{fraction}", "", width = places - moved)
        }
    })
}

/// A decimal text times 10^places, rounded up; noise at its end does not count where that is said. More than can be
/// represented is the most that can be. `None` if it is no decimal.
fn scaled(text: &str, places: u8, has_noise: bool) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0
        || text.len() > LONGEST_DECIMAL
        || !is_number(whole)
        || !is_number(fraction)
    {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(usize::from(places)));
    let digits = format!("{whole}{kept:0<width$}", width = usize::from(places));
    // Only too many digits can fail here.
    let count = if digits.is_empty() { 0 } else { digits.parse::<i64>().unwrap_or(i64::MAX) };
    // What the noise's last decimal place has left after those that count.
    let noise_places = NOISE_PLACES.saturating_sub(usize::from(places));
    let is_noise = has_noise
        && noise_places > 0
        && count > 0
        && rest.bytes().take(noise_places - 1).all(|d| d == b'0')
        && matches!(rest.as_bytes().get(noise_places - 1..), None | Some([] | [b'0', ..] | [b'1']));
    let is_whole = rest.bytes().all(|d| d == b'0');
    Some(if is_noise || is_whole { count } else { count.saturating_add(1) })
}

/// What a budget has seen, in micro-cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Balance {
    /// The budget; `None` is none.
    pub budget_microcents: Option<i64>,
    /// What was used of it in this period.
    pub used_microcents: i64,
    /// What open reservations hold of it.
    pub reserved_microcents: i64,
}

impl Balance {
    pub(crate) fn new(budget_cents: Option<i64>, used: i64, reserved: i64) -> Self {
        Balance {
            budget_microcents: budget_cents.map(|cents| cents.saturating_mul(MICROCENTS_PER_CENT)),
            used_microcents: used,
            reserved_microcents: reserved,
        }
    }

    /// What was used, in cents; a started cent counts.
    pub fn used_cents(&self) -> i64 {
        cents_rounded_up(self.used_microcents)
    }

    /// What open reservations hold, in cents.
    pub fn reserved_cents(&self) -> i64 {
        cents_rounded_up(self.reserved_microcents)
    }

    /// What remains, in micro-cents, never below 0; `None` without a budget.
    pub fn remaining_microcents(&self) -> Option<i64> {
        let taken = self.used_microcents.saturating_add(self.reserved_microcents);
        self.budget_microcents.map(|cap| cap.saturating_sub(taken).max(0))
    }

    /// What remains, in cents, never below 0; a started cent is gone. `None` without a budget.
    pub fn remaining_cents(&self) -> Option<i64> {
        self.remaining_microcents().map(|remaining| remaining / MICROCENTS_PER_CENT)
    }

    /// By how much the use is above the budget, in micro-cents; 0 if it is not.
    pub fn over_microcents(&self) -> i64 {
        self.budget_microcents.map_or(0, |cap| self.used_microcents.saturating_sub(cap).max(0))
    }

    /// The same in whole cents, rounded up.
    pub fn over_cents(&self) -> i64 {
        cents_rounded_up(self.over_microcents())
    }
}

impl From<u32> for Cost {
    fn from(cents: u32) -> Cost {
        Cost::cents(i64::from(cents))
    }
}

impl From<i32> for Cost {
    fn from(cents: i32) -> Cost {
        Cost::cents(i64::from(cents))
    }
}

impl From<i64> for Cost {
    fn from(cents: i64) -> Cost {
        Cost::cents(cents)
    }
}

/// What was used, in whole cents: a started cent counts.
pub(crate) fn cents_rounded_up(microcents: i64) -> i64 {
    microcents.div_euclid(MICROCENTS_PER_CENT) + i64::from(microcents.rem_euclid(MICROCENTS_PER_CENT) > 0)
}

#[cfg(test)]
#[allow(clippy::float_arithmetic, reason = "tests compare with the floats that callers send")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const M: i64 = MICROCENTS_PER_CENT;

    #[test]
    fn fractions_of_a_cent_round_up_and_noise_does_not() {
        for (cents, expected) in [
            (1.0, 1),
            (0.02, 1),
            (1.5, 2),
            (99.01, 100),
            (110.00000000000001, 110),
            (0.1 + 0.2, 1),
            (3.0000000009, 3),
            (3.000000001, 3),
            (3.0000000011, 4),
            (3.00000001, 4),
            (1e-300, 1),
            (5e-324, 1),
            (1e12, 1_000_000_000_000),
        ] {
            assert_eq!(Cost::from_cents_f64(cents), Cost::Microcents(expected * M), "{cents}");
        }
    }

    #[test]
    fn what_is_no_number_is_invalid_and_what_is_not_positive_is_free() {
        for cents in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Cost::from_cents_f64(cents), Cost::Invalid);
        }
        for cents in [0.0, -0.0, -1.0, -1e300] {
            assert_eq!(Cost::from_cents_f64(cents), Cost::Free);
        }
        assert_eq!(Cost::cents(0), Cost::Free);
        assert_eq!(Cost::cents(-5), Cost::Free);
    }

    #[test]
    fn what_cannot_be_represented_is_the_most_that_can_be() {
        for cents in [1e300, f64::MAX, 9.3e12] {
            assert_eq!(Cost::from_cents_f64(cents), Cost::Microcents(i64::MAX), "{cents}");
        }
        assert_eq!(Cost::cents(i64::MAX), Cost::Microcents(i64::MAX));
    }

    #[test]
    fn used_and_remaining_add_up_to_the_cap() {
        assert_eq!(cents_rounded_up(1), 1);
        assert_eq!(cents_rounded_up(2 * M), 2);
        assert_eq!(cents_rounded_up(-1), 0);
        let balance = |cap: i64, used| Balance::new(Some(cap), used, 0);
        assert_eq!(balance(5, 1).remaining_cents(), Some(4));
        assert_eq!(balance(5, 9 * M).remaining_cents(), Some(0));
        assert_eq!(balance(5, 9 * M).over_microcents(), 4 * M);
        assert_eq!(balance(i64::MIN, i64::MAX).remaining_cents(), Some(0));
        assert_eq!(Balance::new(None, 7, 0).remaining_cents(), None);
    }

    #[test]
    fn exact_costs_keep_their_micro_cents() {
        let exact = |cents| Cost::from_cents_f64_with(cents, Rounding::Exact);
        for (cents, expected) in [
            (0.004, 4_000),
            (0.02, 20_000),
            (1.5, 1_500_000),
            (0.1 + 0.2, 300_000),
            (1e-9, 1),
            (0.0000011, 2),
            (3.0, 3 * M),
        ] {
            assert_eq!(exact(cents), Cost::Microcents(expected), "{cents}");
        }
        assert_eq!((exact(f64::NAN), exact(-0.1)), (Cost::Invalid, Cost::Free));
    }

    #[test]
    fn dollars_are_read_digit_by_digit() {
        for (usd, expected) in [
            ("1", 100 * M),
            ("0.00042", 42_000),
            (".5", 50 * M),
            ("5.", 500 * M),
            ("0.00000001", 1),
            ("0.000000001", 1),
            ("0.0000000100", 1),
            ("0.000000010000001", 2),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(Cost::from_usd(usd), Cost::Microcents(expected), "{usd}");
        }
        for (usd, expected) in [
            ("4.5e-7", 45),
            ("2.4e-05", 2_400),
            ("1E2", 100 * 100 * M),
            ("1.5e+1", 15 * 100 * M),
            ("12.345e1", 12_345 * M),
            ("125e-2", 125 * M),
            ("1e-9", 1),
            ("1e-999999999999999999999", 1),
            ("1e999999999999999999999", i64::MAX),
            ("0.1e1", 100 * M),
        ] {
            assert_eq!(Cost::from_usd(usd), Cost::Microcents(expected), "{usd}");
        }
        assert_eq!(Cost::from_usd("0"), Cost::Free);
        assert_eq!(Cost::from_usd("0e5"), Cost::Free);
        assert_eq!(Cost::from_usd("-3.5"), Cost::Free);
        assert_eq!(Cost::from_usd("-3e2"), Cost::Free);
        for bad in [
            "",
            ".",
            "-",
            "e3",
            "1e",
            "1e+",
            "1e-",
            "1e3.5",
            "1e3e3",
            "1e 3",
            "1,5",
            " 1",
            "+1",
            "0x1",
            "1.2.3",
            "NaN",
            "--1",
            "١",
            &"9".repeat(401),
        ] {
            assert_eq!(Cost::from_usd(bad), Cost::Invalid, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whole_cents_are_exact(cents in 1i64..9_000_000_000_000) {
            prop_assert_eq!(Cost::from_cents_f64(cents as f64), Cost::Microcents(cents * M));
        }

        #[test]
        fn a_cost_is_never_rounded_down_by_more_than_noise(cents in 1e-6f64..1e6) {
            let Cost::Microcents(cost) = Cost::from_cents_f64(cents) else { panic!("a cost") };
            prop_assert!(cost as f64 / 1e6 >= cents - 1e-8);
            prop_assert!(cost as f64 / 1e6 < cents + 1.0 + 1e-8);
        }

        #[test]
        fn no_number_panics(bits in any::<u64>()) {
            let _ = Cost::from_cents_f64(f64::from_bits(bits));
        }
    }
}
