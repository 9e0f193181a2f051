//! Results as JSON.

use super::super::double;
use super::*;
use crate::budget::charge::{ChargeRefusal, Charged};
use crate::budget::money::Balance;
use crate::engine::timestamp;
use crate::key::raw::KeyPrefix;

fn verdict(verdict: &Verdict, exact: bool) -> String {
    Answer::Validated(verdict.clone()).json(exact)
}

#[test]
fn a_grant_is_written_in_the_contracts_order_with_nulls() {
    assert_eq!(
        verdict(&Ok(anything()), false),
        r#"{"valid":true,"id":7,"accountId":"acct","userId":null,"scopes":null,"budgetCents":null,"budgetUsedCents":0,"budgetRemainingCents":null,"budgetPeriod":null,"budgetResetAt":null,"expiresAt":null,"delegatedBy":null,"name":"default","budgetReservedCents":0}"#
    );
    let ids = Grant { id: "0b9c".into(), account_id: Some(42.into()), ..anything() };
    assert!(verdict(&Ok(ids), false).starts_with(r#"{"valid":true,"id":"0b9c","accountId":42,"#));
}

#[test]
fn a_denial_has_its_reason_and_the_limit_where_there_is_one() {
    for reason in DenialReason::ALL {
        assert_eq!(
            verdict(&Err(denied(*reason)), false),
            format!(r#"{{"valid":false,"reason":"{reason}"}}"#)
        );
    }
    assert_eq!(
        verdict(&Err(exhausted(later(0))), false),
        r#"{"valid":false,"reason":"budget_exceeded","limit":{"keyId":7,"budgetCents":100,"usedCents":100,"reservedCents":0,"resetsAt":"2025-11-24T16:00:00.000Z"}}"#
    );
}

#[test]
fn charges_are_written_as_the_contract_has_them() {
    let recorded = |remaining: Option<i64>| {
        let balance = Balance::new(remaining.map(|cents| cents + 20), 19_000_001, 0);
        Answer::Charged(Ok(Charged { balance: Some(balance), replayed: false })).json(false)
    };
    assert_eq!(recorded(Some(30)), r#"{"success":true,"budgetUsedCents":20,"budgetRemainingCents":30}"#);
    assert_eq!(recorded(None), r#"{"success":true,"budgetUsedCents":20,"budgetRemainingCents":null}"#);
    assert_eq!(Answer::Charged(Ok(Charged::FREE)).json(false), r#"{"success":true}"#);
    for reason in ChargeRefusal::ALL {
        let json = Answer::Charged(Err(*reason)).json(false);
        assert_eq!(json, format!(r#"{{"success":false,"reason":"{reason}"}}"#));
    }
}

#[test]
fn a_new_key_is_written_with_its_secret_first() {
    let spec = CreateKey::new("acct").scopes(["a\"b"]).budget_cents(5).budget_period(crate::Period::Day);
    let created = Created { expires_at: later(1), ..created(&spec, "ak_1") };
    assert_eq!(
        Answer::Created(Box::new(created)).json(false),
        r#"{"key":"ak_1","id":8,"scopes":["a\"b"],"budgetCents":5,"budgetPeriod":"day","expiresAt":"2025-11-24T16:00:01.000Z"}"#
    );
    let minted = KeyPrefix::default().mint(crate::key::raw::KeyFormat::Plain).unwrap();
    let shown = format!("{:?}", Answer::Created(Box::new(self::created(&spec, minted.raw.expose()))));
    assert!(!shown.contains(&minted.raw.expose()[11..]), "{shown}");
}

#[test]
fn times_are_written_as_javascript_writes_them() {
    for (micros, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_764_000_000_123_999, "2025-11-24T16:00:00.123Z"),
        (-1_000, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999_000, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000_000, "+010000-01-01T00:00:00.000Z"),
        (-62_198_755_200_000_000, "-000001-01-01T00:00:00.000Z"),
    ] {
        assert_eq!(timestamp(&DateTime::from_timestamp_micros(micros).unwrap()), text);
    }
}

#[test]
fn a_verdict_is_read_as_it_was_written() {
    let full = Grant {
        id: "0b9c".into(),
        account_id: Some(42.into()),
        user_id: Some("u".to_owned()),
        scopes: list(&["a", "b\"\\😀"]),
        budget_used_cents: 3,
        budget_used_microcents: 3_000_000,
        budget_reserved_cents: 2,
        budget_reserved_microcents: 2_000_000,
        budget_period: Some("day".to_owned()),
        budget_reset_at: later(5),
        expires_at: DateTime::from_timestamp(253_402_300_800, 0),
        delegated_by: Some("alice".to_owned()),
        name: "n".to_owned(),
        ..capped(10)
    };
    for original in [Ok(anything()), Ok(full.clone()), Err(Denial::invalid())] {
        assert_eq!(double::verdict(&verdict(&original, false)).unwrap(), original);
    }
    let without_key = Denial { key: None, ..exhausted(None) };
    assert_eq!(double::verdict(&verdict(&Err(exhausted(None)), false)).unwrap(), Err(without_key));
    // The least that a double may say.
    let least = Grant { account_id: None, ..anything() };
    assert_eq!(double::verdict(r#"{"valid":true,"id":7,"future":[]}"#).unwrap(), Ok(least));
}

#[test]
fn what_is_no_verdict_is_an_error_and_never_a_grant() {
    for bad in [
        "",
        "null",
        "{}",
        "[]",
        "true",
        r#"{"valid":true}"#,
        r#"{"valid":"true","id":7}"#,
        r#"{"valid":1,"id":7}"#,
        r#"{"valid":false}"#,
        r#"{"valid":false,"reason":"fine"}"#,
        r#"{"valid":false,"id":7}"#,
        r#"{"id":7}"#,
        r#"{"valid":true,"id":null}"#,
        r#"{"valid":true,"id":{}}"#,
        r#"{"valid":true,"id":7,"scopes":"read"}"#,
        r#"{"valid":true,"id":7,"expiresAt":"soon"}"#,
        r#"{"valid":true,"id":7,"expiresAt":0}"#,
        r#"{"valid":true,"id":7,"budgetCents":"5"}"#,
        r#"{"valid":true,"id":7}x"#,
    ] {
        assert_eq!(double::verdict(bad).unwrap_err().code(), ErrorCode::UnexpectedResponse, "{bad}");
    }
}
