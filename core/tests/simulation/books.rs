//! The money of one key, as its callers know it, beside what the database says.

use std::collections::BTreeMap;

use agentkey::engine::MICROCENTS_PER_CENT;

use crate::database::View;

/// In micro-cents.
#[derive(Debug, Default)]
pub struct Book {
    periods: BTreeMap<i64, Period>,
    /// Charges that may or may not have been recorded, in whatever period: under way, or answered with an error that
    /// does not tell. They may be too many to add up in 64 bits.
    unknown: i128,
}

#[derive(Debug, Default)]
struct Period {
    acknowledged: i64,
    /// What the database said last.
    used: i64,
}

impl Book {
    pub fn was_used_before(&mut self, period: i64, used: i64) {
        self.periods.insert(period, Period { acknowledged: used, used });
    }

    pub fn may_be_charged(&mut self, cost: i64) {
        self.unknown += i128::from(cost);
    }

    pub fn was_charged(&mut self, period: i64, cost: i64) {
        self.unknown -= i128::from(cost);
        self.periods.entry(period).or_default().acknowledged += cost;
    }

    pub fn was_not_charged(&mut self, cost: i64) {
        self.unknown -= i128::from(cost);
    }

    /// `view`: the key as it is now.
    pub fn check(&mut self, view: &View, may_be_over: bool) -> Result<(), String> {
        self.periods.entry(view.period).or_default().used = view.used;
        let cap = view.budget_cents.map(|cents| cents * MICROCENTS_PER_CENT);
        if let Some(cap) = cap.filter(|cap| view.used > *cap && !may_be_over) {
            return Err(format!("{} is used of {cap}", view.used));
        }
        for (number, period) in &self.periods {
            let Period { acknowledged, used } = period;
            if acknowledged > used {
                return Err(format!("{acknowledged} is acknowledged, {used} is used, in period {number}"));
            }
            if i128::from(*used) > i128::from(*acknowledged) + self.unknown {
                let unknown = self.unknown;
                return Err(format!(
                    "{used} is used, {acknowledged} acknowledged, {unknown} unknown, in period {number}"
                ));
            }
        }
        Ok(())
    }
}
