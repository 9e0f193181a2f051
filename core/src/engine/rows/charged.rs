//! What became of each charge of a batch, told from what the statement answers for each key.

use super::{fields, integer, is_true, place};
use crate::budget::charge::{ChargeOutcome, ChargeRefusal, Charged};
use crate::budget::money::{Balance, MICROCENTS_PER_CENT};
use crate::error::Error;

/// A row of a charging statement: `charge_one.sql`, `charge_many.sql`, `charge_tree.sql` or `charge_batch.sql`, which
/// declares the order.
pub(crate) enum ChargedRow {
    Charged(ChargedKey),
    /// Nothing was charged: `spend.sql` decides.
    HasParent {
        place: usize,
    },
    /// Nothing was charged: somebody else has locked the key's row.
    Busy {
        place: usize,
        id: String,
    },
}

/// What became of a key's charges.
pub(crate) struct ChargedKey {
    /// The place in the statement, from 0.
    pub(crate) place: usize,
    budget_cents: Option<i64>,
    before: i64,
    reserved: i64,
    after: i64,
}

impl ChargedRow {
    /// `sent` tells what was to be charged at a place, in all.
    pub(crate) fn read(row: &str, sent: impl Fn(usize) -> i64) -> Result<Self, Error> {
        let [n, has_parent, budget, used, used_micro, reserved, before] = fields(row, "a charged key's row")?;
        let place = place(&n)?;
        match (&has_parent, &budget) {
            (Some(_), _) if is_true(&has_parent) => return Ok(ChargedRow::HasParent { place }),
            (None, Some(id)) => return Ok(ChargedRow::Busy { place, id: id.clone().into_owned() }),
            _ => {}
        }
        let microcents = |cents: i64| cents.saturating_mul(MICROCENTS_PER_CENT);
        let used = integer(&used, "budget_used_cents")?.ok_or_else(|| Error::unexpected("no amount"))?;
        let after =
            microcents(used).saturating_add(integer(&used_micro, "budget_used_microcents")?.unwrap_or(0));
        Ok(ChargedRow::Charged(ChargedKey {
            place,
            budget_cents: integer(&budget, "budget_cents")?,
            before: integer(&before, "what was used before")?
                .unwrap_or_else(|| after.saturating_sub(sent(place))),
            reserved: integer(&reserved, "budget_reserved_cents")?.unwrap_or(0),
            after,
        }))
    }
}

impl ChargedKey {
    /// Replays the batch: which of `costs`, in ascending order, are in the total that was charged. The statement took
    /// the longest prefix that fits, which is what serving them one by one in this order would have done.
    pub(crate) fn replay(&self, costs: impl Iterator<Item = i64>) -> Result<Vec<ChargeOutcome>, Error> {
        let mut used = self.before;
        let outcomes = costs
            .map(|cost| match used.checked_add(cost).filter(|sum| *sum <= self.after) {
                Some(sum) => {
                    used = sum;
                    Ok(self.recorded(used))
                }
                None => Err(ChargeRefusal::BudgetExceeded),
            })
            .collect();
        if used != self.after {
            return Err(Error::unexpected("a charged total that is no sum of the costs sent"));
        }
        Ok(outcomes)
    }

    fn recorded(&self, used: i64) -> Charged {
        Charged { balance: Some(Balance::new(self.budget_cents, used, self.reserved)), replayed: false }
    }

    /// Whether open reservations hold a part of the budget.
    pub(crate) fn has_reservations(&self) -> bool {
        self.reserved > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const M: i64 = MICROCENTS_PER_CENT;

    fn read(row: &str) -> Result<ChargedKey, Error> {
        match ChargedRow::read(row, |_| 2 * M)? {
            ChargedRow::Charged(key) => Ok(key),
            ChargedRow::HasParent { .. } | ChargedRow::Busy { .. } => panic!("it was not charged"),
        }
    }

    fn recorded(used: i64, remaining: Option<i64>) -> ChargeOutcome {
        let budget = remaining.map(|cents| cents + used);
        Ok(Charged { balance: Some(Balance::new(budget, used * M, 0)), replayed: false })
    }

    #[test]
    fn a_batch_that_fits_is_recorded_whole() {
        let key = read(&format!("(3,f,10,6,0,0,{})", 2 * M)).unwrap();
        assert_eq!(key.place, 2);
        assert_eq!(
            key.replay([M, 3 * M].into_iter()).unwrap(),
            vec![recorded(3, Some(7)), recorded(6, Some(4))]
        );
    }

    #[test]
    fn a_charge_alone_is_told_from_what_is_used_after_it() {
        let key = read("(1,f,10,6,500000,2000000,)").unwrap();
        assert_eq!((key.before, key.after, key.reserved), (4 * M + M / 2, 6 * M + M / 2, 2 * M));
        let unmigrated = read("(1,f,,1,,,)").unwrap();
        assert_eq!(
            (unmigrated.before, unmigrated.after, unmigrated.reserved),
            (-M, M, 0),
            "a credit was given"
        );
    }

    #[test]
    fn a_key_with_a_parent_was_not_charged() {
        assert!(matches!(ChargedRow::read("(3,t,,,,,)", |_| 0), Ok(ChargedRow::HasParent { place: 2 })));
    }

    #[test]
    fn the_largest_are_refused_when_not_all_fit() {
        let key = read("(1,f,4,3,0,0,0)").unwrap();
        let usages = key.replay([M, 2 * M, 2 * M].into_iter()).unwrap();
        assert_eq!(usages[..2], [recorded(1, Some(3)), recorded(3, Some(1))]);
        assert_eq!(usages[2], Err(ChargeRefusal::BudgetExceeded));
    }

    #[test]
    fn an_uncapped_key_has_no_remainder() {
        let key = read("(1,f,,1,0,0,0)").unwrap();
        assert_eq!(key.replay([M].into_iter()).unwrap(), vec![recorded(1, None)]);
    }

    #[test]
    fn a_total_that_is_no_sum_of_the_costs_is_a_fault() {
        let key = read("(1,f,,1,0,0,0)").unwrap();
        assert!(key.replay([2 * M].into_iter()).is_err());
        for bad in [
            "",
            "(0)",
            "(1,2)",
            "(1,f,,,,,)",
            "(,f,1,1,1,1,)",
            "(1,f,,x,0,1,)",
            "(0,f,,0,0,1,)",
            "(1,f,,0,0)",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// The statement's rule and the replay agree with serving the costs one by one, cheapest first.
        #[test]
        fn replay_is_the_serial_order_by_cost(
            cap in 0i64..200, used in 0i64..200, mut costs in prop::collection::vec(1i64..60, 1..20),
        ) {
            costs.sort_unstable();
            let mut after = used;
            let mut serial = Vec::new();
            for cost in &costs {
                let fits = after + cost <= cap;
                if fits { after += cost; }
                serial.push(fits);
            }
            let key = ChargedKey { place: 0, budget_cents: Some(cap), before: used, reserved: 0, after };
            let replayed: Vec<bool> = key.replay(costs.into_iter()).unwrap().iter().map(Result::is_ok).collect();
            prop_assert_eq!(replayed, serial);
        }
    }
}
