//! The routes for callers who hold a key: /sdk-keys/me, POST /sdk-keys, DELETE /sdk-keys/:id.

use std::time::Duration;

use super::*;

fn every_route() -> Vec<Route> {
    vec![Route::Me, Route::Create, Route::Delete { id: "8".to_owned() }]
}

#[test]
fn paths_lead_where_express_leads_them() {
    let delete = |id: &str| Route::Delete { id: id.to_owned() };
    for (method, path, route) in [
        ("POST", "/signup", Route::Signup),
        ("POST", "/signup/?ref=1", Route::Signup),
        ("POST", "/SignUp", Route::Signup),
        ("GET", "/signup", Route::Unknown),
        ("GET", "/sdk-keys/me", Route::Me),
        ("HEAD", "/sdk-keys/me/", Route::Me),
        ("POST", "/sdk-keys/me", Route::Unknown),
        ("POST", "/sdk-keys", Route::Create),
        ("POST", "/sdk-keys/", Route::Create),
        ("GET", "/sdk-keys", Route::List { query: String::new() }),
        ("GET", "/sdk-keys/?a=%31&b=x?y#z", Route::List { query: "a=%31&b=x?y".to_owned() }),
        ("PATCH", "/sdk-keys/8", Route::Update { id: "8".to_owned() }),
        ("PATCH", "/sdk-keys", Route::Unknown),
        ("PATCH", "/sdk-keys/", Route::Unknown),
        ("POST", "/sdk-keys/8/rotate", Route::Rotate { id: "8".to_owned() }),
        ("POST", "/SDK-keys/%38/Rotate/", Route::Rotate { id: "8".to_owned() }),
        ("POST", "/sdk-keys/8%2Frotate", Route::Unknown),
        ("POST", "/sdk-keys/a%2Fb/disable", Route::Disable { id: "a/b".to_owned() }),
        ("POST", "/sdk-keys/8/enable?x", Route::Enable { id: "8".to_owned() }),
        ("POST", "/sdk-keys/8/rotat%65", Route::Unknown),
        ("POST", "/sdk-keys/8/rotate/9", Route::Unknown),
        ("GET", "/sdk-keys/8/rotate", Route::Unknown),
        ("GET", "/sdk-keys/8", Route::Unknown),
        ("DELETE", "/sdk-keys/8", delete("8")),
        ("DELETE", "/sdk-keys/me", delete("me")),
        ("DELETE", "/sdk-keys/a%2Fb%20c", delete("a/b c")),
        ("DELETE", "/sdk-keys/%C3%A9", delete("é")),
        ("DELETE", "/sdk-keys/%ff", delete("%ff")),
        ("DELETE", "/sdk-keys/%", delete("%")),
        ("DELETE", "/sdk-keys/%4", delete("%4")),
        ("DELETE", "/sdk-keys/%zz", delete("%zz")),
        ("DELETE", "/sdk-keys/8?x=/y", delete("8")),
        ("DELETE", "/sdk-keys", Route::Unknown),
        ("DELETE", "/sdk-keys/", Route::Unknown),
        ("DELETE", "/sdk-keys//", Route::Unknown),
        ("DELETE", "/sdk-keys/8/9", Route::Unknown),
        ("DELETE", "sdk-keys/8", Route::Unknown),
        ("PUT", "/sdk-keys/8", Route::Unknown),
        ("GET", "", Route::Unknown),
        ("GET", "/", Route::Unknown),
        ("POST", "//signup", Route::Unknown),
    ] {
        assert_eq!(Route::of(method, path), route, "{method} {path}");
    }
}

#[test]
fn without_a_live_key_every_route_answers_as_the_guard_does() {
    for route in every_route() {
        let mut world = World::new(RouteOptions::default());
        let response = world.serve(call(route.clone(), None, Body::Unreadable));
        assert_answer(&response, 401, r#"{"error":"Missing API key"}"#);
        for (verdict, status, body) in [
            (Ok(Err(Denial::invalid())), 401, r#"{"error":"invalid"}"#),
            (Ok(Err(denied(DenialReason::Revoked))), 401, r#"{"error":"revoked"}"#),
            (Ok(Err(denied(DenialReason::Disabled))), 401, r#"{"error":"disabled"}"#),
            (Ok(Err(denied(DenialReason::Expired))), 401, r#"{"error":"expired"}"#),
            (Err(database_fault()), 500, r#"{"error":"auth_unavailable"}"#),
        ] {
            world.caller = verdict;
            // The caller comes first: a body that is wrong is nobody's business yet.
            let response = world.serve(call(route.clone(), Some("Bearer ak_1"), Body::Unreadable));
            assert_answer(&response, status, body);
        }
        assert_eq!(world.asked, []);
    }
}

#[test]
fn me_is_the_callers_validate_result_and_what_a_charge_meets() {
    let caller = Grant {
        user_id: Some("u".to_owned()),
        scopes: list(&["read"]),
        budget_used_cents: 20,
        budget_remaining_cents: Some(80),
        budget_period: Some("day".to_owned()),
        budget_reset_at: later(60),
        expires_at: later(3600),
        delegated_by: Some("alice".to_owned()),
        ..capped(100)
    };
    assert_answer(
        &World::of(caller).me(),
        200,
        r#"{"valid":true,"id":7,"accountId":"acct","userId":"u","scopes":["read"],"budgetCents":100,"budgetUsedCents":20,"budgetRemainingCents":80,"budgetPeriod":"day","budgetResetAt":"2025-11-24T16:01:00.000Z","expiresAt":"2025-11-24T17:00:00.000Z","delegatedBy":"alice","name":"default","budgetReservedCents":0,"explanation":{"allowed":false,"reason":"invalid_key","limitKeyId":null,"live":false,"limits":[]}}"#,
    );
}

#[test]
fn an_exhausted_key_sees_and_revokes_itself_but_makes_no_child() {
    let mut world = World::of_denied(exhausted(later(60)));
    let me = world.me();
    assert_eq!(me.status, 200);
    let me: Value = serde_json::from_str(&me.body).unwrap();
    assert_eq!((&me["valid"], &me["budgetRemainingCents"], &me["id"]), (&json!(true), &json!(0), &json!(7)));
    assert_answer(&world.delete("7"), 200, r#"{"revoked":true}"#);
    assert_eq!(world.asked.len(), 1);

    let response = world.create(json!({"budget_cents": 1}));
    assert_answer(&response, 429, r#"{"error":"budget_exceeded"}"#);
    assert_eq!(response.header("Retry-After"), Some("60"));
    assert_eq!(world.asked.len(), 1);

    // Where the row is not at hand there is nothing to show.
    let mut world = World::of_denied(Denial { key: None, ..exhausted(None) });
    assert_eq!((world.me().status, world.delete("7").status), (429, 429));
}

#[test]
fn only_keys_of_the_callers_account_are_revoked() {
    for (account, filter) in [
        (Some(AccountId::Text("acct".to_owned())), Some("acct".into())),
        (Some(AccountId::Integer(42)), Some(42.into())),
        // An account that is NULL owns nothing: it must never become a filter that matches every key.
        (None, None),
    ] {
        let mut world = World::of(Grant { account_id: account, ..anything() });
        assert_answer(&world.delete("8"), 200, r#"{"revoked":true}"#);
        let revocation = Revocation::of_key("8").of_account(filter);
        assert_eq!(world.asked, [Asked::Revoke(revocation)]);
    }
}

#[test]
fn the_policy_may_narrow_it_to_descendants() {
    let options = RouteOptions { revoke_policy: RevokePolicy::Descendants, ..RouteOptions::default() };
    let mut world = World::new(options);
    world.delete("8");
    let revocation = Revocation::of_key("8").of_account(Some("acct".into())).within(7);
    assert_eq!(world.asked, [Asked::Revoke(revocation)]);
}

#[test]
fn what_is_not_revoked_is_not_found_and_a_fault_is_a_fault() {
    let mut world = World { revokes: Ok(false), ..World::of(anything()) };
    assert_answer(&world.delete("8"), 404, r#"{"error":"Key not found"}"#);
    world.revokes = Err(database_fault());
    assert_answer(&world.delete("8"), 500, r#"{"error":"auth_unavailable"}"#);
}

#[test]
fn an_id_is_handed_on_as_it_is_or_not_at_all() {
    let with_text_ids = || Grant { id: KeyId::Text("a".to_owned()), ..anything() };
    // 52abc is not 52: whether a column can hold it, the engine knows.
    let begin_with_digits = ["52abc", "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f", "52 OR 1=1", &"9".repeat(255)];
    let others = ["f00", " 52", "-1", "é", "x"];
    let handed_on = |id: &str, caller: Grant| {
        let mut world = World::of(caller);
        world.delete(id);
        matches!(&world.asked[..], [Asked::Revoke(old)] if old.key_id == id.into())
    };
    for id in begin_with_digits {
        assert!(handed_on(id, anything()) && handed_on(id, with_text_ids()), "{id}");
    }
    for id in others {
        assert!(handed_on(id, with_text_ids()), "{id}");
        let mut world = World::of(anything());
        assert_answer(&world.delete(id), 400, r#"{"error":"Invalid key ID"}"#);
        assert_eq!(world.asked, []);
    }
    for id in ["", "5\0", &"9".repeat(256), &"é".repeat(1_000_000)] {
        let mut world = World::of(with_text_ids());
        assert_answer(&world.delete(id), 404, r#"{"error":"Key not found"}"#);
        assert_eq!(world.asked, []);
    }
}

#[test]
fn a_child_is_of_the_callers_account_user_and_human() {
    let caller = Grant {
        account_id: Some(AccountId::Integer(42)),
        user_id: Some("u".to_owned()),
        delegated_by: Some("alice".to_owned()),
        ..anything()
    };
    let mut world = World::of(caller);
    let body = json!({
        "scopes": ["read"], "budget_cents": 5, "budget_period": "day", "expires_in": "1h", "name": "n",
        "account_id": "other", "accountId": "other", "user_id": "x", "delegated_by": "mallory", "email": 5,
    });
    assert_answer(
        &world.create(body),
        201,
        r#"{"key":"ak_new","id":8,"scopes":["read"],"budgetCents":5,"budgetPeriod":"day","expiresAt":null}"#,
    );
    let spec = CreateKey::new(42)
        .user_id("u")
        .scopes(["read"])
        .budget_cents(5)
        .budget_period(crate::Period::Day)
        .expires_in(Duration::from_secs(3600));
    let spec = spec.delegated_by("alice").name("n");
    assert_eq!(
        *world.created(),
        NewKey { spec: spec.parent(Parent::Caller("7".to_owned())), expires_in: Some("1h".to_owned()) }
    );
}

#[test]
fn an_account_that_is_null_has_children_without_an_account() {
    let mut world = World::of(Grant { account_id: None, ..anything() });
    assert_eq!(world.create(json!({})).status, 201);
    assert_eq!(world.created().spec.account_id, None);
}

#[test]
fn a_childs_scopes_default_to_the_callers_and_never_exceed_them() {
    for (caller, asked, granted) in [
        (None, json!(null), None),
        (None, json!(["a", "admin"]), list(&["a", "admin"])),
        (list(&["admin"]), json!(null), list(&["admin"])),
        (list(&["admin"]), json!(["a", "b"]), list(&["a", "b"])),
        (list(&["a", "b"]), json!(null), list(&["a", "b"])),
        (list(&["a", "b"]), json!(["b"]), list(&["b"])),
        (list(&["a"]), json!([]), list(&[])),
        (list(&[]), json!(null), list(&[])),
    ] {
        let mut world = World::of(Grant { scopes: caller.clone(), ..anything() });
        assert_eq!(world.create(json!({"scopes": asked})).status, 201, "{caller:?} {asked}");
        assert_eq!(world.created().spec.scopes, granted, "{caller:?} {asked}");
    }
    for (caller, asked, lacking) in [
        (&["b"][..], json!(["a"]), "a"),
        (&["b"], json!(["a", "b", "c"]), "a, c"),
        (&["b"], json!(["admin"]), "admin"),
        (&[], json!(["b"]), "b"),
        (&["bb"], json!(["b"]), "b"),
        (&["a,b"], json!(["a", "b"]), "a, b"),
    ] {
        let mut world = World::of(scoped(caller));
        let response = world.create(json!({"scopes": asked}));
        assert_answer(
            &response,
            403,
            &json!({"error": format!("Cannot grant scopes you do not have: {lacking}")}).to_string(),
        );
        let challenge = format!(
            r#"Bearer realm="agentkey", error="insufficient_scope", scope="{}""#,
            lacking.replace(',', "")
        );
        assert_eq!(response.header("WWW-Authenticate"), Some(challenge.as_str()));
        assert_eq!(world.asked, []);
    }
}

#[test]
fn a_capped_callers_child_is_capped_within_it() {
    for (cap, asked, status) in [
        (None, json!(null), 201),
        (None, json!(1_000_000), 201),
        (Some(500), json!(500), 201),
        (Some(500), json!(0), 201),
        (Some(500), json!(500.0), 201),
        (Some(500), json!(501), 403),
        (Some(500), json!(null), 403),
        (Some(0), json!(1), 403),
    ] {
        let mut world = World::of(Grant { budget_cents: cap, ..anything() });
        let response = world.create(json!({"budget_cents": asked}));
        assert_eq!(response.status, status, "{cap:?} {asked}");
        assert_eq!(world.asked.len(), usize::from(status == 201));
        if status == 403 {
            let message =
                format!("budget_cents is required, and at most your own budget of {}", cap.unwrap());
            assert_answer(&response, 403, &json!({"error": message}).to_string());
        }
    }
}

#[test]
fn an_expiring_callers_child_must_expire_and_the_database_says_whether_in_time() {
    for (end, asked, status) in [
        (None, json!(null), 201),
        (None, json!(""), 201),
        (None, json!("1000d"), 201),
        (later(3600), json!("1h"), 201),
        (later(3600), json!("0h"), 201),
        // By this side's clock too late, and by the database's perhaps not.
        (later(3600), json!("61m"), 201),
        (later(3600), json!(null), 403),
        (later(3600), json!(""), 403),
        (Some(DateTime::<Utc>::MAX_UTC), json!(null), 403),
        (Some(DateTime::<Utc>::MAX_UTC), json!("365000d"), 201),
    ] {
        let mut world = World::of(Grant { expires_at: end, ..anything() });
        let response = world.create(json!({"expires_in": asked}));
        assert_eq!(response.status, status, "{end:?} {asked}");
        assert_eq!(world.asked.len(), usize::from(status == 201));
        if status == 403 {
            assert!(
                error_of(&response)
                    .starts_with("expires_in is required, and may not pass your own expiry at ")
            );
        }
    }
    let mut world = World::of(Grant { expires_at: later(60), ..anything() });
    assert!(error_of(&world.create(json!({}))).ends_with(" at 2025-11-24T16:01:00.000Z"));
    // What the database says of one that would outlive its parent.
    let mut world = World::of(Grant { expires_at: later(60), ..anything() });
    world.creates =
        Some(Error::new(ErrorCode::InvalidDuration, "Invalid duration: it would outlive its parent"));
    let response = world.create(json!({"expires_in": "1h"}));
    assert_answer(&response, 403, r#"{"error":"expires_in may not pass your own expiry"}"#);
}

#[test]
fn what_create_refuses_is_the_callers_fault_and_what_fails_is_not() {
    for code in ErrorCode::ALL {
        let mut world =
            World::new(RouteOptions { require_email_for_signup: false, ..RouteOptions::default() });
        world.creates = Some(Error::new(*code, "the message"));
        let response = world.signup(json!({}));
        if code.is_bad_input() && *code != ErrorCode::InvalidAccountId {
            assert_answer(&response, 400, r#"{"error":"the message"}"#);
        } else {
            assert_answer(&response, 500, r#"{"error":"auth_unavailable"}"#);
            assert_eq!(response.fault, Some(format!("{code}: the message")));
        }
    }
}

#[test]
fn a_new_key_is_stored_nowhere_and_logged_nowhere() {
    let response = World::of(anything()).create(json!({}));
    assert!(response.body.contains("ak_new"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    assert!(!format!("{response:?}").contains("ak_new"));
    let visit = World::of(anything()).routes.visit(call(Route::Me, Some("Bearer ak_1"), Body::Missing));
    assert!(!format!("{visit:?}").contains("ak_1"));
    // What holds no key is shown.
    assert!(format!("{:?}", World::of_denied(Denial::invalid()).me()).contains("invalid"));
}
