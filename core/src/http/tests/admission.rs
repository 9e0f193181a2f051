//! Admission, from the head of a request to the end of its reservation.

use super::*;
use crate::budget::money::{Balance, Cost};
use crate::budget::reservation::{IfExpired, ReservationId, ReservationRefusal, Settlement};
use crate::engine::{Reservation, ReserveRefusal, ReserveRefusalReason};

const ID: &str = "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f";

fn held(grant: Grant) -> Answer {
    Answer::Reserved(Ok(Reservation {
        id: ReservationId::parse(ID).unwrap(),
        expires_at: later(600).unwrap(),
        balance: Balance::default(),
        replayed: false,
        grant: Box::new(grant),
    }))
}

fn settled() -> Answer {
    Answer::Settled(Ok(Settlement {
        cost_microcents: 0,
        overage_microcents: 0,
        balance: Balance::default(),
        replayed: false,
    }))
}

fn holding() -> Guard {
    Guard::new().holds(true).prices(true)
}

/// A request that passed a guard which holds 60 cents.
fn passed(guard: &Guard) -> Exchange {
    let (mut exchange, next) = Exchange::with_guard(guard, Some("Bearer ak_1"));
    assert!(matches!(next, Next::Estimate));
    let next = exchange.estimated(Price::Amount(Cost::cents(60)));
    assert!(matches!(next, Next::Call(Call::Reserve(..))), "one call before the handler: {next:?}");
    let next = exchange.answered(Ok(held(anything())), now());
    assert!(matches!(next, Next::Pass(pass) if pass.reservation.is_some()));
    exchange
}

/// What is recorded of a request that ended so: the call, shown.
fn recorded(guard: &Guard, ending: Ending, price: Price) -> String {
    let mut exchange = passed(guard);
    let mut next = exchange.ended(ending);
    if matches!(next, Next::Price) {
        assert!(ending.ran(), "a handler that never ran is not asked for its cost");
        next = exchange.priced(price);
    }
    match next {
        Next::Call(Call::Settle(_, Cost::Microcents(amount))) => format!("settle {}", amount / 1_000_000),
        Next::Call(Call::Settle(_, Cost::Free)) => "settle 0".to_owned(),
        Next::Call(Call::Release(_)) => "release".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_call_is_made_before_the_handler_with_and_without_a_hold() {
    let (mut exchange, next) = Exchange::with_guard(&Guard::new().scope("read"), Some("Bearer ak_1"));
    assert!(matches!(next, Next::Call(Call::Validate(Caller::Key(token))) if token.expose() == "ak_1"));
    let next = exchange.answered(Ok(Answer::Validated(Ok(anything()))), now());
    assert!(matches!(next, Next::Pass(_)));
    passed(&holding());
}

#[test]
fn how_it_ended_decides_what_is_recorded() {
    let said = || Price::Amount(Cost::cents(7));
    for (ending, unsaid) in [
        (Ending::sent(200), "settle 60"),
        (Ending::sent(404), "release"),
        (Ending::sent(500), "release"),
        (Ending::sent(200).left().threw(), "release"),
        (Ending::sent(200).left(), "settle 60"),
    ] {
        assert_eq!(recorded(&holding(), ending, Price::Nothing), unsaid, "{ending:?}");
        assert_eq!(recorded(&holding(), ending, said()), "settle 7", "{ending:?}");
        assert_eq!(recorded(&holding(), ending, Price::Failed("why".to_owned())), "settle 60", "{ending:?}");
        assert_eq!(recorded(&holding(), Ending { began: false, ..ending }, said()), "release", "{ending:?}");
    }
    let billing = holding().bill_errors(true);
    assert_eq!(recorded(&billing, Ending::sent(500), Price::Nothing), "settle 60");
    assert_eq!(recorded(&holding(), Ending::sent(200), Price::Amount(Cost::Free)), "settle 0");
}

#[test]
fn what_could_not_be_recorded_is_told_with_key_reservation_and_amount() {
    let mut exchange = passed(&holding());
    let _ = exchange.ended(Ending::sent(200));
    let _ = exchange.priced(Price::Failed("it is a bug".to_owned()));
    let Next::Done(Some(line)) = exchange.answered(Err(database_fault()), now()) else { panic!("silence") };
    for part in ["key 7", ID, "60000000 micro-cents", "it is a bug", "connection refused"] {
        assert!(line.contains(part), "{line}");
    }
    let mut exchange = passed(&Guard::new().holds(true));
    let _ = exchange.ended(Ending::sent(200));
    let refused = Answer::Settled(Err(ReservationRefusal::Released));
    assert!(
        matches!(exchange.answered(Ok(refused), now()), Next::Done(Some(line)) if line.contains("released"))
    );
    let mut exchange = passed(&Guard::new().holds(true));
    let _ = exchange.ended(Ending::sent(200));
    assert!(matches!(exchange.answered(Ok(settled()), now()), Next::Done(None)));
}

#[test]
fn without_a_hold_a_cost_is_charged_whatever_the_budget() {
    let guard = Guard::new().prices(true);
    let price = |ending, price| {
        let (mut exchange, _) = Exchange::with_guard(&guard, Some("Bearer ak_1"));
        let _ = exchange.answered(Ok(Answer::Validated(Ok(anything()))), now());
        assert!(matches!(exchange.ended(ending), Next::Price));
        exchange.priced(price)
    };
    let cost = Cost::Microcents(42_000);
    let next = price(Ending::sent(500), Price::Amount(cost));
    assert!(matches!(next, Next::Call(Call::Charge(_, charged, _)) if charged == cost));
    assert!(matches!(price(Ending::sent(200), Price::Nothing), Next::Done(None)));
    assert!(matches!(price(Ending::sent(200), Price::Failed("why".to_owned())), Next::Done(Some(_))));
}

#[test]
fn a_refused_hold_is_answered_as_a_refused_key() {
    let response = |guard: &Guard, answer| {
        let (mut exchange, _) = Exchange::with_guard(guard, Some("Bearer ak_1"));
        let _ = exchange.estimated(Price::Amount(Cost::cents(60)));
        match exchange.answered(answer, now()) {
            Next::Respond(response) => response,
            other => panic!("{other:?}"),
        }
    };
    let refused = |reason, key| {
        let refusal = ReserveRefusal { key, ..ReserveRefusal::new(reason) };
        Ok(Answer::Reserved(Err(refusal)))
    };
    for (reason, status, body) in [
        (ReserveRefusalReason::InvalidKey, 401, r#"{"error":"invalid"}"#),
        (ReserveRefusalReason::Revoked, 401, r#"{"error":"revoked"}"#),
        (ReserveRefusalReason::Disabled, 401, r#"{"error":"disabled"}"#),
        (ReserveRefusalReason::Expired, 401, r#"{"error":"expired"}"#),
        (ReserveRefusalReason::BudgetExceeded, 429, r#"{"error":"budget_exceeded"}"#),
        (ReserveRefusalReason::InvalidCost, 500, r#"{"error":"auth_unavailable"}"#),
        (ReserveRefusalReason::IdempotencyConflict, 500, r#"{"error":"auth_unavailable"}"#),
    ] {
        assert_answer(&response(&holding(), refused(reason, None)), status, body);
    }
    let lacking = refused(ReserveRefusalReason::InsufficientScope, Some(Box::new(scoped(&["read"]))));
    let body = r#"{"error":"insufficient_scope","required":"write","available":["read"]}"#;
    assert_answer(&response(&holding().scope("write"), lacking), 403, body);
    assert_answer(&response(&holding(), Err(database_fault())), 500, r#"{"error":"auth_unavailable"}"#);
}

#[test]
fn without_an_estimate_nobody_passes() {
    for estimate in [Price::Nothing, Price::Failed("it is text".to_owned())] {
        let (mut exchange, _) = Exchange::with_guard(&holding(), Some("Bearer ak_1"));
        let Next::Respond(response) = exchange.estimated(estimate) else { panic!("somebody passed") };
        assert_answer(&response, 500, r#"{"error":"auth_unavailable"}"#);
    }
}

#[test]
fn a_double_looks_up_first_and_then_holds() {
    let (mut exchange, _) = Exchange::with_guard(&holding().scope("read").double(true), Some("Bearer ak_1"));
    let Next::Call(call) = exchange.estimated(Price::Amount(Cost::cents(60))) else { panic!("no call") };
    assert_eq!(call.json(), r#"{"args":["ak_1"],"method":"validate"}"#);
    let Next::Call(call) = exchange.told(Ok(r#"{"valid":true,"id":7,"scopes":["read"]}"#), now()) else {
        panic!("no call")
    };
    assert_eq!(
        call.json(),
        r#"{"args":["ak_1",{"costCents":60,"scope":"read","ttl":"600s"}],"method":"reserve"}"#
    );
    let held = format!(r#"{{"success":true,"reservationId":"{ID}"}}"#);
    let Next::Pass(pass) = exchange.told(Ok(&held), now()) else { panic!("no pass") };
    assert_eq!((pass.grant.id, pass.reservation.unwrap().id.as_str()), (KeyId::Integer(7), ID));
    let _ = exchange.ended(Ending::sent(200));
    let Next::Call(call) = exchange.priced(Price::Amount(Cost::Microcents(420_000))) else {
        panic!("no call")
    };
    assert_eq!(call.json(), format!(r#"{{"args":["{ID}",{{"costMicrocents":420000}}],"method":"settle"}}"#));
    assert!(matches!(exchange.told(Ok(r#"{"success":true}"#), now()), Next::Done(None)));
}

#[test]
fn an_estimate_is_held_as_the_guard_says() {
    let guard = holding().ttl("5m").unwrap().if_expired(IfExpired::Settle);
    let (mut exchange, _) = Exchange::with_guard(&guard, Some("Bearer ak_1"));
    let Next::Call(call) = exchange.estimated(Price::Amount(Cost::cents(60))) else { panic!("no call") };
    assert_eq!(
        call.json(),
        r#"{"args":["ak_1",{"costCents":60,"ifExpired":"settle","ttl":"300s"}],"method":"reserve"}"#
    );
}

#[test]
fn a_hold_of_a_second_call_is_refused_as_any_other() {
    let guard = holding().scope("read").scope("write").exceeded_status(402).unwrap();
    for (scopes, reason, status) in [
        (["read", "other"], None, 403),
        (["read", "write"], Some(ReserveRefusalReason::BudgetExceeded), 402),
        (["read", "write"], Some(ReserveRefusalReason::Revoked), 401),
    ] {
        let (mut exchange, _) = Exchange::with_guard(&guard, Some("Bearer ak_1"));
        let next = exchange.estimated(Price::Amount(Cost::cents(60)));
        assert!(matches!(next, Next::Call(Call::Validate(_))), "several scopes are seen on the key itself");
        let mut next = exchange.answered(Ok(Answer::Validated(Ok(scoped(&scopes)))), now());
        if let Some(reason) = reason {
            assert!(matches!(next, Next::Call(Call::Reserve(..))));
            let refusal = Err(ReserveRefusal::new(reason));
            next = exchange.answered(Ok(Answer::Reserved(refusal)), now());
        }
        let Next::Respond(response) = next else { panic!("{next:?}") };
        assert_eq!(response.status, status);
    }
}

#[test]
fn events_out_of_turn_let_nobody_pass() {
    let events: [fn(&mut Exchange) -> Next; 5] = [
        |exchange| exchange.estimated(Price::Amount(Cost::cents(1))),
        |exchange| exchange.ended(Ending::sent(200)),
        |exchange| exchange.priced(Price::Nothing),
        |exchange| exchange.verified(Verification::Known { subject: None, revoked: false, expired: false }),
        |exchange| exchange.answered(Ok(Answer::Migrated), now()),
    ];
    for event in events {
        let (mut exchange, _) = Exchange::with_guard(&Guard::new(), Some("Bearer ak_1"));
        assert!(matches!(event(&mut exchange), Next::Respond(response) if response.status == 500));
        let after = exchange.answered(Ok(Answer::Validated(Ok(anything()))), now());
        assert!(matches!(after, Next::Respond(response) if response.status == 500));
    }
}
