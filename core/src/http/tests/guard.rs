//! The door before a handler: CONTRACT's table of answers, and the headers beside them.

use super::*;

fn decide(verdict: Verdict) -> Response {
    Guard::new().decide(verdict, now()).unwrap_err()
}

/// The response to a request with this header.
fn refused(guard: &Guard, authorization: Option<&str>) -> Response {
    match Exchange::with_guard(guard, authorization).1 {
        Next::Respond(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_refusal_has_its_status_its_body_and_its_challenge() {
    let response = refused(&Guard::new(), None);
    assert_answer(&response, 401, r#"{"error":"Missing API key"}"#);
    assert_eq!(response.header("WWW-Authenticate"), Some(r#"Bearer realm="agentkey""#));

    for (reason, body) in [
        (DenialReason::Invalid, r#"{"error":"invalid"}"#),
        (DenialReason::Revoked, r#"{"error":"revoked"}"#),
        (DenialReason::Disabled, r#"{"error":"disabled"}"#),
        (DenialReason::Expired, r#"{"error":"expired"}"#),
    ] {
        let response = decide(Err(denied(reason)));
        assert_answer(&response, 401, body);
        assert_eq!(
            response.header("WWW-Authenticate"),
            Some(r#"Bearer realm="agentkey", error="invalid_token""#)
        );
        assert_eq!(response.header("Retry-After"), None);
    }
    assert_answer(&decide(Err(exhausted(None))), 429, r#"{"error":"budget_exceeded"}"#);

    let guard = Guard::new().scope("write");
    let response = guard.decide(Ok(scoped(&["read", "x"])), now()).unwrap_err();
    assert_answer(
        &response,
        403,
        r#"{"error":"insufficient_scope","required":"write","available":["read","x"]}"#,
    );
    let challenge = r#"Bearer realm="agentkey", error="insufficient_scope", scope="write""#;
    assert_eq!(response.header("WWW-Authenticate"), Some(challenge));
}

#[test]
fn every_fault_fails_closed_and_says_nothing() {
    for code in ErrorCode::ALL {
        let error = Error::new(*code, "connection refused by 10.0.0.1");
        let (mut exchange, _) = Exchange::with_guard(&Guard::new(), Some("Bearer ak_1"));
        let Next::Respond(response) = exchange.answered(Err(error), now()) else { panic!("nobody passes") };
        assert_answer(&response, 500, r#"{"error":"auth_unavailable"}"#);
        assert_eq!(response.fault, Some(format!("{code}: connection refused by 10.0.0.1")));
    }
}

#[test]
fn who_may_pass_passes_with_the_grant() {
    for (caller, scope) in [
        (anything(), None),
        (scoped(&[]), None),
        (anything(), Some("write")),
        (scoped(&["read", "write"]), Some("write")),
        (scoped(&["admin"]), Some("write")),
    ] {
        let guard = scope.map_or_else(Guard::new, |scope| Guard::new().scope(scope));
        let pass = guard.decide(Ok(caller.clone()), now()).unwrap();
        assert_eq!((pass.grant, pass.headers), (caller, Vec::new()));
    }
    for scopes in [&[][..], &["read"], &["write:all"], &["Write"], &["writ", "e"]] {
        assert_eq!(Guard::new().scope("write").decide(Ok(scoped(scopes)), now()).unwrap_err().status, 403);
    }
}

#[test]
fn the_key_and_its_budget_come_before_the_scope() {
    let guard = Guard::new().scope("write");
    assert_eq!(guard.decide(Err(exhausted(None)), now()).unwrap_err().status, 429);
    assert_eq!(guard.decide(Err(denied(DenialReason::Revoked)), now()).unwrap_err().status, 401);
    assert_eq!(refused(&guard, Some("Basic x")).status, 401);
}

#[test]
fn an_exhausted_budget_says_when_to_come_back() {
    let retry_after = |resets_at| decide(Err(exhausted(resets_at))).header("Retry-After").map(str::to_owned);
    assert_eq!(retry_after(None), None);
    assert_eq!(retry_after(later(3600)).as_deref(), Some("3600"));
    assert_eq!(retry_after(Some(now() + TimeDelta::milliseconds(1001))).as_deref(), Some("2"));
    // Never 0, also if this clock is ahead of the database's.
    assert_eq!(retry_after(later(0)).as_deref(), Some("1"));
    assert_eq!(retry_after(later(-500)).as_deref(), Some("1"));
}

#[test]
fn a_challenge_is_always_a_legal_header() {
    let challenge = |scope: &str| {
        let response = Guard::new().scope(scope).decide(Ok(scoped(&[])), now()).unwrap_err();
        response
            .header("WWW-Authenticate")
            .unwrap()
            .strip_prefix("Bearer realm=\"agentkey\", ")
            .unwrap()
            .to_owned()
    };
    assert_eq!(challenge("a b"), r#"error="insufficient_scope", scope="a b""#);
    assert_eq!(challenge(r#"a"b\c"#), r#"error="insufficient_scope", scope="a\"b\\c""#);
    for unfit in ["", "é", "a\r\nSet-Cookie: x", "a\0", "\u{7f}", &"x".repeat(10_000)] {
        assert_eq!(challenge(unfit), r#"error="insufficient_scope""#, "{unfit:?}");
    }
}

#[test]
fn budget_headers_come_on_request_and_only_with_a_budget() {
    let headers = |period: Option<&str>, reset| {
        let caller = Grant {
            budget_remaining_cents: Some(30),
            budget_period: period.map(str::to_owned),
            budget_reset_at: reset,
            ..capped(500)
        };
        let pass = Guard::new().budget_headers(true).decide(Ok(caller), now()).unwrap();
        pass.headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    assert_eq!(
        headers(Some("day"), later(90)),
        [r#"RateLimit-Policy: "budget";q=500;w=86400"#, r#"RateLimit: "budget";r=30;t=90"#]
    );
    assert_eq!(headers(Some("hour"), later(-1))[0], r#"RateLimit-Policy: "budget";q=500;w=3600"#);
    assert_eq!(headers(Some("hour"), later(-1))[1], r#"RateLimit: "budget";r=30;t=0"#);
    assert_eq!(headers(Some("week"), None)[0], r#"RateLimit-Policy: "budget";q=500;w=604800"#);
    // A month has no fixed number of seconds, and a period of somebody else's none that we know.
    for period in [None, Some("month"), Some("year"), Some("fortnight")] {
        assert_eq!(
            headers(period, None),
            [r#"RateLimit-Policy: "budget";q=500"#, r#"RateLimit: "budget";r=30"#]
        );
    }
    let uncapped = Guard::new().budget_headers(true).decide(Ok(anything()), now()).unwrap();
    assert_eq!(uncapped.headers, []);
    let silent = Guard::new().decide(Ok(capped(5)), now()).unwrap();
    assert_eq!(silent.headers, []);
}

#[test]
fn only_two_statuses_say_that_a_budget_is_used_up() {
    for status in [0, 200, 401, 403, 500] {
        let error = Guard::new().exceeded_status(status).unwrap_err();
        assert!(error.message().contains("expected 402 or 429"), "{error}");
    }
}
