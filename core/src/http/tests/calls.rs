//! Calls on a client: ours, which takes requests, and doubles, whose methods are called and may say less.

use super::*;
use crate::budget::charge::Charge;
use crate::budget::money::Cost;
use crate::budget::reservation::{ReservationId, Reserve};
use crate::engine::{Credential, Request};
use std::time::Duration;

const ID: &str = "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f";

fn id() -> ReservationId {
    ReservationId::parse(ID).unwrap()
}

/// Who presented `ak_1`.
fn holder() -> Caller {
    match Exchange::with_guard(&Guard::new(), Some("Bearer ak_1")).1 {
        Next::Call(Call::Validate(caller)) => caller,
        other => panic!("{other:?}"),
    }
}

fn robot() -> Caller {
    Caller::Subject("robot".to_owned())
}

fn child() -> NewKey {
    let spec = CreateKey::new(42).scopes(["read"]).budget_cents(5).budget_period(crate::Period::Day);
    let spec = spec.expires_in(Duration::from_secs(86_400)).parent(Parent::Caller("7".to_owned()));
    NewKey { spec, expires_in: Some("24h".to_owned()) }
}

#[track_caller]
fn call_of(next: Next) -> Call {
    match next {
        Next::Call(call) => call,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn response_of(next: Next) -> Response {
    match next {
        Next::Respond(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_have_the_names_and_arguments_of_the_npm_packages_methods() {
    let hold = || Reserve::new(Cost::cents(60)).ttl(Duration::from_secs(90));
    let account = |account| Revocation::of_key("8").of_account(account);
    for (call, method, args) in [
        (Call::Validate(holder()), "validate", json!(["ak_1"])),
        (Call::Validate(robot()), "validateBySubject", json!(["robot"])),
        (Call::Reserve(holder(), hold()), "reserve", json!(["ak_1", {"costCents": 60, "ttl": "90s"}])),
        (
            Call::Reserve(robot(), Reserve::new(Cost::Microcents(7)).scope("read")),
            "reserveBySubject",
            json!(["robot", {"costMicrocents": 7, "ttl": "600s", "scope": "read"}]),
        ),
        (Call::Settle(id(), Cost::cents(2)), "settle", json!([ID, {"costCents": 2}])),
        (
            Call::Settle(id(), Cost::Microcents(1_500_000)),
            "settle",
            json!([ID, {"costMicrocents": 1_500_000}]),
        ),
        (Call::Settle(id(), Cost::Free), "settle", json!([ID, {"costCents": 0}])),
        (Call::Release(id()), "release", json!([ID])),
        (
            Call::Charge(holder(), Cost::cents(2), 7.into()),
            "trackUsage",
            json!(["ak_1", {"costCents": 2, "overrun": "record"}]),
        ),
        (
            Call::Charge(robot(), Cost::Microcents(1), 7.into()),
            "trackUsageBySubject",
            json!(["robot", {"costMicrocents": 1, "overrun": "record"}]),
        ),
        (
            Call::Create(Box::new(child())),
            "create",
            json!([{
                "accountId": 42, "userId": null, "scopes": ["read"], "budgetCents": 5, "budgetPeriod": "day",
                "expiresIn": "24h", "delegatedBy": null, "name": null, "parent": {"caller": "7"},
            }]),
        ),
        (Call::EnsureSubject("robot".to_owned()), "ensureSubject", json!(["robot"])),
        (Call::Revoke(account(Some("acct".into()))), "revoke", json!(["8", "acct"])),
        (Call::Revoke(account(Some(42.into()))), "revoke", json!(["8", 42])),
        // The account NULL owns nothing: it must be said, or every account would be meant.
        (Call::Revoke(account(None)), "revoke", json!(["8", null])),
    ] {
        let json: Value = serde_json::from_str(&call.json()).unwrap();
        assert_eq!(json, json!({"method": method, "args": args}));
        assert!(!format!("{call:?}").contains("ak_1"), "{call:?}");
    }
}

#[test]
fn our_own_client_takes_the_same_as_a_request() {
    let key = || Credential::of_key("ak_1");
    let subject = || Credential::of_subject("robot");
    let hold = || Reserve::new(Cost::cents(60)).scope("read");
    let cost = Cost::Microcents(7);
    let revocation = || Revocation::of_key(8).of_account(Some(42.into())).within(7);
    let record = || Charge::of_admitted(cost, Some(7.into()));
    for (call, request) in [
        (Call::Validate(holder()), Request::Validate(key())),
        (Call::Validate(robot()), Request::Validate(subject())),
        (Call::Reserve(robot(), hold()), Request::Reserve(subject(), hold())),
        (Call::Settle(id(), cost), Request::Settle(id(), cost)),
        (Call::Release(id()), Request::Release(id())),
        (Call::Charge(holder(), cost, 7.into()), Request::Charge(key(), record())),
        (Call::Create(Box::new(child())), Request::Create(child().spec)),
        (Call::Revoke(revocation()), Request::Revoke(revocation())),
    ] {
        assert_eq!(format!("{:?}", call.request().unwrap()), format!("{request:?}"));
    }
    let Some(Request::Validate(credential)) = Call::Validate(holder()).request() else {
        panic!("no look-up")
    };
    assert_eq!(credential, key());
    // Its options are the application's to give.
    assert!(Call::EnsureSubject("robot".to_owned()).request().is_none());
}

/// A double that has looked `ak_1` up and is to hold 60 cents.
fn looked_up(guard: &Guard, verdict: &str) -> (Exchange, Next) {
    let (mut exchange, _) = Exchange::with_guard(guard, Some("Bearer ak_1"));
    let _ = exchange.estimated(Price::Amount(Cost::cents(60)));
    let next = exchange.told(Ok(verdict), now());
    (exchange, next)
}

fn double() -> Guard {
    Guard::new().holds(true).double(true)
}

const LIVE: &str = r#"{"valid":true,"id":7,"scopes":["read"]}"#;

#[test]
fn a_double_that_refuses_a_key_is_asked_to_hold_nothing() {
    let lacking = looked_up(&double().scope("write"), LIVE).1;
    let body = r#"{"error":"insufficient_scope","required":"write","available":["read"]}"#;
    assert_answer(&response_of(lacking), 403, body);
    let revoked = looked_up(&double(), r#"{"valid":false,"reason":"revoked"}"#).1;
    assert_answer(&response_of(revoked), 401, r#"{"error":"revoked"}"#);
    let failed = looked_up(&double(), r#"{"valid":"yes","id":7}"#).1;
    assert_answer(&response_of(failed), 500, r#"{"error":"auth_unavailable"}"#);
}

#[test]
fn what_a_double_says_of_a_hold_is_read_as_the_contract_has_it() {
    let told = |json: &str| {
        let (mut exchange, next) = looked_up(&double(), LIVE);
        assert!(matches!(next, Next::Call(Call::Reserve(..))), "{next:?}");
        exchange.told(Ok(json), now())
    };
    let held = format!(r#"{{"success":true,"reservationId":"{ID}","expiresAt":"2025-11-24T16:10:00.000Z"}}"#);
    let Next::Pass(pass) = told(&held) else { panic!("it does not pass") };
    let reservation = pass.reservation.unwrap();
    assert_eq!((reservation.id, Some(reservation.expires_at)), (id(), later(600)));
    assert_eq!((pass.grant.scopes, *reservation.grant), (list(&["read"]), scoped_double()));

    let exceeded = r#"{"success":false,"reason":"budget_exceeded","limit":{"keyId":7,"budgetCents":100,"usedCents":90,"resetsAt":"2025-11-24T16:01:00Z"}}"#;
    let response = response_of(told(exceeded));
    assert_answer(&response, 429, r#"{"error":"budget_exceeded"}"#);
    assert_eq!(response.header("Retry-After"), Some("60"));
    let unknown = response_of(told(r#"{"success":false,"reason":"invalid_key"}"#));
    assert_answer(&unknown, 401, r#"{"error":"invalid"}"#);
    for nonsense in [
        "",
        "null",
        "{}",
        r#"{"success":true}"#,
        r#"{"success":true,"reservationId":"x"}"#,
        r#"{"success":"true","reservationId":"0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f"}"#,
        r#"{"success":false}"#,
        r#"{"success":false,"reservationId":"0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f"}"#,
        r#"{"success":false,"reason":"tired"}"#,
    ] {
        assert_answer(&response_of(told(nonsense)), 500, r#"{"error":"auth_unavailable"}"#);
    }
}

fn scoped_double() -> Grant {
    Grant { account_id: None, ..scoped(&["read"]) }
}

#[test]
fn what_a_double_fails_to_record_is_told_to_the_log() {
    let end = |ending: Ending, json: Result<&str, Error>| {
        let (mut exchange, _) = looked_up(&double(), LIVE);
        let _ = exchange.told(Ok(&format!(r#"{{"success":true,"reservationId":"{ID}"}}"#)), now());
        let _ = exchange.ended(ending);
        match exchange.told(json, now()) {
            Next::Done(line) => line,
            other => panic!("{other:?}"),
        }
    };
    // The shortest that a double may say.
    assert_eq!(end(Ending::sent(200), Ok(r#"{"success":true}"#)), None);
    assert_eq!(end(Ending::never_ran(), Ok(r#"{"success":true,"released":true}"#)), None);
    let what = |amount: &str| format!("what a request cost ({amount}, key 7, reservation {ID})");
    for (ending, json, line) in [
        (
            Ending::sent(200),
            Ok(r#"{"success":false,"reason":"unknown_reservation"}"#),
            format!("{} is not recorded: unknown_reservation", what("60000000 micro-cents")),
        ),
        (
            Ending::sent(500),
            Ok(r#"{"success":false,"reason":"unknown_reservation"}"#),
            format!("{} is not recorded: unknown_reservation", what("nothing")),
        ),
        (
            Ending::sent(200),
            Err(database_fault()),
            format!(
                "{} is not recorded: database: connection refused by 10.0.0.1",
                what("60000000 micro-cents")
            ),
        ),
    ] {
        assert_eq!(end(ending, json), Some(line));
    }
    let line = end(Ending::sent(200), Ok("gone")).unwrap();
    assert!(line.contains("is not recorded: unexpected_response: "), "{line}");
}

#[test]
fn a_cost_that_fails_counts_as_the_estimate_and_is_logged_though_all_is_recorded() {
    let (mut exchange, _) = looked_up(&double().prices(true), LIVE);
    let _ = exchange.told(Ok(&format!(r#"{{"success":true,"reservationId":"{ID}"}}"#)), now());
    assert!(matches!(exchange.ended(Ending::sent(200)), Next::Price));
    let call = call_of(exchange.priced(Price::Failed("it is a bug".to_owned())));
    assert_eq!(call, Call::Settle(id(), Cost::cents(60)));
    let Next::Done(Some(line)) = exchange.told(Ok(r#"{"success":true}"#), now()) else { panic!("silence") };
    assert_eq!(
        line,
        format!(
            "cost failed, the estimate counts: what a request cost (60000000 micro-cents, key 7, reservation {ID}): it is a bug"
        )
    );
}

#[test]
fn a_subject_that_is_first_seen_by_a_hold_gets_its_row_once_and_is_charged_by_its_name() {
    let unknown = || {
        let refusal = crate::engine::ReserveRefusal::new(crate::engine::ReserveRefusalReason::InvalidKey);
        Ok(Answer::Reserved(Err(refusal)))
    };
    let first_seen = || {
        let guard = Guard::new().clerk(Clerk::ApiKey).holds(true).scope("read");
        let (mut exchange, next) = Exchange::with_guard(&guard, Some("Bearer mt_1"));
        assert!(matches!(next, Next::Verify(_)));
        let known = Verification::Known { subject: Some("robot".to_owned()), revoked: false, expired: false };
        assert!(matches!(exchange.verified(known), Next::Estimate));
        let hold = Call::Reserve(robot(), Reserve::new(Cost::cents(60)).scope("read"));
        assert_eq!(call_of(exchange.estimated(Price::Amount(Cost::cents(60)))), hold);
        assert_eq!(call_of(exchange.answered(unknown(), now())), Call::EnsureSubject("robot".to_owned()));
        assert_eq!(call_of(exchange.answered(Ok(Answer::SubjectEnsured), now())), hold);
        exchange
    };
    let again = first_seen().answered(unknown(), now());
    assert_answer(&response_of(again), 401, r#"{"error":"invalid"}"#);
    let held = format!(r#"{{"success":true,"reservationId":"{ID}"}}"#);
    let mut exchange = first_seen();
    assert!(matches!(exchange.told(Ok(&held), now()), Next::Pass(pass) if pass.reservation.is_some()));
    assert_eq!(call_of(exchange.ended(Ending::sent(200))), Call::Settle(id(), Cost::cents(60)));

    let guard = Guard::new().clerk(Clerk::M2m).prices(true);
    let (mut exchange, _) = Exchange::with_guard(&guard, Some("Bearer mt_1"));
    let known = Verification::Known { subject: Some("robot".to_owned()), revoked: false, expired: false };
    let _ = exchange.verified(known);
    let _ = exchange.answered(Ok(Answer::Validated(Ok(anything()))), now());
    let _ = exchange.ended(Ending::sent(500));
    let cost = Cost::Microcents(7);
    assert_eq!(call_of(exchange.priced(Price::Amount(cost))), Call::Charge(robot(), cost, 7.into()));
    let refused = exchange.told(Ok(r#"{"success":false,"reason":"invalid_key"}"#), now());
    let line = "what a request cost (7 micro-cents, key 7) is not recorded: invalid_key";
    assert!(matches!(&refused, Next::Done(Some(logged)) if logged == line), "{refused:?}");
}

#[test]
fn what_a_double_answers_to_the_routes_is_handed_on() {
    let visit = |route, body| {
        let visit = VisitCall { is_double: true, ..call(route, Some("Bearer ak_1"), body) };
        let (mut exchange, next) = Exchange::with_routes(&World::of(anything()).routes, visit);
        assert!(matches!(next, Next::Call(Call::Validate(_))), "{next:?}");
        let next = exchange.told(Ok(r#"{"valid":true,"id":7,"accountId":"acct"}"#), now());
        (exchange, next)
    };
    let (_, next) = visit(Route::Me, Body::Missing);
    assert!(!response_of(next).body.contains("explanation"), "no double can explain");

    let (mut exchange, next) = visit(Route::Create, Body::Json(json!({"expires_in": "24h"})));
    let args: Value = serde_json::from_str(&call_of(next).json()).unwrap();
    assert_eq!(args["args"][0]["expiresIn"], "24h", "as it was written");
    let created = r#"{"key":"ak_new","id":8,"more":[1]}"#;
    assert_answer(&response_of(exchange.told(Ok(created), now())), 201, created);

    let failed = Err(Error::new(ErrorCode::InvalidScopes, "Invalid scopes: x"));
    let (mut exchange, _) = visit(Route::Create, Body::Json(json!({})));
    assert_answer(&response_of(exchange.told(failed, now())), 400, r#"{"error":"Invalid scopes: x"}"#);

    for (json, status, body) in [
        ("true", 200, r#"{"revoked":true}"#),
        ("false", 404, r#"{"error":"Key not found"}"#),
        ("null", 404, r#"{"error":"Key not found"}"#),
        ("1", 404, r#"{"error":"Key not found"}"#),
    ] {
        let (mut exchange, next) = visit(Route::Delete { id: "8".to_owned() }, Body::Missing);
        assert_eq!(call_of(next).json(), r#"{"args":[8,"acct"],"method":"revoke"}"#);
        assert_answer(&response_of(exchange.told(Ok(json), now())), status, body);
    }
}
