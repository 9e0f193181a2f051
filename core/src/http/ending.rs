//! What a request is worth, told from how it ended.

use crate::budget::money::Cost;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ending {
    /// Whether the handler ran. It did not where no route matched, or where the request was refused later.
    pub ran: bool,
    /// The status that was sent, if one was.
    pub status: Option<u16>,
    /// Whether the handler failed with an exception.
    pub threw: bool,
    /// Whether the whole response was sent. If not, the client left in the middle.
    pub completed: bool,
}

impl Ending {
    /// A handler that ran, and whose response was sent whole.
    pub fn sent(status: u16) -> Self {
        Ending { ran: true, status: Some(status), threw: false, completed: true }
    }

    /// A handler that never ran.
    pub fn never_ran() -> Self {
        Ending { ran: false, status: None, threw: false, completed: false }
    }

    /// Sets whether the handler ran.
    pub fn ran(mut self, ran: bool) -> Self {
        self.ran = ran;
        self
    }

    /// The client left before the response was sent whole.
    pub fn left(mut self) -> Self {
        self.completed = false;
        self
    }

    /// The handler failed with an exception.
    pub fn threw(mut self) -> Self {
        self.threw = true;
        self
    }
}

/// What the application says that a request did cost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Price {
    /// Nothing was said.
    Nothing,
    /// This much.
    Amount(Cost),
    /// Its `cost` failed, and why.
    Failed(String),
}

/// What is recorded. An error is not billed unless `bill_errors` says so, or the application names an amount.
pub(super) fn worth(ending: &Ending, price: &Price, estimate: Cost, bill_errors: bool) -> Cost {
    if !ending.ran {
        return Cost::Free;
    }
    let is_error = ending.threw || ending.status.is_some_and(|status| status >= 400);
    match price {
        Price::Amount(amount) => *amount,
        Price::Failed(_) => estimate,
        Price::Nothing if is_error && !bill_errors => Cost::Free,
        Price::Nothing => estimate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTIMATE: Cost = Cost::cents(60);
    const SAID: Cost = Cost::cents(7);

    fn recorded(ending: Ending, price: Price) -> Cost {
        worth(&ending, &price, ESTIMATE, false)
    }

    #[test]
    fn how_it_ended_decides() {
        let said = || Price::Amount(SAID);
        for (ending, unsaid) in [
            (Ending::sent(200), ESTIMATE),
            (Ending::sent(399), ESTIMATE),
            (Ending::sent(400), Cost::Free),
            (Ending::sent(500), Cost::Free),
            (Ending::sent(200).threw(), Cost::Free),
            (Ending::sent(200).left(), ESTIMATE),
            (Ending { status: None, ..Ending::sent(200) }.left(), ESTIMATE),
        ] {
            assert_eq!(recorded(ending, Price::Nothing), unsaid, "{ending:?}");
            assert_eq!(recorded(ending, said()), SAID, "{ending:?}");
            assert_eq!(recorded(ending, Price::Failed(String::new())), ESTIMATE, "{ending:?}");
        }
    }

    #[test]
    fn a_handler_that_never_ran_cost_nothing_whatever_is_said() {
        for price in [Price::Nothing, Price::Amount(SAID), Price::Failed(String::new())] {
            assert_eq!(recorded(Ending::never_ran(), price.clone()), Cost::Free);
            assert_eq!(worth(&Ending::sent(404).ran(false), &price, ESTIMATE, true), Cost::Free);
        }
    }

    #[test]
    fn errors_are_billed_where_that_is_asked_for() {
        assert_eq!(worth(&Ending::sent(500), &Price::Nothing, ESTIMATE, true), ESTIMATE);
        assert_eq!(worth(&Ending::sent(500), &Price::Amount(SAID), ESTIMATE, true), SAID);
    }
}
