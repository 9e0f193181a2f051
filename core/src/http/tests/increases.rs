//! More budget over HTTP: who may ask, see and decide, and what they are answered.

use std::time::Duration;

use super::*;
use crate::engine::{
    Increase, IncreaseDecision, IncreaseFilter, IncreaseOutcome, IncreaseRecorded, IncreaseRefusal,
    IncreaseRefusalReason, IncreaseRequest, IncreaseState,
};

fn increase(state: IncreaseState) -> Increase {
    Increase {
        id: 3,
        key_id: KeyId::Integer(8),
        account_id: None,
        state,
        cents: 500,
        reason: None,
        for_seconds: 60,
        requested_at: now(),
        decided_at: None,
        decided_by: None,
        decided_by_key_id: None,
        granted_cents: None,
        granted_until: None,
    }
}

fn recorded(replayed: bool) -> Answer {
    let request = increase(IncreaseState::Pending);
    Answer::IncreaseRequested(Box::new(Ok(IncreaseRecorded { request, replayed })))
}

fn refused(reason: IncreaseRefusalReason, request: Option<Increase>) -> Box<IncreaseOutcome> {
    Box::new(Err(IncreaseRefusal { reason, request, limit_key_id: None }))
}

impl World {
    fn visit(&mut self, route: Route, body: Body, answer: Result<Answer, Error>) -> Response {
        self.increase = Some(answer);
        self.serve(call(route, Some("Bearer ak_1"), body))
    }

    fn ask(&mut self, body: Value, answer: Answer) -> Response {
        self.visit(Route::RequestIncrease, Body::Json(body), Ok(answer))
    }

    fn decide(&mut self, id: &str, body: Value, outcome: impl Into<Box<IncreaseOutcome>>) -> Response {
        let answer = Answer::IncreaseDecided(outcome.into());
        self.visit(Route::DecideIncrease { id: id.to_owned() }, Body::Json(body), Ok(answer))
    }
}

#[test]
fn paths_lead_to_them() {
    let list = |query: &str| Route::ListIncreases { query: query.to_owned() };
    let decide = |id: &str| Route::DecideIncrease { id: id.to_owned() };
    for (method, path, route) in [
        ("POST", "/sdk-keys/increases", Route::RequestIncrease),
        ("POST", "/sdk-keys/Increases/", Route::RequestIncrease),
        ("GET", "/sdk-keys/increases", list("")),
        ("HEAD", "/sdk-keys/increases?state=pending&limit=3", list("state=pending&limit=3")),
        ("POST", "/sdk-keys/increases/3", decide("3")),
        ("GET", "/sdk-keys/increases/3", Route::Unknown),
        ("POST", "/sdk-keys/increases/3/4", Route::Unknown),
        ("PUT", "/sdk-keys/increases", Route::Unknown),
        ("DELETE", "/sdk-keys/increases", Route::Delete { id: "increases".to_owned() }),
        ("POST", "/sdk-keys/others/3", Route::Unknown),
    ] {
        assert_eq!(Route::of(method, path), route, "{method} {path}");
    }
}

#[test]
fn a_key_that_has_spent_all_asks_for_itself() {
    let mut world = World::of_denied(exhausted(None));
    let body = json!({ "cents": 500, "for": "2h", "reason": "more", "idempotency_key": "i", "key": "other" });
    let response = world.ask(body, recorded(false));
    assert_eq!(response.status, 201);
    let answered: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!((&answered["id"], &answered["state"]), (&json!(3), &json!("pending")));
    let asked = IncreaseRequest::new(500, Duration::from_secs(7200)).reason("more").idempotency_key("i");
    assert_eq!(world.asked, [Asked::Increase(Call::RequestIncrease(KeyId::Integer(7), asked))]);
    assert_eq!(world.ask(json!({ "cents": 500, "for": 7200 }), recorded(true)).status, 200);

    let outcome = Answer::IncreaseRequested;
    let pending = refused(IncreaseRefusalReason::AlreadyPending, Some(increase(IncreaseState::Pending)));
    let response = world.ask(json!({ "cents": 5, "for": 60 }), outcome(pending));
    assert_eq!((response.status, error_of(&response).as_str()), (409, "already_pending"));
    let response =
        world.ask(json!({ "cents": 5, "for": 60 }), outcome(refused(IncreaseRefusalReason::NoBudget, None)));
    assert_answer(&response, 409, r#"{"error":"no_budget"}"#);
    let response =
        world.ask(json!({ "cents": 5, "for": 60 }), outcome(refused(IncreaseRefusalReason::Revoked, None)));
    assert_answer(&response, 401, r#"{"error":"revoked"}"#);
}

#[test]
fn what_cannot_be_asked_for_is_a_bad_request() {
    for (body, error) in [
        (json!({}), "cents is required"),
        (json!({ "cents": 5 }), "for is required"),
        (json!({ "cents": "5", "for": 60 }), "cents must be a whole number from 0 to 4000000000000"),
        (
            json!({ "cents": 5, "for": -1 }),
            "for must be a whole number of seconds, or a string such as \"2h\"",
        ),
        (json!({ "cents": 5, "for": "soon" }), "Invalid duration: soon"),
        (json!({ "cents": 5, "for": 60, "reason": 7 }), "reason must be a string"),
    ] {
        let mut world = World::of(anything());
        let response = world.ask(body, recorded(false));
        assert_eq!((response.status, error_of(&response).as_str()), (400, error));
        assert_eq!(world.asked, []);
    }
    let error = Error::new(ErrorCode::InvalidBudget, "Invalid cents: 0");
    let body = Body::Json(json!({ "cents": 0, "for": 60 }));
    let response = World::of(anything()).visit(Route::RequestIncrease, body, Err(error));
    assert_answer(&response, 400, r#"{"error":"Invalid cents: 0"}"#);
    let body = Body::Json(json!({ "cents": 1, "for": 60 }));
    assert_eq!(World::of(anything()).visit(Route::RequestIncrease, body, Err(database_fault())).status, 500);
}

#[test]
fn a_caller_sees_its_own_requests_and_those_below_it() {
    let mut world = World::of(scoped(&["read"]));
    let list = |query: &str| Route::ListIncreases { query: query.to_owned() };
    let answer = || Ok(Answer::Increases(vec![increase(IncreaseState::Pending)]));
    let response = world.visit(list("state=pending&before=9&limit=2&within=1"), Body::Missing, answer());
    assert_eq!(response.status, 200);
    let filter = IncreaseFilter::new().state(IncreaseState::Pending).before(9).limit(2).within(7);
    assert_eq!(world.asked, [Asked::Increase(Call::ListIncreases(filter))]);
    for query in ["state=open", "before=x", "limit=-1"] {
        assert_eq!(world.visit(list(query), Body::Missing, answer()).status, 400, "{query}");
    }
}

#[test]
fn who_has_admin_decides_in_the_name_of_its_key() {
    let yes = json!({ "approve": true, "cents": 300, "expires_in": "1h", "by": "somebody else" });
    let stands = Ok(IncreaseRecorded { request: increase(IncreaseState::Approved), replayed: false });
    for caller in [anything(), scoped(&["admin"])] {
        let mut world = World::of(caller);
        assert_eq!(world.decide("3", yes.clone(), stands.clone()).status, 200);
        let decision =
            IncreaseDecision::approve("key 7").cents(300).expires_in(Duration::from_secs(3600)).decider(7);
        assert_eq!(world.asked, [Asked::Increase(Call::DecideIncrease(3, decision))]);
    }
    let mut world = World::of(scoped(&["read"]));
    let response = world.decide("3", yes.clone(), stands.clone());
    assert_eq!(
        (response.status, response.body.as_str()),
        (403, r#"{"error":"insufficient_scope","required":"admin","available":["read"]}"#)
    );
    assert_eq!(world.asked, []);

    let mut world = World::of(anything());
    for (id, body, status) in
        [("x", yes.clone(), 404), ("3", json!({}), 400), ("3", json!({ "approve": "yes" }), 400)]
    {
        assert_eq!(world.decide(id, body, stands.clone()).status, status);
    }
    assert_eq!(world.asked, []);
    let unknown = refused(IncreaseRefusalReason::UnknownRequest, None);
    assert_answer(&world.decide("3", yes.clone(), unknown), 404, r#"{"error":"Request not found"}"#);
    for reason in [IncreaseRefusalReason::AlreadyDecided, IncreaseRefusalReason::Revoked] {
        let response = world.decide("3", yes.clone(), refused(reason, Some(increase(IncreaseState::Denied))));
        assert_eq!((response.status, error_of(&response).as_str()), (409, reason.as_str()));
    }
}

#[test]
fn a_double_has_no_such_routes() {
    let mut world = World::of(anything());
    let body = Body::Json(json!({ "cents": 5, "for": 60 }));
    let visit = VisitCall { is_double: true, ..call(Route::RequestIncrease, Some("Bearer ak_1"), body) };
    assert_answer(&world.serve(visit), 404, r#"{"error":"Not found"}"#);
}
