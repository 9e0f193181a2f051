//! Clerk's tokens as credentials.

use super::*;
use crate::engine::Answer;

fn known(subject: Option<&str>, revoked: bool, expired: bool) -> Verification {
    Verification::Known { subject: subject.map(str::to_owned), revoked, expired }
}

/// A request whose token Clerk is to verify.
fn presented(clerk: Clerk) -> Exchange {
    let (exchange, next) = Exchange::with_guard(&Guard::new().clerk(clerk), Some("bearer  mt_1"));
    assert!(matches!(next, Next::Verify(token) if token.expose() == "mt_1"));
    exchange
}

fn response(next: Next) -> Response {
    match next {
        Next::Respond(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_token_is_named_as_what_it_is() {
    for (clerk, body) in
        [(Clerk::M2m, r#"{"error":"Missing M2M token"}"#), (Clerk::ApiKey, r#"{"error":"Missing API key"}"#)]
    {
        for header in [None, Some("Basic x"), Some("Bearer ")] {
            let (_, next) = Exchange::with_guard(&Guard::new().clerk(clerk), header);
            assert_answer(&response(next), 401, body);
        }
    }
}

#[test]
fn only_a_live_credential_has_a_subject() {
    for (clerk, body) in
        [(Clerk::M2m, r#"{"error":"invalid_token"}"#), (Clerk::ApiKey, r#"{"error":"invalid_key"}"#)]
    {
        let next = presented(clerk).verified(known(Some("mch_1"), false, false));
        assert!(matches!(next, Next::Call(Call::Validate(Caller::Subject(subject))) if subject == "mch_1"));
        let failed = |status| Verification::Failed { status, message: "not found".to_owned() };
        for refused in [
            known(Some("mch_1"), true, false),
            known(Some("mch_1"), false, true),
            known(Some("mch_1"), true, true),
            known(None, false, false),
            known(Some(""), false, false),
            failed(Some(400)),
            failed(Some(401)),
            failed(Some(403)),
            failed(Some(404)),
            failed(Some(410)),
            failed(Some(422)),
        ] {
            let response = response(presented(clerk).verified(refused));
            assert_answer(&response, 401, body);
            assert!(response.header("WWW-Authenticate").unwrap().ends_with(r#"error="invalid_token""#));
        }
        // Clerk is down, busy, or cannot be reached: that says nothing of the token.
        for status in [None, Some(408), Some(429), Some(500), Some(503)] {
            let response = response(presented(clerk).verified(failed(status)));
            assert_answer(&response, 500, r#"{"error":"auth_unavailable"}"#);
            assert!(response.fault.unwrap().contains("Clerk"));
        }
    }
}

#[test]
fn a_subject_gets_its_row_when_it_is_first_seen_and_only_then() {
    let unknown = || Ok(Answer::Validated(Err(Denial::invalid())));
    let mut exchange = presented(Clerk::M2m);
    let _ = exchange.verified(known(Some("mch_1"), false, false));
    let next = exchange.answered(unknown(), now());
    assert!(matches!(next, Next::Call(Call::EnsureSubject(subject)) if subject == "mch_1"));
    let next = exchange.told(Ok("null"), now());
    assert!(matches!(next, Next::Call(Call::Validate(Caller::Subject(_)))));
    let next = exchange.answered(Ok(Answer::Validated(Ok(anything()))), now());
    assert!(matches!(next, Next::Pass(pass) if pass.grant == anything()));

    // Once: a row that is not there after it was made is no reason to make it again.
    let mut exchange = presented(Clerk::M2m);
    let _ = exchange.verified(known(Some("mch_1"), false, false));
    let _ = exchange.answered(unknown(), now());
    let _ = exchange.told(Ok("null"), now());
    assert_answer(&response(exchange.answered(unknown(), now())), 401, r#"{"error":"invalid"}"#);

    // A row that is revoked must not come back to life.
    for reason in DenialReason::ALL.iter().filter(|reason| **reason != DenialReason::Invalid) {
        let mut exchange = presented(Clerk::M2m);
        let _ = exchange.verified(known(Some("mch_1"), false, false));
        let next = exchange.answered(Ok(Answer::Validated(Err(denied(*reason)))), now());
        assert!(matches!(next, Next::Respond(_)), "{reason}");
    }

    let mut exchange = presented(Clerk::M2m);
    let _ = exchange.verified(known(Some("mch_1"), false, false));
    let _ = exchange.answered(unknown(), now());
    let failed = exchange.told(Err(Error::new(ErrorCode::InvalidScopes, "Invalid scopes: x")), now());
    assert_answer(&response(failed), 500, r#"{"error":"auth_unavailable"}"#);
}
