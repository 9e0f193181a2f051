//! Answers as JSON, in the npm package's shapes.

use chrono::DateTime;
use serde_json::json;

use super::*;
use crate::budget::ledger::{Discrepancy, Event, UsageOfPeriod};
use crate::budget::reservation::{ReservationId, ReservationRefusal, Settlement};
use crate::key::grant::{Denial, Grant};
use crate::key::new_key::Created;
use crate::key::raw::RawKey;

const ID: &str = "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f";
const AT: &str = "2025-11-24T16:00:00.000Z";

fn at() -> chrono::DateTime<chrono::Utc> {
    DateTime::from_timestamp(1_764_000_000, 0).unwrap()
}

fn grant() -> Grant {
    Grant {
        wildcards: false,
        id: KeyId::Integer(7),
        account_id: Some(AccountId::Text("acct".to_owned())),
        user_id: None,
        scopes: Some(vec!["read".to_owned()]),
        budget_cents: Some(100),
        budget_used_cents: 2,
        budget_used_microcents: 1_500_000,
        budget_reserved_cents: 10,
        budget_reserved_microcents: 10_000_000,
        budget_remaining_cents: Some(88),
        budget_period: Some("day".to_owned()),
        budget_reset_at: Some(at()),
        expires_at: None,
        delegated_by: None,
        name: "default".to_owned(),
    }
}

fn limit() -> Limit {
    Limit {
        key_id: 7.into(),
        budget_cents: 100,
        used_cents: 90,
        reserved_cents: 10,
        resets_at: None,
        period: None,
        when_exceeded: None,
        breaker: None,
    }
}

const GRANT: &str = r#"{"valid":true,"id":7,"accountId":"acct","userId":null,"scopes":["read"],"budgetCents":100,"budgetUsedCents":2,"budgetRemainingCents":88,"budgetPeriod":"day","budgetResetAt":"2025-11-24T16:00:00.000Z","expiresAt":null,"delegatedBy":null,"name":"default","budgetReservedCents":10}"#;
const LIMIT: &str = r#"{"keyId":7,"budgetCents":100,"usedCents":90,"reservedCents":10,"resetsAt":null}"#;

fn balance() -> Balance {
    Balance::new(Some(100), 1_500_000, 10_000_000)
}

fn settlement() -> Settlement {
    Settlement { cost_microcents: 1_500_000, overage_microcents: 1, balance: balance(), replayed: false }
}

fn reservation() -> Reservation {
    Reservation {
        id: ReservationId::parse(ID).unwrap(),
        expires_at: at(),
        balance: balance(),
        replayed: false,
        grant: Box::new(grant()),
    }
}

fn charged(balance: Balance, replayed: bool) -> Answer {
    Answer::Charged(Ok(Charged { balance: Some(balance), replayed }))
}

#[test]
fn lookups() {
    assert_eq!(Answer::Validated(Ok(grant())).json(false), GRANT);
    let exact = Answer::Validated(Ok(grant())).json(true);
    let more = r#","budgetUsedMicrocents":1500000,"budgetRemainingMicrocents":88500000}"#;
    assert_eq!(exact, format!("{}{more}", GRANT.strip_suffix('}').unwrap()));
    let denial = |reason, limit| Denial { reason, limit, key: Some(Box::new(grant())) };
    let json = |denial| Answer::Validated(Err(denial)).json(true);
    assert_eq!(json(denial(DenialReason::Revoked, None)), r#"{"valid":false,"reason":"revoked"}"#);
    assert_eq!(
        json(denial(DenialReason::BudgetExceeded, Some(limit()))),
        format!(r#"{{"valid":false,"reason":"budget_exceeded","limit":{LIMIT}}}"#)
    );
}

#[test]
fn charges() {
    let money = r#""budgetUsedCents":2,"budgetRemainingCents":88"#;
    assert_eq!(charged(balance(), false).json(false), format!(r#"{{"success":true,{money}}}"#));
    assert_eq!(
        charged(balance(), true).json(true),
        format!(
            r#"{{"success":true,{money},"budgetUsedMicrocents":1500000,"budgetRemainingMicrocents":88500000,"replayed":true}}"#
        )
    );
    assert_eq!(
        charged(Balance::new(Some(100), 100_000_001, 0), false).json(false),
        r#"{"success":true,"budgetUsedCents":101,"budgetRemainingCents":0,"overBudget":true,"overageCents":1}"#
    );
    assert_eq!(Answer::Charged(Ok(Charged::FREE)).json(true), r#"{"success":true}"#);
    let refused = Answer::Charged(Err(ChargeRefusal::InvalidKey));
    assert_eq!(refused.json(true), r#"{"success":false,"reason":"invalid_key"}"#);
}

#[test]
fn reserves() {
    let head = format!(r#"{{"success":true,"reservationId":"{ID}","expiresAt":"{AT}","#);
    let money = r#""budgetUsedCents":2,"budgetRemainingCents":88"#;
    assert_eq!(
        Answer::Reserved(Ok(reservation())).json(false),
        format!(r#"{head}{money},"budgetReservedCents":10,"grant":{GRANT}}}"#)
    );
    let exact = Answer::Reserved(Ok(Reservation { replayed: true, ..reservation() })).json(true);
    let micro = r#""budgetUsedMicrocents":1500000,"budgetRemainingMicrocents":88500000"#;
    assert!(
        exact.starts_with(&format!(r#"{head}{money},{micro},"budgetReservedCents":10,"replayed":true,"#))
    );
    for reason in ReserveRefusalReason::ALL {
        let refused = Answer::Reserved(Err(ReserveRefusal::new(*reason)));
        assert_eq!(refused.json(false), format!(r#"{{"success":false,"reason":"{reason}"}}"#));
    }
    // Of the key that is refused nothing is told.
    let refusal = ReserveRefusal {
        limit: Some(limit()),
        key: Some(Box::new(grant())),
        ..ReserveRefusal::new(ReserveRefusalReason::BudgetExceeded)
    };
    assert_eq!(
        Answer::Reserved(Err(refusal)).json(false),
        format!(r#"{{"success":false,"reason":"budget_exceeded","limit":{LIMIT}}}"#)
    );
}

#[test]
fn ends_of_reservations() {
    let done =
        r#"{"success":true,"costCents":2,"overageCents":1,"budgetUsedCents":2,"budgetRemainingCents":88"#;
    assert_eq!(Answer::Settled(Ok(settlement())).json(false), format!("{done}}}"));
    assert_eq!(
        Answer::Settled(Ok(Settlement { replayed: true, ..settlement() })).json(true),
        format!(
            r#"{done},"budgetUsedMicrocents":1500000,"budgetRemainingMicrocents":88500000,"costMicrocents":1500000,"replayed":true}}"#
        )
    );
    for given_back in [true, false] {
        let released = format!(r#"{{"success":true,"released":{given_back}}}"#);
        assert_eq!(Answer::Released(Ok(given_back)).json(false), released);
    }
    assert_eq!(Answer::Extended(Ok(at())).json(false), format!(r#"{{"success":true,"expiresAt":"{AT}"}}"#));
    let unrecordable = ReservationRefusal::Unrecordable { cost_microcents: 1_500_000 };
    assert_eq!(
        Answer::Settled(Err(unrecordable)).json(true),
        r#"{"success":false,"reason":"unrecordable","costCents":2,"costMicrocents":1500000}"#
    );
    let plain = |refusal: &&ReservationRefusal| !matches!(refusal, ReservationRefusal::Unrecordable { .. });
    for refusal in ReservationRefusal::ALL.iter().filter(plain) {
        let json = format!(r#"{{"success":false,"reason":"{refusal}"}}"#);
        for answer in
            [Answer::Settled(Err(*refusal)), Answer::Released(Err(*refusal)), Answer::Extended(Err(*refusal))]
        {
            assert_eq!(answer.json(true), json);
        }
    }
}

#[test]
fn what_is_a_count_a_flag_or_nothing() {
    for (answer, json) in [
        (Answer::Swept(3), "3"),
        (Answer::RevokedAll(0), "0"),
        (Answer::Pruned(u64::MAX), "18446744073709551615"),
        (Answer::Revoked(true), "true"),
        (Answer::Revoked(false), "false"),
        (Answer::SubjectEnsured, "null"),
        (Answer::Migrated, "null"),
        (Answer::Events(Vec::new()), "[]"),
        (Answer::Usage(Vec::new()), "[]"),
        (Answer::Verified(Vec::new()), "[]"),
    ] {
        assert_eq!(answer.json(false), json);
    }
}

#[test]
fn a_created_key_is_the_only_answer_that_has_a_secret() {
    let created = Created {
        key: RawKey::of_text("ak_secret"),
        id: KeyId::Text("k1".to_owned()),
        scopes: None,
        budget_cents: Some(5),
        budget_period: Some(crate::Period::Month),
        expires_at: Some(at()),
    };
    let answer = Answer::Created(Box::new(created));
    assert_eq!(
        answer.json(false),
        format!(
            r#"{{"key":"ak_secret","id":"k1","scopes":null,"budgetCents":5,"budgetPeriod":"month","expiresAt":"{AT}"}}"#
        )
    );
    assert!(!format!("{answer:?}").contains("secret"));
}

#[test]
fn the_ledger() {
    let row = json!({
        "id": 1, "at": AT, "keyId": 7, "accountId": "acct", "kind": "charge", "amountMicrocents": 5,
        "usedAfterMicrocents": 5, "reservedAfterMicrocents": 0, "remainingAfterMicrocents": null,
        "idempotencyKey": "x", "reservationId": null, "viaKeyId": 8, "actor": null, "metadata": {"a": [1]},
    });
    let event: Event = serde_json::from_value(row.clone()).unwrap();
    let told: serde_json::Value = serde_json::from_str(&Answer::Events(vec![event]).json(false)).unwrap();
    let mut expected = row;
    expected["at"] = told[0]["at"].clone();
    assert_eq!(told[0], expected);
    assert_eq!(told[0]["at"].as_str().unwrap().parse(), Ok(at()));

    let usage = UsageOfPeriod { from: at(), spent_microcents: 5, charges: 2, complete: false };
    let told: serde_json::Value = serde_json::from_str(&Answer::Usage(vec![usage]).json(false)).unwrap();
    assert_eq!((&told[0]["spentMicrocents"], &told[0]["charges"]), (&json!(5), &json!(2)));
    assert_eq!(told[0]["complete"], json!(false));
    assert_eq!(told[0]["from"].as_str().unwrap().parse(), Ok(at()));

    let discrepancy = Discrepancy {
        key_id: 7.into(),
        used_microcents: 1,
        ledger_microcents: 2,
        reserved_microcents: 3,
        held_microcents: 4,
    };
    assert_eq!(
        Answer::Verified(vec![discrepancy]).json(false),
        r#"[{"keyId":7,"usedMicrocents":1,"ledgerMicrocents":2,"reservedMicrocents":3,"heldMicrocents":4}]"#
    );
}

#[test]
fn errors() {
    let error = Fault::refused("08006", "a \"b\"").error();
    assert_eq!(
        error_json(&error),
        r#"{"code":"database","message":"a \"b\"","mayHaveBeenRecorded":true,"transient":true,"sqlstate":"08006"}"#
    );
    assert_eq!(
        error_json(&Error::new(ErrorCode::Closed, "the client is closed")),
        r#"{"code":"closed","message":"the client is closed","mayHaveBeenRecorded":false,"transient":false,"sqlstate":null}"#
    );
}
