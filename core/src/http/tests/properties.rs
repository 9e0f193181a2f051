//! Whatever comes in: no panic, an answer of a known kind, and no child that may do more than its parent.

use proptest::prelude::*;

use super::*;

/// Values that a hostile or careless caller sends, near what is right and far from it.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0i64..200).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9]{0,6}(m|h|d|mo|)".prop_map(Value::from),
        prop::sample::select(vec!["", "read", "write", "admin", "day", "month", "24h", "a@b"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..3)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    let field =
        prop::sample::select(vec!["scopes", "budget_cents", "budget_period", "expires_in", "name", "email"]);
    let scopes = prop::collection::vec(prop::sample::select(vec!["read", "write", "admin"]), 0..3)
        .prop_map(|s| json!(s));
    let member = prop_oneof![value(), scopes];
    prop::collection::hash_map(field, member, 0..7)
        .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => Just(Body::Missing),
        1 => Just(Body::Unreadable),
        1 => value().prop_map(Body::Json),
        9 => object().prop_map(Body::Json),
    ]
}

fn caller() -> impl Strategy<Value = Grant> {
    let scopes = prop::option::of(prop::sample::subsequence(
        vec!["read".to_owned(), "write".to_owned(), "admin".to_owned()],
        0..=3,
    ));
    (scopes, prop::option::of(0i64..100), prop::option::of(0i64..1_000_000), any::<bool>()).prop_map(
        |(scopes, cap, end, account)| Grant {
            scopes,
            budget_cents: cap,
            expires_at: end.and_then(later),
            account_id: account.then(|| "acct".into()),
            ..anything()
        },
    )
}

fn assert_known(response: &Response) {
    assert!(matches!(response.status, 200 | 201 | 400 | 401 | 403 | 404 | 429), "{response:?}");
    assert!(serde_json::from_str::<Value>(&response.body).unwrap().is_object());
    for (name, value) in &response.headers {
        assert!(value.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{name}: {value}");
    }
}

proptest! {
    #[test]
    fn a_child_never_may_do_more_than_its_parent(caller in caller(), body in body()) {
        let mut world = World::of(caller.clone());
        assert_known(&world.serve(call(Route::Create, Some("Bearer ak_1"), body)));
        for asked in world.asked {
            let Asked::Create(NewKey { spec, .. }) = asked else { panic!("a creation") };
            prop_assert_eq!(spec.parent.clone(), Some(Parent::Caller(caller.id.to_string())));
            prop_assert_eq!(&spec.account_id, &caller.account_id);
            match &spec.scopes {
                None => prop_assert_eq!(&caller.scopes, &None),
                Some(scopes) => prop_assert!(scopes.iter().all(|scope| caller.has_scope(scope))),
            }
            if let Some(cap) = caller.budget_cents {
                prop_assert!((0..=cap).contains(&spec.budget_cents.unwrap()));
            }
            // By how much is for the database to say.
            prop_assert!(caller.expires_at.is_none() || spec.expires_in.is_some());
        }
    }

    #[test]
    fn a_signup_never_gets_more_than_is_offered(body in body(), email in any::<bool>()) {
        let options = RouteOptions {
            signup_scopes: list(&["read"]),
            require_email_for_signup: email,
            signup_budget: Some(SignupBudget { max_cents: 50, period: None }),
            ..RouteOptions::default()
        };
        let mut world = World::new(options);
        assert_known(&world.serve(call(Route::Signup, None, body)));
        for asked in world.asked {
            let Asked::Create(NewKey { spec, .. }) = asked else { panic!("a creation") };
            prop_assert!(spec.account_id.unwrap().to_string().starts_with("signup:"));
            prop_assert!(spec.scopes.unwrap().iter().all(|scope| scope == "read"));
            prop_assert!((0..=50).contains(&spec.budget_cents.unwrap()));
            prop_assert!(spec.expires_in.unwrap().as_secs() <= 365 * 86_400);
            prop_assert!(!email || spec.user_id.unwrap().contains('@'));
        }
    }

    #[test]
    fn no_path_id_or_header_panics(method in "(GET|POST|DELETE|\\PC*)", path in "(/sdk-keys/|/signup|)\\PC*", text in any::<String>()) {
        let _ = Route::of(&method, &path);
        let _ = Route::of("DELETE", &format!("/sdk-keys/{text}"));
        assert_known(&World::of(anything()).delete(&text));
        if let Next::Respond(response) = Guard::new().admission().start(Some(text.as_str())) {
            assert_known(&response);
        }
        let _ = Guard::new().scope(text.clone()).decide(Ok(scoped(&[])), now()).map_err(|response| assert_known(&response));
        let _ = super::super::double::verdict(&text);
        let _ = Price::read(Some(&text));
    }

    #[test]
    fn no_time_panics(at in any::<i64>(), now in any::<i64>()) {
        let (Some(at), Some(now)) = (DateTime::from_timestamp_micros(at), DateTime::from_timestamp_micros(now)) else { return Ok(()) };
        let caller = Grant { expires_at: Some(at), budget_reset_at: Some(at), ..capped(5) };
        let guard = Guard::new().budget_headers(true);
        assert!(guard.decide(Ok(caller.clone()), now).is_ok());
        assert_known(&guard.decide(Err(exhausted(Some(at))), now).unwrap_err());
        let routes = Routes::new(&RouteOptions {
            signup_rate_limit: Some(RateLimit { max: 1, window_seconds: u32::MAX }),
            require_email_for_signup: false,
            ..RouteOptions::default()
        }).unwrap();
        for now in [at, now, at] {
            let _ = routes.visit(VisitCall { now, ..call(Route::Signup, None, Body::Json(json!({}))) });
        }
        let _ = Answer::Validated(Ok(caller.clone())).json(true);
        for duration in ["365000d", "0h"] {
            let call = call(Route::Create, Some("Bearer ak_1"), Body::Json(json!({"expires_in": duration, "budget_cents": 1})));
            let (mut visit, _) = routes.visit(call);
            let _ = visit.answered(Ok(Answer::Validated(Ok(caller.clone()))), now);
        }
    }
}
