//! Keys to create, as they are read and written.

use serde_json::json;

use super::*;
use crate::budget::limit::KeyLimit;
use crate::key::delegation::Parent;
use crate::key::new_key::CreateKey;
use crate::key::raw::KeyPrefix;

#[test]
fn keys_to_create() {
    let full = json!({
        "accountId": 42, "userId": "u", "scopes": ["read"], "budgetCents": 5, "budgetPeriod": "day",
        "expiresIn": "1mo", "delegatedBy": "alice", "name": "n", "parent": null,
    });
    let spec = CreateKey::new(42)
        .user_id("u")
        .scopes(["read"])
        .budget_cents(5)
        .budget_period(Period::Day)
        .expires_in(Duration::from_secs(30 * 86_400))
        .delegated_by("alice")
        .name("n");
    assert_reads(json!({"op": "create", "with": full}), Request::Create(spec.clone()));
    let subject = json!({"op": "ensureSubject", "subject": "robot", "with": full});
    assert_reads(subject, Request::EnsureSubject("robot".to_owned(), spec));
    for with in [json!(null), json!({}), json!({"scopes": null, "expiresIn": ""})] {
        let request = json!({"op": "ensureSubject", "subject": "robot", "with": with});
        assert_reads(request, Request::EnsureSubject("robot".to_owned(), CreateKey::default()));
    }
    for (with, code, says) in [
        (json!({"budget_cents": 5}), ErrorCode::InvalidText, "budget_cents"),
        (json!({"budgetcents": 5}), ErrorCode::InvalidText, "budgetcents"),
        (json!({"budgetCents": "5"}), ErrorCode::InvalidText, ""),
        (json!({"budgetCents": 0.5}), ErrorCode::InvalidText, ""),
        (json!({"scopes": "read"}), ErrorCode::InvalidText, ""),
        (json!({"scopes": [5]}), ErrorCode::InvalidText, ""),
        (json!({"accountId": 7.5}), ErrorCode::InvalidText, ""),
        (json!({"limits": [{"cents": 1, "per": "day"}]}), ErrorCode::InvalidText, "per"),
        (json!({"limits": [{"period": "day"}]}), ErrorCode::InvalidText, "cents"),
        (json!({"limits": [{"cents": 1.5}]}), ErrorCode::InvalidText, ""),
        (json!({"limits": {"cents": 1}}), ErrorCode::InvalidText, ""),
        (json!("acct"), ErrorCode::InvalidText, ""),
        // Nothing is a key without limits by mistake.
        (json!([]), ErrorCode::InvalidText, "object"),
        (json!([7, null, null, 5]), ErrorCode::InvalidText, "object"),
        (json!({"budgetPeriod": "fortnight"}), ErrorCode::InvalidBudgetPeriod, "fortnight"),
        (json!({"budgetPeriod": ""}), ErrorCode::InvalidBudgetPeriod, ""),
        (json!({"expiresIn": "soon"}), ErrorCode::InvalidDuration, "soon"),
        (json!({"expiresIn": "9".repeat(100_000) + "d"}), ErrorCode::InvalidDuration, "..."),
        (json!({"expiresIn": 24}), ErrorCode::InvalidText, ""),
    ] {
        assert_refuses(json!({"op": "create", "with": with}), code, says);
        assert_refuses(json!({"op": "ensureSubject", "subject": "robot", "with": with}), code, says);
    }
}

#[test]
fn parents_in_every_form() {
    let hash = KeyHash::of(RAW);
    for (parent, read_as) in [
        (json!(7), Parent::Id("7".to_owned())),
        (json!("7"), Parent::Id("7".to_owned())),
        (json!("ak_short"), Parent::Id("ak_short".to_owned())),
        (json!({"id": 7}), Parent::Id("7".to_owned())),
        (json!({"id": RAW}), Parent::Id(RAW.to_owned())),
        (json!(RAW), Parent::Key(hash.clone())),
        (json!({"keyHash": hash.as_str()}), Parent::Key(hash.clone())),
        (json!({"subject": "robot"}), Parent::Subject("robot".to_owned())),
        (json!({"caller": 7}), Parent::Caller("7".to_owned())),
    ] {
        let request = read(&json!({"op": "create", "with": {"parent": parent}})).unwrap();
        let Request::Create(spec) = request else { panic!("{request:?}") };
        assert_eq!(spec.parent, Some(read_as), "{parent}");
    }
    for (parent, code) in [
        (json!(7.5), ErrorCode::InvalidText),
        (json!(true), ErrorCode::InvalidText),
        (json!([]), ErrorCode::InvalidText),
        (json!({}), ErrorCode::InvalidText),
        (json!({"id": 7, "subject": "robot"}), ErrorCode::InvalidText),
        (json!({"key": RAW}), ErrorCode::InvalidText),
        (json!({"keyHash": "x"}), ErrorCode::InvalidParent),
        (json!({"keyHash": hash.as_str().to_uppercase()}), ErrorCode::InvalidParent),
    ] {
        assert_refuses(json!({"op": "create", "with": {"parent": parent}}), code, "");
    }
    // A client with another prefix knows its own keys.
    let options = Options { key_prefix: KeyPrefix::new("sk_").unwrap(), ..Options::default() };
    let own = RAW.replace("ak_", "sk_");
    for (text, parent) in [(RAW, Parent::Id(RAW.to_owned())), (&own, Parent::Key(KeyHash::of(&own)))] {
        let json = json!({"op": "create", "with": {"parent": text}}).to_string();
        let Ok(Request::Create(spec)) = options.read_request(&json) else { panic!("{json}") };
        assert_eq!(spec.parent, Some(parent));
    }
}

#[test]
fn a_key_to_create_is_written_as_it_is_read_and_without_a_raw_key() {
    let raw = KeyPrefix::default().mint(crate::key::raw::KeyFormat::Plain).unwrap().raw;
    let child = CreateKey::child_of(&raw).budget_cents(5).budget_period(Period::Hour);
    let written = serde_json::to_string(&child).unwrap();
    let secret = &raw.expose()[3..];
    assert!(!written.contains(secret) && !format!("{child:?}").contains(secret), "{written}");
    assert!(written.contains(raw.hash().as_str()));
    assert_eq!(serde_json::from_str::<CreateKey>(&written).unwrap(), child);
    // The same where the raw key came as text.
    let json = json!({"op": "create", "with": {"parent": raw.expose()}});
    let Ok(Request::Create(spec)) = read(&json) else { panic!("{json}") };
    assert!(!serde_json::to_string(&spec).unwrap().contains(secret));

    for parent in
        [Parent::Id("7".to_owned()), Parent::Subject("s".to_owned()), Parent::Caller("7".to_owned())]
    {
        let limits = [KeyLimit::new(5).every(Period::minutes(5)).disables(), KeyLimit::new(7)];
        let spec = CreateKey::new("acct").expires_in(Duration::from_secs(3600)).limits(limits).parent(parent);
        let written = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<CreateKey>(&written).unwrap(), spec, "{written}");
    }
    let minutes = CreateKey::new(1).expires_in(Duration::from_secs(90));
    assert_eq!(serde_json::to_value(minutes).unwrap()["expiresIn"], "2m", "never shorter than it was");
    let error = serde_json::from_str::<CreateKey>(r#"{"budget_cents":5}"#).unwrap_err();
    assert!(error.to_string().contains("budget_cents"), "{error}");
}

/// Whoever reads a key to create without a client knows no prefix.
#[test]
fn a_raw_key_of_any_prefix_is_never_kept() {
    let secret = RAW.strip_prefix("ak_").unwrap();
    for raw in [RAW.to_owned(), format!("other-{secret}")] {
        let spec: CreateKey = serde_json::from_value(json!({ "parent": raw })).unwrap();
        assert_eq!(spec.parent, Some(Parent::Key(KeyHash::of(&raw))));
        let shown = format!("{spec:?} {}", serde_json::to_string(&spec).unwrap());
        assert!(!shown.contains(secret), "{shown}");
    }
    for id in [secret, "7", "ak_short", ""] {
        let spec: CreateKey = serde_json::from_value(json!({ "parent": id })).unwrap();
        assert_eq!(spec.parent, Some(Parent::Id(id.to_owned())));
    }
    assert!(serde_json::from_str::<CreateKey>("[]").is_err());
}
