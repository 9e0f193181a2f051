//! What a request is worth, told from how it ended.

use serde_json::Value;

use crate::budget::money::{Cost, Rounding};
use crate::error::shortened;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ending {
    /// Whether the request was handed on. It was not if it was refused later, or if its client had left.
    pub began: bool,
    /// How far the server's routes led the request; `None` if it does not say.
    pub routed: Option<Routed>,
    /// The status that was sent, if one was.
    pub status: Option<u16>,
    /// Whether the handler failed with an exception.
    pub threw: bool,
    /// Whether the whole response was sent. If not, the client left in the middle.
    pub completed: bool,
}

/// How far the routes of a server led a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Routed {
    /// To none of them.
    Nowhere,
    /// To one of its path, whose method may be another.
    Path,
    /// To a handler.
    Handler,
}

impl Ending {
    /// A handler that ran, and whose response was sent whole.
    pub fn sent(status: u16) -> Self {
        Ending { began: true, routed: None, status: Some(status), threw: false, completed: true }
    }

    /// A handler that never ran.
    pub fn never_ran() -> Self {
        Ending { began: false, routed: None, status: None, threw: false, completed: false }
    }

    /// Sets how far the server's routes led the request.
    pub fn routed(mut self, routed: Routed) -> Self {
        self.routed = Some(routed);
        self
    }

    /// Whether the application's handler ran: a server answers 404 or 405 itself where it has no route.
    pub(super) fn ran(&self) -> bool {
        let has_no_route = matches!(
            (self.status, self.routed),
            (Some(404 | 405), Some(Routed::Nowhere)) | (Some(405), Some(Routed::Path))
        );
        self.began && !has_no_route
    }

    /// Whether it is an error that the client got. What fails after a whole response is none.
    fn is_error(&self) -> bool {
        self.status.is_some_and(|status| status >= 400) || (self.threw && !self.completed)
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

impl Price {
    /// Reads what the application's `cost` or estimate answered, as JSON: nothing or `null`; a number of cents; or
    /// `{ "cents" }`, `{ "microcents" }` or `{ "usd" }`. It is exact to the micro-cent, beyond that rounded up.
    pub fn read(json: Option<&str>) -> Self {
        let wrong = || {
            let shown = shortened(json.unwrap_or_default());
            let forms = "expected a number of cents, { usd }, { cents } or { microcents }";
            Price::Failed(format!("{shown} is no amount; {forms}"))
        };
        let amount = match json.map(serde_json::from_str::<Value>) {
            None | Some(Ok(Value::Null)) => return Price::Nothing,
            Some(Ok(value)) => read_amount(&value),
            Some(Err(_)) => None,
        };
        match amount {
            Some(Cost::Invalid) | None => wrong(),
            Some(cost) => Price::Amount(cost),
        }
    }
}

impl From<()> for Price {
    /// Nothing is said.
    fn from((): ()) -> Self {
        Price::Nothing
    }
}

impl From<Cost> for Price {
    fn from(cost: Cost) -> Self {
        match cost {
            Cost::Invalid => Price::Failed("a cost that is not a finite number is no amount".to_owned()),
            Cost::Free | Cost::Microcents(_) => Price::Amount(cost),
        }
    }
}

macro_rules! cents {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Price {
            /// So many cents.
            fn from(cents: $integer) -> Self {
                Cost::from(cents).into()
            }
        })*
    };
}

cents!(u32, i32, i64);

impl<P: Into<Price>> From<Option<P>> for Price {
    /// `None`: nothing is said.
    fn from(amount: Option<P>) -> Self {
        amount.map_or(Price::Nothing, Into::into)
    }
}

impl<P: Into<Price>, E: std::fmt::Display> From<Result<P, E>> for Price {
    /// `Err`: it failed.
    fn from(amount: Result<P, E>) -> Self {
        amount.map_or_else(|error| Price::Failed(error.to_string()), Into::into)
    }
}

fn read_amount(value: &Value) -> Option<Cost> {
    let cents = |value: &Value| Some(Cost::from_cents_f64_with(value.as_f64()?, Rounding::Exact));
    let Value::Object(members) = value else { return cents(value) };
    let mut given = members.iter().filter(|(_, value)| !value.is_null());
    let (Some((name, value)), None) = (given.next(), given.next()) else { return None };
    match (name.as_str(), value) {
        ("cents", value) => cents(value),
        ("microcents", value) => value.as_i64().map(Cost::microcents),
        ("usd", Value::String(text)) => Some(Cost::from_usd(text)),
        // By its shortest decimal form, as cents are.
        ("usd", value) => value.as_f64().map(|usd| Cost::from_usd(&usd.to_string())),
        _ => None,
    }
}

/// What is recorded. An error is not billed unless `bill_errors` says so, or the application names an amount.
pub(super) fn worth(ending: &Ending, price: &Price, estimate: Cost, bill_errors: bool) -> Cost {
    if !ending.ran() {
        return Cost::Free;
    }
    match price {
        Price::Amount(amount) => *amount,
        Price::Failed(_) => estimate,
        Price::Nothing if ending.is_error() && !bill_errors => Cost::Free,
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
            (Ending::sent(200).left().threw(), Cost::Free),
            (Ending::sent(200).threw(), ESTIMATE),
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
            for (status, routed) in [(404, Routed::Nowhere), (405, Routed::Nowhere), (405, Routed::Path)] {
                assert_eq!(worth(&Ending::sent(status).routed(routed), &price, ESTIMATE, true), Cost::Free);
            }
        }
    }

    #[test]
    fn a_handler_may_answer_404_itself() {
        for routed in [Routed::Path, Routed::Handler] {
            assert_eq!(recorded(Ending::sent(404).routed(routed), Price::Amount(SAID)), SAID);
        }
        assert_eq!(recorded(Ending::sent(405).routed(Routed::Handler), Price::Amount(SAID)), SAID);
        assert_eq!(recorded(Ending::sent(404), Price::Amount(SAID)), SAID);
        assert_eq!(recorded(Ending::sent(200).routed(Routed::Nowhere), Price::Nothing), ESTIMATE);
    }

    #[test]
    fn an_amount_is_read_in_each_of_its_forms() {
        let read = |json: &str| Price::read(Some(json));
        let micro = |amount| Price::Amount(Cost::Microcents(amount));
        assert_eq!(Price::read(None), Price::Nothing);
        assert_eq!(read("null"), Price::Nothing);
        for (json, amount) in [
            ("3", 3_000_000),
            ("0.042", 42_000),
            ("4.5e-7", 1),
            (r#"{"cents":0.5}"#, 500_000),
            (r#"{"microcents":7}"#, 7),
            (r#"{"usd":"0.00042"}"#, 42_000),
            (r#"{"usd":4.5e-7}"#, 45),
            (r#"{"usd":0.5,"cents":null}"#, 50_000_000),
        ] {
            assert_eq!(read(json), micro(amount), "{json}");
        }
        assert_eq!(read("0"), Price::Amount(Cost::Free));
        assert_eq!(read("-3"), Price::Amount(Cost::Free));
        for bad in [
            "",
            "\"3\"",
            "\"NaN\"",
            "true",
            "[]",
            "{}",
            r#"{"usd":1,"cents":1}"#,
            r#"{"usd":"x"}"#,
            r#"{"eur":1}"#,
        ] {
            assert!(matches!(read(bad), Price::Failed(_)), "{bad}");
        }
    }

    #[test]
    fn rust_says_an_amount_by_its_type() {
        assert_eq!(Price::from(3), Price::Amount(Cost::cents(3)));
        assert_eq!(Price::from(Some(Cost::microcents(7))), Price::Amount(Cost::microcents(7)));
        assert_eq!(Price::from(Cost::from_usd("0.03")), Price::Amount(Cost::cents(3)));
        assert_eq!(Price::from(()), Price::Nothing);
        assert_eq!(Price::from(None::<i64>), Price::Nothing);
        assert_eq!(Price::from(Err::<Option<i64>, _>("no idea")), Price::Failed("no idea".to_owned()));
        assert!(matches!(Price::from(Cost::Invalid), Price::Failed(_)));
    }

    #[test]
    fn errors_are_billed_where_that_is_asked_for() {
        assert_eq!(worth(&Ending::sent(500), &Price::Nothing, ESTIMATE, true), ESTIMATE);
        assert_eq!(worth(&Ending::sent(500), &Price::Amount(SAID), ESTIMATE, true), SAID);
    }
}
