//! The doors for Clerk's tokens.

use super::*;

fn known(subject: Option<&str>, revoked: bool, expired: bool) -> Verification {
    Verification::Known { subject: subject.map(str::to_owned), revoked, expired }
}

#[test]
fn a_missing_token_is_named_as_what_it_is() {
    for (door, body) in
        [(Clerk::M2m, r#"{"error":"Missing M2M token"}"#), (Clerk::ApiKey, r#"{"error":"Missing API key"}"#)]
    {
        for header in [None, Some("Basic x"), Some("Bearer ")] {
            assert_answer(&door.begin(header).unwrap_err(), 401, body);
        }
        assert_eq!(door.begin(Some("bearer  mt_1")).unwrap().expose(), "mt_1");
    }
}

#[test]
fn only_a_live_credential_has_a_subject() {
    for (door, body) in
        [(Clerk::M2m, r#"{"error":"invalid_token"}"#), (Clerk::ApiKey, r#"{"error":"invalid_key"}"#)]
    {
        assert_eq!(door.subject(known(Some("mch_1"), false, false)).unwrap(), "mch_1");
        let failed = |status| Verification::Failed { status, message: "not found".to_owned() };
        for refused in [
            known(Some("mch_1"), true, false),
            known(Some("mch_1"), false, true),
            known(Some("mch_1"), true, true),
            known(None, false, false),
            known(Some(""), false, false),
            failed(None),
            failed(Some(400)),
            failed(Some(404)),
            failed(Some(422)),
        ] {
            let response = door.subject(refused).unwrap_err();
            assert_answer(&response, 401, body);
            assert!(response.header("WWW-Authenticate").unwrap().ends_with(r#"error="invalid_token""#));
        }
        for status in [401, 403, 408, 429, 500, 503] {
            let response = door.subject(failed(Some(status))).unwrap_err();
            assert_answer(&response, 500, r#"{"error":"auth_unavailable"}"#);
            assert!(response.fault.unwrap().contains(&format!("Clerk answered {status}")));
        }
    }
}

#[test]
fn a_subject_gets_its_row_when_it_is_first_seen_and_then_the_guard_decides() {
    assert!(Clerk::needs_row(&Err(Denial::invalid())));
    assert!(!Clerk::needs_row(&Ok(anything())));
    for reason in DenialReason::ALL.iter().filter(|reason| **reason != DenialReason::Invalid) {
        assert!(
            !Clerk::needs_row(&Err(denied(*reason))),
            "a row that is {reason} must not come back to life"
        );
    }
    let error = Error::new(ErrorCode::InvalidScopes, "Invalid scopes: x");
    assert_answer(&Clerk::row_failed(&error), 500, r#"{"error":"auth_unavailable"}"#);
}
