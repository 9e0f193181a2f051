//! The routes for the keys below a caller's: who may do what, and never more than by making a key.

use super::*;
use crate::budget::money::Balance;
use crate::budget::reservation::ReservationId;
use crate::key::explanation::{Hold, Holds};

/// A key of this id below key 7, in the same account.
fn child(id: i64) -> KeyRecord {
    KeyRecord {
        grant: Grant { id: id.into(), ..anything() },
        reason: None,
        key_prefix: "ak_12345678".to_owned(),
        parent_id: Some(7.into()),
        external_subject: None,
        created_at: None,
        last_used_at: None,
        disabled_at: None,
        revoked_at: None,
        previous_expires_at: None,
        budget_boost_cents: None,
        budget_boost_until: None,
        metadata: Some(json!({ "plan": "secret" })),
        ancestors: vec![7.into()],
        limits: Vec::new(),
    }
}

fn with_scopes(scopes: Option<Vec<String>>) -> KeyRecord {
    let key = child(8);
    KeyRecord { grant: Grant { scopes, ..key.grant.clone() }, ..key }
}

fn managing(caller: Grant, keys: Vec<KeyRecord>) -> World {
    let options = RouteOptions { manage: true, ..RouteOptions::default() };
    World { caller: Ok(Ok(caller)), keys, ..World::new(options) }
}

impl World {
    fn list(&mut self, query: &str) -> Response {
        self.serve(call(Route::List { query: query.to_owned() }, Some("Bearer ak_1"), Body::Missing))
    }

    fn update(&mut self, id: &str, body: Value) -> Response {
        self.serve(call(Route::Update { id: id.to_owned() }, Some("Bearer ak_1"), Body::Json(body)))
    }

    fn rotate(&mut self, id: &str, body: Body) -> Response {
        self.serve(call(Route::Rotate { id: id.to_owned() }, Some("Bearer ak_1"), body))
    }

    fn enable(&mut self, id: &str) -> Response {
        self.serve(call(Route::Enable { id: id.to_owned() }, Some("Bearer ak_1"), Body::Missing))
    }

    fn disable(&mut self, id: &str) -> Response {
        self.serve(call(Route::Disable { id: id.to_owned() }, Some("Bearer ak_1"), Body::Missing))
    }

    /// The answers of all that change a key.
    fn every_change(&mut self, id: &str) -> [Response; 4] {
        let update = self.update(id, json!({ "name": "x" }));
        [update, self.rotate(id, Body::Missing), self.disable(id), self.enable(id)]
    }
}

#[test]
fn without_the_option_they_are_not_there() {
    let mut world = World { keys: vec![child(8)], ..World::of(anything()) };
    for response in world.every_change("8").iter().chain([&world.list("")]) {
        assert_answer(response, 404, r#"{"error":"Not found"}"#);
    }
    assert_eq!(world.asked, []);
}

#[test]
fn only_descendants_of_the_same_account_are_managed() {
    let of_account = |account: Option<AccountId>| {
        let key = child(8);
        KeyRecord { grant: Grant { account_id: account, ..key.grant.clone() }, ..key }
    };
    let below = |ancestors: Vec<KeyId>| KeyRecord { ancestors, ..child(8) };
    let cases = [
        ("a child", child(8), 200),
        ("a grandchild", below(vec![9.into(), 7.into()]), 200),
        ("a sibling", below(vec![3.into()]), 404),
        ("a key of its own", below(Vec::new()), 404),
        ("an id that only begins like the caller's", below(vec![77.into()]), 404),
        ("a child of another account", of_account(Some("other".into())), 404),
        ("a child of no account", of_account(None), 404),
    ];
    for (what, key, status) in cases {
        for caller in [anything(), scoped(&["admin"])] {
            let mut world = managing(caller, vec![key.clone()]);
            let answers = world.every_change("8").map(|response| response.status);
            let created = if status == 200 { 201 } else { status };
            assert_eq!(answers, [status, created, status, status], "{what}");
            assert_eq!(world.asked.len(), if status == 200 { 4 } else { 0 }, "{what}");
        }
    }
    // Neither the caller itself nor its parent.
    let own = KeyRecord { grant: anything(), ancestors: vec![3.into()], ..child(7) };
    let parent = KeyRecord { ancestors: Vec::new(), ..child(3) };
    let mut world = managing(anything(), vec![own, parent]);
    for id in ["7", "3", "07", " 7", "me", "", "7\0", &"7".repeat(300)] {
        for response in world.every_change(id) {
            assert!(matches!(response.status, 400 | 404), "{id:?}: {response:?}");
        }
    }
    assert_eq!(world.asked, []);
}

#[test]
fn who_has_spent_all_protects_but_gives_nothing_more() {
    let world = managing(anything(), vec![child(8)]);
    let mut world = World { caller: Ok(Err(exhausted(later(60)))), ..world };
    let answers = world.every_change("8").map(|response| response.status);
    assert_eq!(answers, [429, 403, 200, 429], "a rotation is refused for the scopes alone");
    assert_eq!(world.list("").status, 200);
    for reason in [DenialReason::Expired, DenialReason::Revoked, DenialReason::Disabled] {
        world.caller = Ok(Err(denied(reason)));
        assert!(world.every_change("8").iter().all(|response| response.status == 401));
        assert_eq!(world.list("").status, 401);
    }
}

#[test]
fn a_change_never_passes_the_callers_own_bounds() {
    let caller = Grant { expires_at: later(3600), scopes: list(&["read", "write"]), ..capped(100) };
    for (body, status) in [
        (json!({ "scopes": ["read"] }), 200),
        (json!({ "scopes": ["read", "admin"] }), 403),
        (json!({ "budget_cents": 100 }), 200),
        (json!({ "budget_cents": 101 }), 403),
        (json!({ "budget_cents": null }), 403),
        (json!({ "expires_in": "1h" }), 200),
        (json!({ "expires_in": null }), 403),
        (json!({ "expires_in": "" }), 403),
        (json!({ "expires_in": "1y" }), 400),
        (json!({ "budget_period": "day" }), 200),
        (json!({ "budget_period": "daily" }), 400),
        (json!({ "budget_period": null }), 200),
        (json!({ "name": "n" }), 200),
        (json!({ "name": null }), 400),
        (json!({ "budget_cents": -1 }), 400),
        (json!({ "budgetCents": 1 }), 400),
        (json!({ "metadata": {} }), 400),
        (json!({ "disabled": false }), 400),
        (json!({ "name": "n", "account_id": "other" }), 400),
        (json!({}), 400),
        (json!([]), 400),
    ] {
        let mut world = managing(caller.clone(), vec![child(8)]);
        assert_eq!(world.update("8", body.clone()).status, status, "{body}");
        assert_eq!(world.asked.len(), usize::from(status == 200), "{body}");
    }
    // Scopes that are not named are the caller's own, not those of whoever is above.
    let mut world = managing(caller, vec![child(8)]);
    assert_eq!(world.update("8", json!({ "scopes": null })).status, 200);
    let expected = KeyUpdate::new().scopes(["read", "write"]);
    assert_eq!(world.asked, [Asked::Update(8.into(), expected)]);

    // What the database finds beyond the bounds of the key's own parent.
    let outlives =
        Error::new(ErrorCode::InvalidDuration, "Invalid duration: the key would outlive its parent");
    let mut world = World { changes: Some(outlives), ..managing(anything(), vec![child(8)]) };
    assert_eq!(world.update("8", json!({ "expires_in": "9d" })).status, 403);
    world.changes = Some(database_fault());
    assert_answer(&world.update("8", json!({ "name": "x" })), 500, r#"{"error":"auth_unavailable"}"#);
}

#[test]
fn the_secret_of_a_key_that_may_do_more_is_not_given_out() {
    for (caller, key, status) in [
        (list(&["read"]), list(&["read"]), 201),
        (list(&["read"]), list(&[]), 201),
        (list(&["read"]), list(&["read", "write"]), 403),
        (list(&["read"]), None, 403),
        (list(&["admin"]), None, 201),
        (None, None, 201),
        (list(&[]), list(&["admin"]), 403),
    ] {
        let grant = Grant { scopes: caller.clone(), ..anything() };
        let mut world = managing(grant, vec![with_scopes(key.clone())]);
        let response = world.rotate("8", Body::Missing);
        assert_eq!(response.status, status, "{caller:?} {key:?}");
        assert_eq!(world.asked.len(), usize::from(status == 201));
    }
    let mut world = managing(anything(), vec![child(8)]);
    let response = world.rotate("8", Body::Json(json!({ "grace": "0s", "idempotency_key": "k" })));
    assert_eq!(response.status, 201);
    assert!(response.body.contains("ak_rotated") && !format!("{response:?}").contains("ak_rotated"));
    let rotate = Rotate::new().grace(std::time::Duration::ZERO).idempotency_key("k");
    assert_eq!(world.asked, [Asked::Rotate(8.into(), rotate)]);
    for body in [
        json!({ "grace": "x" }),
        json!({ "grace": 1 }),
        json!({ "idempotency_key": "" }),
        json!({ "key": "k" }),
    ] {
        assert_eq!(world.rotate("8", Body::Json(body.clone())).status, 400, "{body}");
    }
    world.refuses = Some(RotateRefusal::IdempotencyConflict);
    assert_answer(&world.rotate("8", Body::Missing), 409, r#"{"error":"idempotency_conflict"}"#);
    world.refuses = Some(RotateRefusal::InvalidKey);
    assert_answer(&world.rotate("8", Body::Missing), 404, r#"{"error":"Key not found"}"#);
}

#[test]
fn a_revoked_key_is_not_changed_any_more() {
    let mut world = managing(anything(), vec![KeyRecord { revoked_at: later(0), ..child(8) }]);
    for response in world.every_change("8") {
        assert_answer(&response, 409, r#"{"error":"revoked"}"#);
    }
    assert_eq!(world.asked, []);
}

#[test]
fn a_list_shows_what_is_managed_and_nothing_that_the_application_keeps() {
    let others = KeyRecord { ancestors: vec![3.into()], ..child(9) };
    let mut world = managing(anything(), vec![child(8), others]);
    let response = world.list("limit=2&state=live&after=%37&over_share=0.5&scope=a+b");
    let body: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!((body["keys"].as_array().unwrap().len(), &body["keys"][0]["id"]), (1, &json!(8)));
    assert_eq!(body["next"], Value::Null, "nothing is told of keys of others");
    assert!(!response.body.contains("secret"));
    let Some(Asked::List(filter)) = world.asked.first() else { panic!("{:?}", world.asked) };
    let expected = KeyFilter::new().parent(7).account_id("acct").limit(2).after("7").over_share(0.5);
    assert_eq!(*filter, expected.state(crate::key::record::KeyState::Live).scope("a b"));

    world.keys.truncate(1);
    let full: Value = serde_json::from_str(&world.list("limit=1").body).unwrap();
    assert_eq!(full["next"], json!(8));
    world.asked.clear();
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1&limit=2",
        "state=alive",
        "over_share=2",
        "over_share=NaN",
        "scope=",
        "parent=",
        "after=%00",
        "account_id=other",
        "metadata={}",
        "page=2",
    ] {
        assert_eq!(world.list(query).status, 400, "{query}");
    }
    assert_eq!(world.asked, []);
}

#[test]
fn a_double_is_not_asked_for_what_it_cannot_do() {
    let world = managing(anything(), vec![child(8)]);
    let visit = VisitCall {
        is_double: true,
        ..call(Route::Enable { id: "8".to_owned() }, Some("Bearer ak_1"), Body::Missing)
    };
    let (mut exchange, _) = Exchange::with_routes(&world.routes, visit);
    let next = exchange.told(Ok(r#"{"valid":true,"id":7,"accountId":"acct"}"#), now());
    let Next::Respond(response) = next else { panic!("{next:?}") };
    assert_eq!(response.status, 500);
    assert!(response.fault.unwrap().contains("double"));
}

#[test]
fn a_child_learns_how_much_is_held_above_it_but_not_by_whom() {
    let hold = |id: &str, key_id: i64| Hold {
        reservation_id: ReservationId::parse(id).unwrap(),
        key_id: key_id.into(),
        amount_microcents: 5_000_000,
        created_at: now(),
        expires_at: now(),
        expired: true,
    };
    let (mine, of_sibling) = ("3a0e8c8e-5f0a-4f7a-9d38-5c2f0a9d1c01", "3a0e8c8e-5f0a-4f7a-9d38-5c2f0a9d1c02");
    let limit = |key_id: i64, name: &str, cents: i64, oldest: Vec<Hold>| ExplainedLimit {
        key_id: Some(key_id.into()),
        name: Some(name.to_owned()),
        reason: None,
        budget_cents: Some(cents),
        budget_period: None,
        when_exceeded: None,
        balance: Balance::new(Some(cents), 0, 5_000_000 * oldest.len() as i64),
        resets_at: None,
        boost_cents: None,
        boost_until: None,
        holds: Holds {
            count: oldest.len() as i64,
            amount_microcents: 5_000_000 * oldest.len() as i64,
            recoverable_microcents: 0,
            oldest,
        },
        room_microcents: 1_000_000 * cents,
    };
    let limits = vec![
        limit(7, "mine", 50, vec![hold(mine, 8)]),
        limit(3, "the board's own", 0, vec![hold(of_sibling, 9), hold(mine, 8)]),
    ];
    let mut world = World { limits, ..World::of(anything()) };
    let response = world.me();
    let me: Value = serde_json::from_str(&response.body).unwrap();
    let explanation = &me["explanation"];
    assert_eq!(
        (&explanation["reason"], &explanation["limitKeyId"]),
        (&json!("budget_exceeded"), &Value::Null)
    );
    let [above, own] = explanation["limits"].as_array().unwrap().as_slice() else { panic!("{me}") };
    assert_eq!((&above["own"], &above["keyId"], &above["name"]), (&json!(false), &Value::Null, &Value::Null));
    assert_eq!((&above["budgetCents"], &above["holds"]["count"]), (&json!(0), &json!(2)));
    let [theirs, ours] = above["holds"]["oldest"].as_array().unwrap().as_slice() else { panic!("{me}") };
    assert_eq!((&theirs["reservationId"], &theirs["keyId"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&theirs["amountCents"], &ours["reservationId"], &ours["keyId"]),
        (&json!(5), &json!(mine), &json!(8))
    );
    assert_eq!((&own["own"], &own["keyId"], &own["name"]), (&json!(true), &json!(7), &json!("mine")));
    for hidden in ["board", of_sibling, "\"keyId\":9", "\"keyId\":3"] {
        assert!(!response.body.contains(hidden), "{hidden}");
    }
}
