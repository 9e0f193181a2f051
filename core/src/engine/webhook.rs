//! Webhooks after Standard Webhooks 1.0: what is sent, how it is signed, when it is tried again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Event;
use super::json::json;
use crate::error::{Error, ErrorCode};
use crate::time::timestamp;

/// How long a delivery waits after each attempt, in seconds. After the last one it is dead.
const DELAYS: [u64; 9] = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600];
/// The receiver wants no more of it.
const GONE: u16 = 410;
const MAX_NAME: usize = 100;
const MAX_ERROR: usize = 200;

/// A webhook: its name in the database, and the secrets that sign. Where it is, only the sender knows.
#[derive(Clone)]
pub struct Webhook {
    name: String,
    secrets: Vec<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Webhook {
    /// A webhook. Its name is what its deliveries are kept under. Each secret is `whsec_` and 24 to 64 bytes in base64; while
    /// there are two, both sign: a receiver goes on with either.
    ///
    /// # Errors
    /// `invalid_text`. No message repeats a secret.
    pub fn new<S: AsRef<str>>(
        name: impl Into<String>,
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let name = name.into();
        if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
            let message = format!("Invalid webhook name: give 1 to {MAX_NAME} bytes, without NUL");
            return Err(Error::new(ErrorCode::InvalidText, message));
        }
        let secrets: Option<Vec<_>> =
            secrets.into_iter().map(|secret| read_secret(secret.as_ref())).collect();
        match secrets {
            Some(secrets) if !secrets.is_empty() => Ok(Webhook { name, secrets }),
            _ => {
                let message =
                    "Invalid webhook secrets: give at least one, each whsec_ and 24 to 64 bytes in base64";
                Err(Error::new(ErrorCode::InvalidText, message))
            }
        }
    }

    /// What its deliveries are kept under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is sent of an event, at a time in seconds since 1970.
    pub(crate) fn delivery(&self, event: &Event, attempt: u32, time: i64) -> Delivery {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            timestamp: String,
            data: &'a Event,
        }
        let id = format!("evt_{}", event.id);
        let body = json(&Body {
            r#type: format!("agentkey.{}", event.kind),
            timestamp: timestamp(&event.at),
            data: event,
        });
        let signed = format!("{id}.{time}.{body}");
        let signatures: Vec<String> = self.secrets.iter().map(|secret| sign(secret, &signed)).collect();
        Delivery { event_id: event.id, attempt, id, time, signature: signatures.join(" "), body }
    }
}

fn read_secret(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = STANDARD.decode(text.strip_prefix("whsec_")?).map(Zeroizing::new).ok()?;
    (24..=64).contains(&bytes.len()).then_some(bytes)
}

fn sign(secret: &[u8], text: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(text.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// What is to be sent: a POST with these headers and this body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The event.
    pub event_id: i64,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// The same for every attempt: `webhook-id`.
    pub id: String,
    /// When, in seconds since 1970: `webhook-timestamp`.
    pub time: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// JSON.
    pub body: String,
}

impl Delivery {
    /// The headers.
    pub fn headers(&self) -> [(&'static str, String); 4] {
        [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", self.id.clone()),
            ("webhook-timestamp", self.time.to_string()),
            ("webhook-signature", self.signature.clone()),
        ]
    }
}

/// How an attempt ended: with a status, or why there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryEnd {
    /// The webhook's name.
    pub webhook: String,
    /// The event.
    pub event_id: i64,
    /// Which attempt it was.
    pub attempt: u32,
    /// The status that the receiver answered, or a word why it did not.
    pub result: Result<u16, String>,
}

impl DeliveryEnd {
    /// The end of an attempt.
    pub fn of(webhook: &Webhook, delivery: &Delivery, result: Result<u16, String>) -> Self {
        let webhook = webhook.name.clone();
        DeliveryEnd { webhook, event_id: delivery.event_id, attempt: delivery.attempt, result }
    }

    /// What becomes of it, the seconds until the next attempt, and why.
    pub(crate) fn decided(&self) -> (&'static str, u64, Option<String>) {
        let why = match &self.result {
            Ok(200..=299) => return ("delivered", 0, None),
            Ok(status) => format!("answered {status}"),
            Err(why) => why.chars().filter(|c| !c.is_control()).take(MAX_ERROR).collect(),
        };
        let attempt = usize::try_from(self.attempt).unwrap_or(usize::MAX);
        match DELAYS.get(attempt.saturating_sub(1)) {
            Some(delay) if self.result != Ok(GONE) => ("again", *delay, Some(why)),
            _ => ("dead", 0, Some(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = read_secret(SECRET).unwrap();
        let signed = r#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
        assert_eq!(sign(&secret, signed), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_%%%%"] {
            let error = Webhook::new("w", [SECRET, bad]).unwrap_err();
            assert!(error.message().contains("whsec_ and 24 to 64 bytes"));
            assert!(bad.len() < 10 || !error.message().contains(bad), "{error}");
        }
        assert!(Webhook::new("", [SECRET]).is_err() && Webhook::new("w", [""; 0]).is_err());
        assert_eq!(format!("{:?}", Webhook::new("w", [SECRET]).unwrap()), "Webhook { name: \"w\", .. }");
    }

    #[test]
    fn an_attempt_is_followed_by_another_until_it_is_dead() {
        let end = |attempt, result| {
            let end = DeliveryEnd { webhook: "w".to_owned(), event_id: 1, attempt, result };
            let (what, delay, _) = end.decided();
            (what, delay)
        };
        assert_eq!(end(1, Ok(204)), ("delivered", 0));
        for status in [301, 400, 404, 429, 500] {
            assert_eq!(end(1, Ok(status)), ("again", 5));
        }
        assert_eq!(end(9, Err("timeout".to_owned())), ("again", 86_400));
        assert_eq!(end(10, Ok(500)), ("dead", 0));
        assert_eq!(end(u32::MAX, Ok(500)), ("dead", 0));
        assert_eq!(end(1, Ok(410)), ("dead", 0));
    }
}
