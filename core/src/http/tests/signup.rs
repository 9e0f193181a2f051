//! POST /signup.

use std::time::Duration;

use super::*;
use crate::budget::period::Period;

fn open() -> RouteOptions {
    RouteOptions {
        require_email_for_signup: false,
        signup_scopes: list(&["read", "write"]),
        ..RouteOptions::default()
    }
}

fn is_own_account(account: &str) -> bool {
    let Some(uuid) = account.strip_prefix("signup:") else { return false };
    let digits = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    uuid.len() == 36
        && uuid.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && uuid.chars().all(|c| c == '-' || digits(c))
        && &uuid[14..15] == "4"
        && "89ab".contains(&uuid[19..20])
}

#[test]
fn a_signup_is_an_account_of_its_own_and_its_address_the_user() {
    let mut world = World::new(RouteOptions { signup_scopes: list(&["read"]), ..RouteOptions::default() });
    let response =
        world.signup(json!({"email": "a@example.com", "name": "n", "account_id": "acct", "user_id": "root"}));
    assert_answer(
        &response,
        201,
        r#"{"key":"ak_new","id":8,"scopes":["read"],"budgetCents":null,"budgetPeriod":null,"expiresAt":null}"#,
    );
    let NewKey { spec, expires_in } = world.created().clone();
    assert_eq!(expires_in.as_deref(), Some("24h"));
    let account = spec.account_id.clone().unwrap().to_string();
    assert!(is_own_account(&account), "{account}");
    let expected = CreateKey::new(account)
        .user_id("a@example.com")
        .scopes(["read"])
        .expires_in(Duration::from_secs(86_400))
        .name("n");
    assert_eq!(spec, expected);
}

#[test]
fn nobody_claims_an_account_by_its_name() {
    // The account of a second signup with the same address, or with that of an existing account, is another one.
    let account = |email: &str| {
        let mut world = World::new(RouteOptions::default());
        world.signup(json!({"email": email}));
        world.created().spec.account_id.clone().unwrap().to_string()
    };
    assert_ne!(account("a@example.com"), account("a@example.com"));
    assert!(is_own_account(&account("signup:@acct")));
}

#[test]
fn the_originals_accounts_are_to_be_had() {
    let options = RouteOptions { signup_account: SignupAccount::Email, ..open() };
    let mut world = World::new(options.clone());
    world.signup(json!({"email": "a@example.com"}));
    let spec = &world.created().spec;
    assert_eq!((spec.account_id.clone(), spec.user_id.as_deref()), (Some("a@example.com".into()), None));
    let mut world = World::new(options);
    world.signup(json!({}));
    assert!(is_own_account(&world.created().spec.account_id.clone().unwrap().to_string()));
}

#[test]
fn an_address_is_required_unless_it_is_not() {
    let longest = format!("{}@example.com", "x".repeat(243));
    assert_eq!(longest.len(), 255);
    for email in ["a@b", "@", "é@é", "a @ b", &longest, &format!("{}@", "é".repeat(254))] {
        let mut world = World::new(RouteOptions::default());
        assert_eq!(world.signup(json!({"email": email})).status, 201, "{email}");
        assert_eq!(world.created().spec.user_id.as_deref(), Some(email));
    }
    // 128 of these are 256 characters in JavaScript.
    let bad = [
        json!("nobody"),
        json!(null),
        json!(5),
        json!(true),
        json!(["a@b"]),
        json!({"a@b": 1}),
        json!("a@b\0"),
    ];
    let long = [json!(format!("x{longest}")), json!(format!("{}@", "😀".repeat(128)))];
    for email in bad.into_iter().chain(long) {
        let mut world = World::new(RouteOptions::default());
        assert_answer(&world.signup(json!({"email": email})), 400, r#"{"error":"Valid email is required"}"#);
        assert_eq!(world.asked, []);
        if !email.is_null() {
            assert_eq!(
                World::new(open()).signup(json!({"email": email})).status,
                400,
                "given, it must be one: {email}"
            );
        }
    }
    for body in [json!({}), json!({"email": ""})] {
        assert_answer(
            &World::new(RouteOptions::default()).signup(body.clone()),
            400,
            r#"{"error":"Valid email is required"}"#,
        );
        for body in [body, json!({"email": null})] {
            let mut world = World::new(open());
            assert_eq!(world.signup(body).status, 201);
            assert_eq!(world.created().spec.user_id, None);
        }
    }
}

#[test]
fn scopes_are_those_that_the_server_offers() {
    for (offered, asked, granted) in [
        (list(&["read", "write"]), json!(null), &["read", "write"][..]),
        (list(&["read", "write"]), json!(["write"]), &["write"]),
        (list(&["read", "write"]), json!([]), &[]),
        (list(&["admin"]), json!(["admin"]), &["admin"]),
        (list(&[]), json!(null), &[]),
        // Never null, which would be everything.
        (None, json!(null), &[]),
        (None, json!([]), &[]),
    ] {
        let mut world = World::new(RouteOptions { signup_scopes: offered, ..open() });
        assert_eq!(world.signup(json!({"scopes": asked})).status, 201, "{asked}");
        assert_eq!(world.created().spec.scopes, list(granted), "{asked}");
    }
    for (offered, asked, body) in [
        (
            list(&["read"]),
            json!(["a", "read", "b"]),
            r#"{"error":"Scopes not allowed on signup: a, b","allowed":["read"]}"#,
        ),
        (
            list(&["read"]),
            json!(["admin"]),
            r#"{"error":"Scopes not allowed on signup: admin","allowed":["read"]}"#,
        ),
        (
            list(&["admin"]),
            json!(["read"]),
            r#"{"error":"Scopes not allowed on signup: read","allowed":["admin"]}"#,
        ),
        (None, json!(["a"]), r#"{"error":"Scopes not allowed on signup: a","allowed":[]}"#),
    ] {
        let mut world = World::new(RouteOptions { signup_scopes: offered, ..open() });
        assert_answer(&world.signup(json!({"scopes": asked})), 400, body);
        assert_eq!(world.asked, []);
    }
}

#[test]
fn no_signup_lives_for_ever() {
    let lifetime = |options: &RouteOptions, asked: Value| {
        let mut world = World::new(options.clone());
        let response = world.signup(json!({"expires_in": asked}));
        match response.status {
            201 => Ok(world.created().expires_in.clone().unwrap()),
            400 => Err(error_of(&response)),
            other => panic!("{other}"),
        }
    };
    assert_eq!(lifetime(&open(), json!(null)).unwrap(), "24h");
    assert_eq!(lifetime(&open(), json!("30d")).unwrap(), "30d");
    assert_eq!(lifetime(&open(), json!("365d")).unwrap(), "365d");
    assert_eq!(lifetime(&open(), json!("0h")).unwrap(), "0h");
    let too_long = "expires_in on signup must be a duration of at most 365d";
    for asked in ["", "366d", "8761h", "13mo", "365000d"] {
        assert_eq!(lifetime(&open(), json!(asked)).unwrap_err(), too_long, "{asked:?}");
    }
    for asked in [json!(0), json!(false), json!(true), json!([]), json!({}), json!(86400)] {
        assert_eq!(lifetime(&open(), asked).unwrap_err(), "expires_in must be a string such as \"24h\"");
    }
    let short = RouteOptions { signup_max_expires_in: "1h".to_owned(), ..open() };
    assert_eq!(lifetime(&short, json!(null)).unwrap(), "1h");
    assert!(lifetime(&short, json!("61m")).is_err());
    let long = RouteOptions { signup_max_expires_in: "2000d".to_owned(), ..open() };
    assert_eq!(lifetime(&long, json!("2000d")).unwrap(), "2000d");
    for wrong in ["", "1y", "never"] {
        let options = RouteOptions { signup_max_expires_in: wrong.to_owned(), ..open() };
        assert_eq!(Routes::new(&options).unwrap_err().code(), ErrorCode::InvalidDuration);
    }
}

#[test]
fn a_cap_that_no_key_can_have_is_refused_at_once() {
    let options = RouteOptions { signup_budget: Some(SignupBudget::new(-1, None)), ..open() };
    assert_eq!(Routes::new(&options).unwrap_err().code(), ErrorCode::InvalidBudget);
}

#[test]
fn the_server_may_cap_what_a_signup_spends() {
    let mut world = World::new(open());
    world.signup(json!({"budget_cents": 7, "budget_period": "month"}));
    let spec = &world.created().spec;
    assert_eq!((spec.budget_cents, spec.budget_period), (Some(7), Some(Period::Month)));

    let daily = Some(Period::Day);
    for (period, body, outcome) in [
        (None, json!({}), Ok((100, None))),
        (None, json!({"budget_cents": 100}), Ok((100, None))),
        (None, json!({"budget_cents": 0}), Ok((0, None))),
        (None, json!({"budget_cents": 101}), Err("budget_cents on signup must be at most 100")),
        // A hundred cents an hour are not a hundred cents.
        (None, json!({"budget_period": "hour"}), Err("budget_period on signup must be absent")),
        (daily, json!({}), Ok((100, daily))),
        (daily, json!({"budget_period": "day", "budget_cents": 5}), Ok((5, daily))),
        (daily, json!({"budget_period": "hour"}), Err("budget_period on signup must be day")),
    ] {
        let budget = SignupBudget::new(100, period);
        let mut world = World::new(RouteOptions { signup_budget: Some(budget), ..open() });
        let response = world.signup(body.clone());
        match outcome {
            Ok((cents, period)) => {
                let spec = &world.created().spec;
                assert_eq!((spec.budget_cents, spec.budget_period), (Some(cents), period), "{body}");
            }
            Err(message) => assert_answer(&response, 400, &json!({"error": message}).to_string()),
        }
    }
}

#[test]
fn the_limit_counts_signups_by_address_and_no_mistakes() {
    let limit = RateLimit { max: 2, window_seconds: 60 };
    let mut world = World::new(RouteOptions { signup_rate_limit: Some(limit), ..open() });
    let mut signup = |address: Option<&str>, seconds, body| {
        let call = call(Route::Signup, None, Body::Json(body));
        world.serve(VisitCall { address: address.map(str::to_owned), now: later(seconds).unwrap(), ..call })
    };
    for _ in 0..5 {
        assert_eq!(signup(Some("1.2.3.4"), 0, json!({"email": 5})).status, 400);
    }
    assert_eq!(signup(Some("1.2.3.4"), 0, json!({})).status, 201);
    assert_eq!(signup(Some("1.2.3.4"), 5, json!({})).status, 201);
    let response = signup(Some("1.2.3.4"), 10, json!({}));
    assert_answer(&response, 429, r#"{"error":"rate_limited"}"#);
    assert_eq!(response.header("Retry-After"), Some("50"));
    assert_eq!(signup(Some("1.2.3.5"), 10, json!({})).status, 201);
    assert_eq!(signup(None, 10, json!({})).status, 201);
    assert_eq!(signup(Some("1.2.3.4"), 60, json!({})).status, 201);

    // Clones are one door; without a limit there is none.
    let mut world =
        World::new(RouteOptions { signup_rate_limit: Some(RateLimit { max: 1, ..limit }), ..open() });
    let mut clone = World { routes: world.routes.clone(), ..World::new(open()) };
    assert_eq!((world.signup(json!({})).status, clone.signup(json!({})).status), (201, 429));
    let mut world = World::new(open());
    assert!((0..100).all(|_| world.signup(json!({})).status == 201));
}

#[test]
fn the_database_counts_signups_where_it_can() {
    let options = RouteOptions { signup_rate_limit: Some(RateLimit::new(2, 60)), ..open() };
    let mut world = World::new(options.clone());
    // As often as it says, whatever this process has counted.
    for _ in 0..5 {
        world.counts = Some(Ok(Answer::SignupCounted(Ok(()))));
        assert_eq!(world.signup(json!({})).status, 201);
    }
    world.counts = Some(Ok(Answer::SignupCounted(Err(42))));
    let response = world.signup(json!({}));
    assert_answer(&response, 429, r#"{"error":"rate_limited"}"#);
    assert_eq!(response.header("Retry-After"), Some("42"));
    // It is not asked again for a while.
    world.counts = Some(Ok(Answer::SignupCounted(Ok(()))));
    assert_eq!(world.signup(json!({})).status, 429);
    assert!(world.counts.is_some());
    assert_eq!(world.asked.len(), 5);

    // A fault lets nobody through, nor does an answer to something else.
    for counted in [Err(database_fault()), Ok(Answer::Revoked(true))] {
        let mut world = World { counts: Some(counted), ..World::new(options.clone()) };
        assert_answer(&world.signup(json!({})), 500, r#"{"error":"auth_unavailable"}"#);
        assert_eq!(world.asked, []);
    }

    // A mistake is not counted, and a double is not asked.
    let mut world = World { counts: Some(Err(database_fault())), ..World::new(options) };
    assert_eq!(world.signup(json!({"email": 5})).status, 400);
    for status in [201, 201, 429] {
        let call = VisitCall { is_double: true, ..call(Route::Signup, None, Body::Json(json!({}))) };
        assert_eq!(world.serve(call).status, status);
    }
    assert!(world.counts.is_some());
}

#[test]
fn an_account_column_that_cannot_hold_a_signup_is_the_servers_fault() {
    let error = Error::new(
        ErrorCode::InvalidAccountId,
        "Invalid account id: signup:... does not fit account_id, which is integer",
    );
    let response = World { creates: Some(error), ..World::new(open()) }.signup(json!({}));
    assert_answer(&response, 500, r#"{"error":"auth_unavailable"}"#);
    assert!(response.fault.unwrap().contains("does not fit account_id, which is integer"));
}

#[test]
fn a_signup_needs_no_key_and_looks_none_up() {
    let mut world = World { caller: Err(database_fault()), ..World::new(open()) };
    let response = world.serve(call(Route::Signup, Some("Bearer revoked"), Body::Json(json!({}))));
    assert_eq!(response.status, 201);
}

#[test]
fn signup_may_be_closed_and_open_without_a_limit_is_worth_a_warning() {
    let mut options = RouteOptions::default();
    assert!(options.opens_signup_unasked());
    options.signup = Some(true);
    assert!(!options.opens_signup_unasked());
    options.signup = None;
    options.signup_budget = Some(SignupBudget::new(5, None));
    assert!(!options.opens_signup_unasked());
    options.signup = Some(false);
    let routes = Routes::new(&options).unwrap();
    let (_, next) = routes.visit(VisitCall::new(Route::Signup, DateTime::UNIX_EPOCH));
    assert!(matches!(next, Next::Respond(response) if response.status == 404));
}
