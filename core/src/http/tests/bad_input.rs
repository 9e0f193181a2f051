//! Everything that a body can get wrong: a clear 400 that names the field, and nothing is asked of the database.

use super::*;

/// Members that both POST routes refuse, and how the answer names them.
fn bad_members() -> Vec<(&'static str, Value, &'static str)> {
    let mut bad = Vec::new();
    let mut add =
        |field, named, values: Vec<Value>| bad.extend(values.into_iter().map(|value| (field, value, named)));
    let long = "x".repeat(1_000_000);
    add(
        "budget_cents",
        "budget_cents must be a whole number from 0 to 4000000000000",
        vec![
            json!("1_000_000"),
            json!("500"),
            json!(""),
            json!("0x10"),
            json!("NaN"),
            json!("Infinity"),
            json!(-1),
            json!(-0.5),
            json!(0.5),
            json!(1.5),
            json!(499.999_999),
            json!(1e-9),
            json!(4_000_000_000_001i64),
            json!(4_000_000_000_000.5),
            json!(9_007_199_254_740_993i64),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(1e21),
            json!(-1e21),
            json!(1e300),
            json!(f64::MAX),
            json!(true),
            json!(false),
            json!([]),
            json!([5]),
            json!({}),
            json!({"cents": 5}),
            json!("٥"),
            json!("5 cents"),
            json!("5\0"),
        ],
    );
    add(
        "scopes",
        "scopes must be an array of at most 100 strings",
        vec![
            json!("read"),
            json!(""),
            json!("read,write"),
            json!("{read}"),
            json!("*"),
            json!(0),
            json!(5),
            json!(1.5),
            json!(true),
            json!(false),
            json!({}),
            json!({"0": "read"}),
            json!({"length": 0}),
            json!([1]),
            json!([null]),
            json!([true]),
            json!(["read", 5]),
            json!(["read", null]),
            json!([["read"]]),
            json!([{}]),
            json!([""]),
            json!(["read", ""]),
            json!(["a\0"]),
            json!(["\0"]),
            json!([long]),
            json!(["x".repeat(201)]),
            json!(vec!["read"; 101]),
            json!(vec!["read"; 100_000]),
        ],
    );
    add(
        "expires_in",
        "expires_in must be a string",
        vec![
            json!(0),
            json!(1),
            json!(-1),
            json!(24),
            json!(86_400_000),
            json!(1.5),
            json!(1e300),
            json!(true),
            json!(false),
            json!([]),
            json!(["24h"]),
            json!({}),
            json!({"hours": 24}),
        ],
    );
    add(
        "expires_in",
        "Invalid duration: ",
        vec![
            json!("h"),
            json!("24"),
            json!("-24h"),
            json!("+24h"),
            json!("1.5h"),
            json!("1e3h"),
            json!(" 24h"),
            json!("24h "),
            json!("24 h"),
            json!("24H"),
            json!("24hh"),
            json!("24hours"),
            json!("1w"),
            json!("1y"),
            json!("1M"),
            json!("never"),
            json!("null"),
            json!("Infinity"),
            json!("NaNd"),
            json!("٢٤h"),
            json!("24h\0"),
            json!("\0"),
            json!("365001d"),
            json!("99999999999999999999d"),
            json!(format!("{}d", "9".repeat(100_000))),
            json!(long),
            json!("24h;DROP TABLE"),
            json!("24ℎ"),
            json!("0"),
            json!("24h\n"),
            json!("0x5h"),
            json!("24h24h"),
        ],
    );
    add(
        "budget_period",
        "budget_period must be a string",
        vec![
            json!(0),
            json!(1),
            json!(true),
            json!(false),
            json!([]),
            json!(["day"]),
            json!({}),
            json!("day\0"),
            json!("\0"),
            json!(long),
        ],
    );
    add(
        "name",
        "name must be a string of at most 200 characters",
        vec![
            json!(0),
            json!(5),
            json!(true),
            json!(false),
            json!([]),
            json!(["n"]),
            json!({}),
            json!("a\0b"),
            json!("\0"),
            json!("x".repeat(201)),
            json!("é".repeat(201)),
            json!(long),
        ],
    );
    bad
}

fn bodies_that_are_no_object() -> Vec<(Body, &'static str)> {
    let no_object = [
        json!(null),
        json!([]),
        json!([{"email": "a@b"}]),
        json!("email"),
        json!(""),
        json!(5),
        json!(0),
        json!(true),
    ];
    let mut bad: Vec<_> = no_object.map(|body| (Body::Json(body), "The body must be a JSON object")).into();
    bad.push((Body::Unreadable, "The body is not valid JSON"));
    bad
}

fn open() -> World {
    let options = RouteOptions {
        require_email_for_signup: false,
        signup_scopes: list(&["read"]),
        ..RouteOptions::default()
    };
    World::new(options)
}

#[test]
fn every_malformed_member_is_refused_by_name_on_both_routes() {
    let bad = bad_members();
    assert!(bad.len() > 100, "{}", bad.len());
    for (field, value, named) in bad {
        let body = || json!({field: value, "email": "a@b"});
        let mut world = open();
        for response in [world.signup(body()), world.create(body())] {
            let shown: String = value.to_string().chars().take(60).collect();
            assert_eq!(response.status, 400, "{field}: {shown}");
            assert!(error_of(&response).starts_with(named), "{field}: {shown}: {}", error_of(&response));
            assert!(response.body.len() < 400, "an answer must not echo what is megabytes long");
        }
        assert_eq!(world.asked, [], "{field}");
    }
}

#[test]
fn nobody_mints_an_unlimited_key_by_a_type_that_is_not_checked() {
    // A limited caller, each hole as it was opened: whatever the answer, no key comes of it.
    let limited = Grant { scopes: list(&["read"]), expires_at: later(3600), ..capped(500) };
    let fine = json!({"scopes": ["read"], "budget_cents": 500, "expires_in": "1h"});
    let mut world = World::of(limited.clone());
    assert_eq!(world.create(fine.clone()).status, 201);
    for (field, value) in [
        ("scopes", json!("read")),
        ("scopes", json!("")),
        ("scopes", json!({"includes": true, "length": 0})),
        ("scopes", json!(["admin"])),
        ("budget_cents", json!("1_000_000")),
        ("budget_cents", json!("499")),
        ("budget_cents", json!(-1)),
        ("budget_cents", json!(1e300)),
        ("budget_cents", json!(null)),
        ("budget_cents", json!(false)),
        ("expires_in", json!("")),
        ("expires_in", json!(0)),
        ("expires_in", json!(false)),
        ("expires_in", json!(null)),
        ("expires_in", json!("-1h")),
    ] {
        let mut body = fine.clone();
        body[field] = value.clone();
        let mut world = World::of(limited.clone());
        let response = world.create(body);
        assert!(matches!(response.status, 400 | 403), "{field} {value}: {}", response.status);
        assert_eq!(world.asked, []);
    }
}

#[test]
fn a_body_that_is_no_object_is_a_clear_400() {
    for (body, message) in bodies_that_are_no_object() {
        for mut world in [open(), World::new(RouteOptions::default())] {
            for (route, key) in [(Route::Signup, None), (Route::Create, Some("Bearer ak_1"))] {
                let response = world.serve(call(route, key, body.clone()));
                assert_answer(&response, 400, &json!({"error": message}).to_string());
            }
            assert_eq!(world.asked, []);
        }
    }
}

#[test]
fn a_missing_body_is_a_400_that_says_what_is_missing() {
    let missing = r#"{"error":"The body is missing: a JSON object is expected"}"#;
    let mut world = open();
    assert_answer(&world.serve(call(Route::Signup, None, Body::Missing)), 400, missing);
    assert_answer(&world.serve(call(Route::Create, Some("Bearer ak_1"), Body::Missing)), 400, missing);
    let mut world = World::new(RouteOptions::default());
    let response = world.serve(call(Route::Signup, None, Body::Missing));
    assert_answer(&response, 400, r#"{"error":"Valid email is required"}"#);
}

#[test]
fn what_the_client_refuses_is_a_400_with_its_message() {
    let client = Options { valid_scopes: list(&["read"]), ..Options::default() };
    for (body, message) in [
        (json!({"scopes": ["a", "b"]}), "Invalid scopes: a, b"),
        (json!({"scopes": ["admin"]}), "Invalid scopes: admin"),
        (json!({"budget_period": "fortnight"}), "Invalid budget period: fortnight"),
        (json!({"budget_period": ""}), "Invalid budget period: "),
        (json!({"budget_period": "Day"}), "Invalid budget period: Day"),
    ] {
        let mut world = World { client: client.clone(), ..World::of(anything()) };
        assert_answer(&world.create(body), 400, &json!({"error": message}).to_string());
    }
}

#[test]
fn null_is_absent_and_unknown_members_are_nobodys_business() {
    let body = json!({
        "scopes": null, "budget_cents": null, "budget_period": null, "expires_in": null, "name": null, "email": null,
        "__proto__": {"scopes": ["admin"]}, "constructor": 5, "budgetCents": "x", "expiresIn": 0, "": [], "valid": true,
    });
    let mut world = open();
    assert_eq!(world.signup(body.clone()).status, 201);
    let spec = &world.created().spec;
    assert_eq!((spec.scopes.clone(), spec.budget_cents, spec.name.clone()), (list(&["read"]), None, None));
    let mut world = World::of(anything());
    assert_eq!(world.create(body).status, 201);
    assert_eq!(world.created().spec, CreateKey::new("acct").parent(Parent::Caller("7".to_owned())));
}

#[test]
fn what_is_just_within_the_bounds_is_served() {
    for body in [
        json!({"budget_cents": 0}),
        json!({"budget_cents": 4_000_000_000_000i64}),
        json!({"budget_cents": 4e12}),
        json!({"budget_cents": 5e2}),
        json!({"budget_cents": -0.0}),
        json!({"scopes": vec!["x".repeat(200); 100]}),
        json!({"scopes": ["a b", "é", "'; DROP TABLE", "{}", "\\", "\""]}),
        json!({"name": "é".repeat(200)}),
        json!({"name": ""}),
        json!({"name": "a\nb\u{202e}😀"}),
        json!({"expires_in": "365000d"}),
        json!({"expires_in": "000024h"}),
        json!({"budget_period": "hour"}),
    ] {
        let mut world = World::of(anything());
        assert_eq!(world.create(body.clone()).status, 201, "{body}");
    }
}
