//! Money: whole cents in the API, micro-cents (1 cent = 1,000,000) underneath, integers throughout. A sum that
//! cannot be stored is refused, never wrapped.

/// Micro-cents in a cent.
pub const MICROCENTS_PER_CENT: i64 = 1_000_000;

/// The most cents that a budget can hold: 40 thousand million dollars. It leaves room to add and subtract two totals in
/// 64-bit micro-cents, and it limits every key, also one without a budget.
pub const MAX_CENTS: i64 = 4_000_000_000_000;

/// A fraction of a cent up to this many decimal places' last unit is taken for floating-point noise.
const NOISE_PLACES: usize = 9;

/// What a call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// Cents as languages with one number type give them. A fraction of a cent is rounded up, after noise up to 1e-9
    /// (110.00000000000001) is dropped. The number is read by its shortest decimal form: no float is calculated with.
    pub fn from_cents_f64(cents: f64) -> Cost {
        if !cents.is_finite() {
            return Cost::Invalid;
        }
        if cents <= 0.0 {
            return Cost::Free;
        }
        let text = format!("{cents}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let whole = whole.parse::<i64>().unwrap_or(i64::MAX); // only too many digits can fail here
        let noise = fraction.bytes().take(NOISE_PLACES - 1).all(|d| d == b'0')
            && matches!(
                fraction.as_bytes().get(NOISE_PLACES - 1..),
                None | Some([]) | Some([b'0', ..]) | Some([b'1'])
            );
        // A positive cost is never nothing, however small.
        Cost::cents(if noise && whole > 0 { whole } else { whole.saturating_add(1) })
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

/// What remains, in whole cents, never below 0: a started cent is gone.
pub(crate) fn remaining_cents(cap: i64, used: i64) -> i64 {
    cap.saturating_sub(used).max(0) / MICROCENTS_PER_CENT
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
        assert_eq!(remaining_cents(5 * M, 1), 4);
        assert_eq!(remaining_cents(5 * M, 9 * M), 0);
        assert_eq!(remaining_cents(i64::MIN, i64::MAX), 0);
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
