//! Events out of turn, in every state: nobody passes by one, and nobody passes twice.

use super::*;
use crate::budget::money::Cost;
use crate::budget::reservation::ReservationId;
use crate::engine::Reservation;

fn held() -> Answer {
    Answer::Reserved(Ok(Reservation {
        id: ReservationId::parse("0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f").unwrap(),
        expires_at: later(600).unwrap(),
        balance: Default::default(),
        replayed: false,
        grant: Box::new(anything()),
    }))
}

/// What a door reports, by name.
type Event = (&'static str, fn(&mut Exchange) -> Next);

/// Everything that a door can report.
const EVENTS: [Event; 9] = [
    ("verified", |exchange| {
        let subject = Some("robot".to_owned());
        exchange.verified(Verification::Known { subject, revoked: false, expired: false })
    }),
    ("estimated", |exchange| exchange.estimated(Price::Amount(Cost::cents(60)))),
    ("validated", |exchange| exchange.answered(Ok(Answer::Validated(Ok(anything()))), now())),
    ("unknown", |exchange| exchange.answered(Ok(Answer::Validated(Err(Denial::invalid()))), now())),
    ("held", |exchange| exchange.answered(Ok(held()), now())),
    ("ensured", |exchange| exchange.answered(Ok(Answer::SubjectEnsured), now())),
    ("ended", |exchange| exchange.ended(Ending::sent(200))),
    ("priced", |exchange| exchange.priced(Price::Amount(Cost::cents(7)))),
    ("settled", |exchange| exchange.answered(Ok(Answer::Released(Ok(true))), now())),
];

fn tell(exchange: &mut Exchange, name: &str) -> Next {
    let (_, event) = EVENTS.into_iter().find(|(known, _)| *known == name).unwrap();
    event(exchange)
}

/// An exchange to which this was reported.
fn after(guard: &Guard, told: &[&str]) -> Exchange {
    let (mut exchange, _) = Exchange::with_guard(guard, Some("Bearer ak_1"));
    for name in told {
        let _ = tell(&mut exchange, name);
    }
    exchange
}

#[test]
fn an_event_out_of_turn_lets_nobody_pass_in_any_state() {
    let plain = Guard::new().prices(true);
    let holding = plain.clone().holds(true);
    let clerk = Guard::new().clerk(Clerk::M2m);
    let double = holding.clone().double(true);
    // The guard, what was reported, and what may be reported next.
    let states: [(&Guard, &[&str], &[&str]); 10] = [
        (&clerk, &[], &["verified"]),
        (&holding, &[], &["estimated"]),
        (&plain, &[], &["validated", "unknown", "held"]),
        (&holding, &["estimated"], &["validated", "unknown", "held"]),
        (&double, &["estimated", "validated"], &["held"]),
        (&clerk, &["verified", "unknown"], &["ensured", "validated", "unknown", "held", "settled"]),
        (&plain, &["validated"], &["ended"]),
        (&plain, &["validated", "ended"], &["priced"]),
        (&plain, &["validated", "ended", "priced"], &["validated", "unknown", "held", "ensured", "settled"]),
        (&plain, &["validated", "ended", "priced", "settled"], &[]),
    ];
    for (guard, told, in_turn) in states {
        for (name, event) in EVENTS.into_iter().filter(|(name, _)| !in_turn.contains(name)) {
            let mut exchange = after(guard, told);
            let next = event(&mut exchange);
            let Next::Respond(response) = next else { panic!("{told:?}, {name}: {next:?}") };
            assert_answer(&response, 500, r#"{"error":"auth_unavailable"}"#);
            assert!(response.fault.unwrap().contains("out of turn"));
            // It is over, whatever comes.
            for (_, event) in EVENTS {
                let next = event(&mut exchange);
                assert!(matches!(&next, Next::Respond(response) if response.status == 500), "{next:?}");
            }
        }
    }
}

#[test]
fn a_request_passes_once() {
    for guard in [Guard::new(), Guard::new().prices(true), Guard::new().holds(true)] {
        for (name, event) in EVENTS {
            let told: &[&str] = if guard == Guard::new().holds(true) { &["estimated"] } else { &[] };
            let mut exchange = after(&guard, told);
            assert!(matches!(tell(&mut exchange, "held"), Next::Pass(_)));
            for _ in 0..4 {
                let next = event(&mut exchange);
                assert!(!matches!(next, Next::Pass(_)), "{name}");
            }
        }
    }
}

#[test]
fn an_answer_that_nobody_waits_for_lets_nobody_pass() {
    let (mut exchange, next) = Exchange::with_guard(&Guard::new().holds(true), Some("Bearer ak_1"));
    assert!(matches!(next, Next::Estimate));
    let next = exchange.told(Ok(r#"{"valid":true,"id":7}"#), now());
    assert!(matches!(next, Next::Respond(response) if response.status == 500));

    let mut visit = call(Route::Me, Some("Bearer ak_1"), Body::Missing);
    visit.address = None;
    let (mut exchange, _) = Exchange::with_routes(&World::of(anything()).routes, visit);
    let next = exchange.answered(Ok(Answer::Migrated), now());
    assert_answer(
        &match next {
            Next::Respond(response) => response,
            other => panic!("{other:?}"),
        },
        500,
        r#"{"error":"auth_unavailable"}"#,
    );
    // A door of the other kind is told nothing.
    for (name, event) in [EVENTS[0], EVENTS[1], EVENTS[6], EVENTS[7]] {
        assert!(matches!(event(&mut exchange), Next::Done(None)), "{name}");
    }
}
