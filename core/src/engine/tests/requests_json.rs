//! Requests as JSON: every form, and everything that is refused.

mod keys;

use serde_json::{Map, Value, json};

use super::*;
use crate::budget::charge::Overrun;
use crate::budget::ledger::{EventFilter, UsageFilter};
use crate::budget::reservation::{ReservationId, Reserve};
use crate::{Period, RevokeFilter};

const ID: &str = "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f";
const RAW: &str = "ak_0123456789abcdef0123456789abcdef0123456789abcdef";

fn read(json: &Value) -> Result<Request, Error> {
    Options::default().read_request(&json.to_string())
}

#[track_caller]
fn assert_reads(json: Value, request: Request) {
    assert_eq!(format!("{:?}", read(&json).unwrap()), format!("{request:?}"), "{json}");
}

#[track_caller]
fn assert_refuses(json: Value, code: ErrorCode, says: &str) {
    let error = read(&json).unwrap_err();
    assert_eq!(error.code(), code, "{json}: {error}");
    assert!(error.message().contains(says), "{json}: {error}");
    assert!(error.message().len() < 250 && !error.may_have_been_recorded(), "{error}");
}

/// One request of each kind, with no more than it must have.
fn least() -> Vec<Value> {
    vec![
        json!({"op": "validate", "key": "ak_1"}),
        json!({"op": "validateBySubject", "subject": "robot"}),
        json!({"op": "trackUsage", "key": "ak_1", "costCents": 1}),
        json!({"op": "trackUsageBySubject", "subject": "robot", "costCents": 1}),
        json!({"op": "reserve", "key": "ak_1", "costCents": 1}),
        json!({"op": "reserveBySubject", "subject": "robot", "costCents": 1}),
        json!({"op": "settle", "reservationId": ID, "costCents": 1}),
        json!({"op": "release", "reservationId": ID}),
        json!({"op": "extend", "reservationId": ID, "ttl": "10m"}),
        json!({"op": "sweepReservations"}),
        json!({"op": "create", "with": {}}),
        json!({"op": "ensureSubject", "subject": "robot"}),
        json!({"op": "revoke", "keyId": 7}),
        json!({"op": "revokeAll", "filter": {"accountId": 7}}),
        json!({"op": "events", "filter": {}}),
        json!({"op": "usage", "filter": {"keyId": 7}}),
        json!({"op": "verifyLedger"}),
        json!({"op": "pruneEvents", "olderThanSeconds": 60}),
        json!({"op": "migrate"}),
    ]
}

#[test]
fn a_member_that_is_not_known_is_refused_wherever_it_stands() {
    for request in least() {
        read(&request).unwrap();
        let mut misspelt = request.clone();
        misspelt["mispelt"] = json!(1);
        assert_refuses(misspelt, ErrorCode::InvalidText, "mispelt");
        for inner in ["with", "filter"] {
            if request.get(inner).is_some() {
                let mut misspelt = request.clone();
                misspelt[inner]["mispelt"] = json!(1);
                assert_refuses(misspelt, ErrorCode::InvalidText, "");
            }
        }
        // Whoever leaves out a member that must be there is told.
        for name in request.as_object().unwrap().keys() {
            let mut less = request.clone();
            less.as_object_mut().unwrap().remove(name);
            match name.as_str() {
                "costCents" => assert_refuses(less, ErrorCode::InvalidCost, "there is none"),
                _ => assert_refuses(less, ErrorCode::InvalidText, "Invalid request"),
            }
        }
    }
}

#[test]
fn lookups_name_one_key_or_one_subject() {
    for (key, subject) in
        [(json!("ak_1"), json!("robot")), (json!(null), json!(null)), (json!(""), json!(""))]
    {
        for op in ["validate", "trackUsage", "reserve"] {
            let mut request = json!({"op": op, "key": key, "subject": subject});
            if op != "validate" {
                request["costCents"] = json!(1);
            }
            assert_refuses(request, ErrorCode::InvalidText, "one of key, subject and keyId");
        }
    }
    let Request::Validate(credential) = read(&json!({"op": "validate", "key": RAW})).unwrap() else {
        panic!()
    };
    assert_eq!(credential, Credential::of_key(RAW));
    assert_reads(
        json!({"op": "validate", "key": null, "subject": "a\0\"é"}),
        Request::Validate(subject_of("a\0\"é")),
    );
    for nonsense in [json!(5), json!(true), json!(["ak_1"]), json!({"key": "ak_1"})] {
        assert_refuses(json!({"op": "validate", "key": nonsense}), ErrorCode::InvalidText, "");
    }
}

#[test]
fn charges_in_every_form() {
    let charge = |more: Value| {
        let mut request = json!({"op": "trackUsage", "subject": "robot"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let plain = |cost| Request::Charge(subject_of("robot"), Charge::new(cost));
    for (more, cost) in [
        (json!({"costCents": 2}), Cost::cents(2)),
        (json!({"costCents": 0.5}), Cost::cents(1)),
        (json!({"costCents": -1}), Cost::Free),
        (json!({"costCents": "NaN"}), Cost::Invalid),
        (json!({"costCents": "Infinity"}), Cost::Invalid),
        (json!({"costCents": "-Infinity"}), Cost::Invalid),
        (json!({"costMicrocents": 7}), Cost::Microcents(7)),
        (json!({"costUsd": "0.00042"}), Cost::Microcents(42_000)),
        (json!({"costUsd": "4.5e-7"}), Cost::Microcents(45)),
        (json!({"costUsd": 4.5e-7}), Cost::Microcents(45)),
        (json!({"costUsd": 5}), Cost::cents(500)),
        (json!({"costCents": null, "costMicrocents": null, "costUsd": "1"}), Cost::cents(100)),
    ] {
        assert_reads(charge(more), plain(cost));
    }
    let options = Options { rounding: crate::engine::Rounding::Exact, ..Options::default() };
    let exact = options.read_request(&charge(json!({"costCents": 0.5})).to_string()).unwrap();
    assert_eq!(format!("{exact:?}"), format!("{:?}", plain(Cost::Microcents(500_000))));

    let metadata = Map::from_iter([("a".to_owned(), json!([1, null]))]);
    assert_reads(
        charge(json!({
            "costCents": 1, "idempotencyKey": "x", "overrun": "record", "metadata": {"a": [1, null]},
        })),
        Request::Charge(
            subject_of("robot"),
            Charge::new(1).idempotency_key("x").overrun(Overrun::Record).metadata(metadata),
        ),
    );
    assert_reads(charge(json!({"costCents": 1, "overrun": "reject"})), plain(Cost::cents(1)));
    for (more, says) in [
        (json!({}), "there is none"),
        (json!({"costCents": 1, "costMicrocents": 1_000_000}), "there are several"),
        (json!({"costCents": "nan"}), "costCents is \"nan\""),
        (json!({"costCents": "5"}), "costCents is \"5\""),
        (json!({"costCents": true}), "costCents is true"),
        (json!({"costMicrocents": 0.5}), "costMicrocents is 0.5"),
        (json!({"costMicrocents": "NaN"}), "costMicrocents is \"NaN\""),
        (json!({"costUsd": "much"}), "costUsd is \"much\"; give one of costCents"),
        (json!({"costUsd": true}), "costUsd is true"),
    ] {
        assert_refuses(charge(more), ErrorCode::InvalidCost, says);
    }
    for (more, says) in [
        (json!({"idempotencyKey": 5}), ""),
        (json!({"metadata": []}), ""),
        (json!({"metadata": "{}"}), ""),
        (json!({"costCents": 1, "overrun": "maybe"}), "Invalid overrun: maybe"),
        (json!({"ttl": "10m"}), "ttl"),
    ] {
        assert_refuses(charge(more), ErrorCode::InvalidText, says);
    }
}

#[test]
fn reserves_and_their_ends() {
    let id = || ReservationId::parse(ID).unwrap();
    assert_reads(
        json!({"op": "reserve", "subject": "robot", "costCents": 5}),
        Request::Reserve(subject_of("robot"), Reserve::new(5).ttl(Duration::from_secs(600))),
    );
    assert_reads(
        json!({
            "op": "reserveBySubject", "subject": "robot", "costMicrocents": 5, "ttl": "90s", "scope": "read",
            "idempotencyKey": "x", "metadata": {},
        }),
        Request::Reserve(
            subject_of("robot"),
            Reserve::new(Cost::Microcents(5))
                .ttl(Duration::from_secs(90))
                .scope("read")
                .idempotency_key("x")
                .metadata(Map::new()),
        ),
    );
    assert_reads(
        json!({"op": "settle", "reservationId": ID.to_uppercase(), "costUsd": "1"}),
        Request::Settle(id(), Cost::cents(100)),
    );
    assert_refuses(json!({"op": "settle", "reservationId": ID}), ErrorCode::InvalidCost, "there is none");
    assert_reads(json!({"op": "release", "reservationId": ID}), Request::Release(id()));
    let day = Duration::from_secs(86_400);
    assert_reads(json!({"op": "extend", "reservationId": ID, "ttl": "1d"}), Request::Extend(id(), day));
    // What can be no reservation's id is looked for nowhere.
    let nobody = ReservationId::parse("00000000-0000-0000-0000-000000000000").unwrap();
    for text in ["", "x", "'; DROP TABLE", &"9".repeat(100_000)] {
        assert_reads(json!({"op": "release", "reservationId": text}), Request::Release(nobody.clone()));
    }
    for ttl in ["", "0s", "0h", "31d", "soon", "-1h", "1.5h", "s", "9999999999s"] {
        for request in [
            json!({"op": "reserve", "key": "ak_1", "costCents": 1, "ttl": ttl}),
            json!({"op": "extend", "reservationId": ID, "ttl": ttl}),
        ] {
            assert_refuses(request, ErrorCode::InvalidDuration, "Invalid duration");
        }
    }
    for wrong in [json!(5), json!(null)] {
        assert_refuses(json!({"op": "release", "reservationId": wrong}), ErrorCode::InvalidText, "");
    }
}

#[test]
fn revocations_tell_no_account_from_the_account_null() {
    let of = |id: i64| Revocation::of_key(id);
    for (json, revocation) in [
        (json!({"keyId": 7}), of(7)),
        (json!({"keyId": "0b9c"}), Revocation::of_key("0b9c")),
        (json!({"keyId": 7, "accountId": null}), of(7).of_account(None)),
        (json!({"keyId": 7, "accountId": 42, "within": 3}), of(7).of_account(Some(42.into())).within(3)),
        (json!({"keyId": 7, "accountId": "acct", "within": null}), of(7).of_account(Some("acct".into()))),
    ] {
        let mut request = json;
        request["op"] = json!("revoke");
        let Ok(Request::Revoke(read)) = read(&request) else { panic!("{request}") };
        assert_eq!(read, revocation, "{request}");
    }
    for key_id in [json!(null), json!(7.5), json!([7]), json!({"id": 7})] {
        assert_refuses(json!({"op": "revoke", "keyId": key_id}), ErrorCode::InvalidText, "");
    }
    for (filter, read_as) in [
        (json!({"accountId": 7}), RevokeFilter::Account(7.into())),
        (json!({"parent": "7"}), RevokeFilter::Parent("7".into())),
        (json!({"delegatedBy": "alice"}), RevokeFilter::DelegatedBy("alice".to_owned())),
    ] {
        assert_reads(json!({"op": "revokeAll", "filter": filter}), Request::RevokeAll(read_as));
    }
    // Nothing that could be read as "all keys".
    for filter in [
        json!({}),
        json!(null),
        json!({"accountId": null}),
        json!({"delegatedBy": null}),
        json!({"accountId": 7, "parent": 7}),
        json!("accountId"),
    ] {
        assert_refuses(json!({"op": "revokeAll", "filter": filter}), ErrorCode::InvalidText, "");
    }
}

#[test]
fn the_ledger() {
    let at = "2025-11-24T16:00:00Z";
    assert_reads(json!({"op": "events", "filter": {}}), Request::Events(EventFilter::new()));
    let filter = EventFilter::new().key_id(7).account_id("acct").kind("charge").before(9).limit(5);
    let json = json!({"keyId": 7, "accountId": "acct", "kind": "charge", "before": 9, "limit": 5});
    assert_reads(json!({"op": "events", "filter": json}), Request::Events(filter));
    let by_day = UsageFilter::of_key(7);
    assert_reads(json!({"op": "usage", "filter": {"keyId": 7, "by": null}}), Request::Usage(by_day.clone()));
    let filter = by_day.from(at.parse().unwrap()).to(at.parse().unwrap()).by(Period::Month);
    let json = json!({"keyId": 7, "from": at, "to": at, "by": "month"});
    assert_reads(json!({"op": "usage", "filter": json}), Request::Usage(filter));
    assert_reads(json!({"op": "verifyLedger", "keyId": null}), Request::VerifyLedger(None));
    assert_reads(json!({"op": "verifyLedger", "keyId": 7}), Request::VerifyLedger(Some(7.into())));
    let minute = Duration::from_secs(60);
    assert_reads(json!({"op": "pruneEvents", "olderThanSeconds": 60}), Request::PruneEvents(minute));
    for (request, code) in [
        (json!({"op": "events", "filter": {"limit": -1}}), ErrorCode::InvalidText),
        (json!({"op": "usage", "filter": {"keyId": 7, "from": "soon"}}), ErrorCode::InvalidText),
        (json!({"op": "usage", "filter": {"keyId": 7, "by": "fortnight"}}), ErrorCode::InvalidBudgetPeriod),
        (json!({"op": "pruneEvents", "olderThanSeconds": -1}), ErrorCode::InvalidText),
        (json!({"op": "pruneEvents", "olderThanSeconds": 0.5}), ErrorCode::InvalidText),
    ] {
        assert_refuses(request, code, "");
    }
}

#[test]
fn a_webhooks_secret_is_not_repeated() {
    for secrets in [
        json!("whsec_hidden"),
        json!({ "whsec_hidden": 1 }),
        json!([["whsec_hidden"]]),
        json!(["whsec_hidden"]),
    ] {
        let webhook = json!({ "name": "w", "secrets": secrets });
        let error = read(&json!({ "op": "claimDeliveries", "webhook": webhook, "most": 1 })).unwrap_err();
        assert!(error.message().contains("secrets"), "{error}");
        assert!(!error.message().contains("hidden"), "{error}");
    }
}

#[test]
fn what_is_no_request_is_refused_and_not_repeated_at_length() {
    let long = format!(r#"{{"op":"{}"}}"#, "x".repeat(1_000_000));
    for text in [
        "",
        "null",
        "[]",
        "5",
        "{}",
        "{",
        r#"{"op":5}"#,
        r#"{"op":"drop"}"#,
        r#"{"op":"Validate","key":"k"}"#,
        r#"{"op":"migrate"}x"#,
        r#"{"op":"validate","key":"a","key":"b"}"#,
        &long,
    ] {
        let error = Options::default().read_request(text).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidText);
        assert!(error.message().starts_with("Invalid request: ") && error.message().len() < 250, "{error}");
    }
}
