//! Bad input at every door: each case has its answer, none panics, none writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::time::Duration;

use agentkey::engine::{AcceptedPeriods, ChargeOutcome, MAX_CENTS};
use agentkey::{AgentKey, ChargeRefusal, Cost, CreateKey, DenialReason, Error, ErrorCode, Period};
use serde_json::{Value, json};
use support::{TestDatabase, original_table};

/// Texts that are no key, no number, no name.
fn odd_texts() -> Vec<String> {
    let odd = [
        "",
        " ",
        "\t",
        "\n",
        "\0",
        "a\0b",
        "\0a",
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "`",
        "$1",
        "$$",
        "{}",
        "{a,b}",
        "(1,2)",
        "NULL",
        "null",
        "undefined",
        "NaN",
        "true",
        "0",
        "-1",
        "1e400",
        "' OR '1'='1",
        "'; DROP TABLE sdk_api_keys; --",
        "\" OR 1=1 --",
        "%",
        "_",
        "../../etc/passwd",
        "ak_",
        "ak_ ",
        "AK_",
        "Bearer ak_1",
        "é",
        "\u{301}",
        "\u{202e}",
        "\u{feff}",
        "\u{fffd}",
        "\u{10ffff}",
        "\u{7f}",
        "🔑",
        "ключ",
        "鍵",
        "\r\n",
        "<script>",
    ];
    let long = ["x".repeat(1 << 20), "\"\\{},'".repeat(1_000), "🔑".repeat(1_000)];
    odd.into_iter().map(str::to_owned).chain(long).collect()
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

#[tokio::test]
async fn what_is_no_key_is_refused_and_writes_nothing() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    ak.ensure_subject("subject", CreateKey::default()).await.unwrap();
    let before = db.snapshot().await;
    let key = created.key.expose();
    let near = [
        key.to_uppercase(),
        format!("{key} "),
        format!(" {key}"),
        format!("{key}\0"),
        key[..50].to_owned(),
        format!("{key}0"),
    ];
    let hash = created.key.hash().as_str().to_owned();
    for text in odd_texts().into_iter().chain(near).chain([hash, key[..11].to_owned()]) {
        let denial = ak.validate(&text).await.unwrap().unwrap_err();
        assert_eq!(denial.reason, DenialReason::Invalid, "{}", shown(&text));
        let usage = ak.track_usage(&text, 1).await.unwrap();
        assert_eq!(usage, Err(ChargeRefusal::InvalidKey), "{}", shown(&text));
        let denial = ak.validate_by_subject(&text).await.unwrap().unwrap_err();
        assert_eq!(denial.reason, DenialReason::Invalid, "{}", shown(&text));
        let usage = ak.track_usage_by_subject(&text, 1).await.unwrap();
        assert_eq!(usage, Err(ChargeRefusal::InvalidKey), "{}", shown(&text));
        assert!(!ak.revoke(text.as_str()).await.unwrap() || text == "0", "{}", shown(&text));
        assert!(
            !ak.revoke_of_account(created.id.clone(), Some(text.as_str())).await.unwrap(),
            "{}",
            shown(&text)
        );
    }
    for id in
        ["1abc", "0x1", "1.0", "01", "+1", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "١"]
    {
        assert!(!ak.revoke(id).await.unwrap(), "{id}");
    }
    assert_eq!(db.snapshot().await, before);
    db.drop().await;
}

#[tokio::test]
async fn what_is_no_cost_is_refused_and_writes_nothing() {
    for (prepare, most) in [("", MAX_CENTS), (&*original_table("SERIAL", "TEXT"), i64::from(i32::MAX))] {
        let db = TestDatabase::create().await;
        db.run(prepare).await;
        let ak = db.client().await;
        let capped = ak.create(CreateKey::new("a").budget_cents(most)).await.unwrap();
        let free = ak.create(CreateKey::new("a")).await.unwrap();
        ak.ensure_subject("subject", CreateKey::default()).await.unwrap();
        for key in [&capped, &free] {
            assert!(ak.track_usage(key.key.expose(), 1).await.unwrap().is_ok());
        }
        assert!(ak.track_usage_by_subject("subject", 1).await.unwrap().is_ok());
        let before = db.snapshot().await;
        let invalid = [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(Cost::from_cents_f64);
        let nothing = [0.0, -0.0, -1e-300, -0.5, -1.0, f64::MIN].map(Cost::from_cents_f64);
        let nothing = nothing.into_iter().chain([0, -1, i64::MIN].map(Cost::cents));
        let too_much = [f64::MAX, 1e300, 1e19, 9.3e12, most as f64].map(Cost::from_cents_f64);
        let too_much = too_much
            .into_iter()
            .chain([i64::MAX, i64::MAX / 1_000_000 + 1, MAX_CENTS + 1, most].map(Cost::cents));
        let exceeded = Err(ChargeRefusal::BudgetExceeded);
        let cases = invalid.into_iter().map(|cost| (cost, Err(ChargeRefusal::InvalidCost)));
        let cases =
            cases.chain(nothing.map(|cost| (cost, Ok(())))).chain(too_much.map(|cost| (cost, exceeded)));
        let told = |outcome: Result<ChargeOutcome, Error>| {
            outcome.unwrap().map(|charged| assert_eq!(charged.balance, None, "there was nothing to record"))
        };
        for (cost, expected) in cases {
            for key in [&capped, &free] {
                assert_eq!(told(ak.track_usage(key.key.expose(), cost).await), expected, "{cost:?}");
                // In one statement with others.
                let both = tokio::join!(
                    ak.track_usage(key.key.expose(), cost),
                    ak.track_usage(key.key.expose(), cost)
                );
                assert_eq!((told(both.0), told(both.1)), (expected, expected), "{cost:?}");
            }
            assert_eq!(told(ak.track_usage_by_subject("subject", cost).await), expected, "{cost:?}");
        }
        assert_eq!(db.snapshot().await, before, "{prepare}");
        // What is left of the column can still be spent.
        for key in [&capped, &free] {
            assert!(ak.track_usage(key.key.expose(), most - 1).await.unwrap().is_ok());
            assert_eq!(told(ak.track_usage(key.key.expose(), 1).await), exceeded);
        }
        db.drop().await;
    }
}

#[tokio::test]
async fn a_bad_specification_has_its_code_and_writes_nothing() {
    use ErrorCode::{
        InvalidAccountId, InvalidBudget, InvalidBudgetPeriod, InvalidDuration, InvalidScopes, InvalidText,
    };
    let db = TestDatabase::create().await;
    db.run(&original_table("SERIAL", "TEXT")).await;
    let ak = db
        .client_with(
            AgentKey::builder()
                .valid_scopes(["read", "wr,ite"])
                .accepted_periods(AcceptedPeriods::DayAndMonth),
        )
        .await;
    let before = db.snapshot().await;
    let spec = || CreateKey::new("acct");
    let mut cases = Vec::new();
    // What typed requests cannot say, as bindings write it.
    let mut written: Vec<(ErrorCode, Value)> = Vec::new();
    for text in odd_texts().into_iter().filter(|text| !text.is_empty()) {
        written.push((InvalidDuration, json!({ "expiresIn": text })));
        cases.push((InvalidScopes, spec().scopes([&text])));
        cases.push((InvalidScopes, spec().scopes(["read", &text])));
        written.push((InvalidBudgetPeriod, json!({ "budgetPeriod": text })));
    }
    let durations = [
        "1",
        "h",
        "1w",
        "1y",
        "1s",
        "-1h",
        "+1h",
        "1.5h",
        "1,5h",
        " 1h",
        "1h ",
        "1 h",
        "1H",
        "1MO",
        "1hh",
        "1h1m",
        "1e3h",
        "0x1h",
        "١h",
        "1h\0",
        "∞d",
        "400000d",
        "99999999999999999999m",
        "18446744073709551615mo",
        "18446744073709551616m",
        "1m\n",
        "mo",
        "1_000m",
    ];
    written.extend(durations.map(|text| (InvalidDuration, json!({ "expiresIn": text }))));
    cases.push((InvalidDuration, spec().expires_in(Duration::from_secs(400_000 * 86_400))));
    cases.push((InvalidDuration, spec().expires_in(Duration::MAX)));
    let periods =
        ["", "Day", "DAY", "days", "daily", "day ", " day", "d", "quarter", "decade", "day\0", "null"];
    written.extend(periods.map(|text| (InvalidBudgetPeriod, json!({ "budgetPeriod": text }))));
    let periods = [Period::Hour, Period::Week, Period::Year];
    cases.extend(periods.map(|period| (InvalidBudgetPeriod, spec().budget_period(period))));
    for (code, with) in &written {
        let request = json!({ "op": "create", "with": with }).to_string();
        let error = ak.options().read_request(&request).unwrap_err();
        assert_eq!(error.code(), *code, "{request}");
        assert!(error.message().chars().count() < 300, "{error}");
    }
    cases.extend(
        ["admin", "", "Read", "read ", "wr", "ite", "read,write", "*", "read\0"]
            .map(|text| (InvalidScopes, spec().scopes([text]))),
    );
    cases.extend(
        [-1, i64::MIN, 1 << 31, 1 << 40, MAX_CENTS + 1, i64::MAX]
            .map(|cents| (InvalidBudget, spec().budget_cents(cents))),
    );
    for nul in ["\0", "a\0", "\0a", "a\0b"] {
        let texts = [spec().user_id(nul), spec().delegated_by(nul), spec().name(nul), CreateKey::new(nul)];
        cases.extend(texts.map(|spec| (InvalidText, spec)));
    }
    cases.push((InvalidAccountId, CreateKey::default()));
    assert!(cases.len() + written.len() > 250, "{}", cases.len());
    for (code, spec) in cases {
        let mut errors = vec![ak.create(spec.clone()).await.map(|_| ()).expect_err("a refusal")];
        // A subject's account may stay unset.
        if code != InvalidAccountId {
            errors.push(ak.ensure_subject("subject", spec).await.unwrap_err());
        }
        for error in errors {
            assert_eq!(error.code(), code, "{error}");
            assert!(code.is_bad_input());
            assert!(
                error.message().len() < 1_000,
                "{code}: {} bytes are no message for people",
                error.message().len()
            );
        }
    }
    assert_eq!(db.snapshot().await, before);
    db.drop().await;
}

#[tokio::test]
async fn accounts_that_the_column_cannot_hold_are_refused() {
    let integers = [
        "",
        "x",
        "1.5",
        " 1",
        "+1",
        "01",
        "1e3",
        "0x1",
        "١",
        "1; DROP TABLE x",
        "-",
        "99999999999999999999",
        "NaN",
    ];
    let uuids = [
        "",
        "1",
        "0b9c2f0e3d2b4a539f0e2f6a1c3d4e5f",
        "{0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f}",
        "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5g",
    ];
    let long = "x".repeat(1 << 20);
    let cases: [(&str, Vec<&str>); 6] = [
        // More than an index can hold.
        ("TEXT", vec![&long]),
        ("SMALLINT", integers.iter().copied().chain(["32768"]).collect()),
        ("INTEGER", integers.iter().copied().chain(["2147483648", "-2147483649"]).collect()),
        ("BIGINT", integers.iter().copied().chain(["9223372036854775808"]).collect()),
        ("UUID", uuids.to_vec()),
        ("VARCHAR(8)", vec!["acct_1234", "ééééééééé"]),
    ];
    for (account, values) in cases {
        let db = TestDatabase::create().await;
        db.run(&original_table("SERIAL", account)).await;
        let ak = db.client().await;
        let before = db.snapshot().await;
        for value in values {
            let error = ak
                .create(CreateKey::new(value))
                .await
                .map(|_| ())
                .expect_err(&format!("{account}: {}", shown(value)));
            assert_eq!(error.code(), ErrorCode::InvalidAccountId, "{account}: {}: {error}", shown(value));
            let error = ak.ensure_subject("s", CreateKey::new(value)).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidAccountId, "{account}: {}: {error}", shown(value));
        }
        assert_eq!(db.snapshot().await, before, "{account}");
        db.drop().await;
    }
}

/// A cast to VARCHAR(n) cuts its value off: an id that is too long is no other id.
#[tokio::test]
async fn a_long_id_names_no_row() {
    let db = TestDatabase::create().await;
    db.run(&original_table("VARCHAR(4) DEFAULT 'abcd'", "VARCHAR(4)")).await;
    let ak = db.client().await;
    let created = ak.create(CreateKey::new("acct")).await.unwrap();
    assert!(!ak.revoke("abcdefgh").await.unwrap());
    assert!(!ak.revoke_of_account(created.id.clone(), Some("acct_of_somebody_else")).await.unwrap());
    assert!(ak.revoke_of_account(created.id, Some("acct")).await.unwrap());
    db.drop().await;
}

#[tokio::test]
async fn subjects_are_stored_whole_or_refused() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let mut stored = 0;
    for subject in odd_texts() {
        match ak.ensure_subject(&subject, CreateKey::default()).await {
            Ok(()) => {
                stored += 1;
                let grant = ak.validate_by_subject(&subject).await.unwrap().unwrap();
                assert_eq!(grant.account_id.unwrap().to_string(), subject);
                assert!(ak.track_usage_by_subject(&subject, 1).await.unwrap().is_ok());
                ak.ensure_subject(&subject, CreateKey::new("other")).await.unwrap();
            }
            Err(error) => {
                assert!(
                    subject.is_empty() || subject.contains('\0') || subject.len() > 2_000,
                    "{}: {error}",
                    shown(&subject)
                );
                assert_eq!(error.code(), ErrorCode::InvalidSubject, "{}: {error}", shown(&subject));
            }
        }
    }
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys").await, stored);
    db.drop().await;
}

#[tokio::test]
async fn whatever_can_be_stored_reads_back_as_it_was() {
    let texts: Vec<String> = odd_texts().into_iter().filter(|text| !text.contains('\0')).collect();
    for scopes_type in ["TEXT[]", "TEXT", "JSONB", "VARCHAR[]"] {
        let db = TestDatabase::create().await;
        db.run(&original_table("SERIAL", "TEXT").replace("TEXT[]", scopes_type)).await;
        let ak = db.client().await;
        // Megabytes once are enough.
        for text in texts.iter().filter(|text| text.len() < 100_000 || scopes_type == "TEXT[]") {
            let account = if text.len() > 2_000 { "acct" } else { text };
            let scopes = [text.as_str(), "read", "", "a b", "{\"x\"}", text];
            let spec = CreateKey::new(account).name(text).user_id(text).delegated_by(text).scopes(scopes);
            let created =
                ak.create(spec).await.unwrap_or_else(|e| panic!("{scopes_type} {}: {e}", shown(text)));
            let grant = ak.validate(created.key.expose()).await.unwrap().unwrap();
            assert_eq!(grant.account_id.unwrap().to_string(), account);
            assert!(
                grant.name == *text
                    && grant.user_id.as_ref() == Some(text)
                    && grant.delegated_by.as_ref() == Some(text)
            );
            assert!(grant.scopes.unwrap() == scopes, "{scopes_type} {}", shown(text));
        }
        let key = ak.create(CreateKey::new("a").scopes([""; 0])).await.unwrap().key;
        assert_eq!(
            ak.validate(key.expose()).await.unwrap().unwrap().scopes,
            Some(vec![]),
            "none at all is not everything"
        );
        db.drop().await;
    }
}
