//! Between the types of HTTP and those of the policy.

use ::http::header::AUTHORIZATION;
use ::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::Full;

use crate::http::{self, Credentials, Header, Token};

/// The headers in which a request may present its key.
pub(super) struct Presented {
    pub(super) authorization: Option<String>,
    pub(super) api_key: Option<String>,
}

impl Presented {
    pub(super) fn of(headers: &HeaderMap, api_key_header: Option<&HeaderName>) -> Self {
        let api_key = api_key_header.and_then(|name| {
            let mut values = headers.get_all(name).iter();
            // One that was sent twice is no key.
            values.next().filter(|_| values.next().is_none())
        });
        Presented { authorization: headers.get(AUTHORIZATION).map(text), api_key: api_key.map(text) }
    }

    pub(super) fn credentials(&self) -> Credentials<'_> {
        Credentials::new(self.authorization.as_deref()).api_key(self.api_key.as_deref())
    }
}

/// A header as other servers read it: a character for each byte.
fn text(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

/// The raw key that a request presents as the layer reads it, for calls that charge it: `Bearer`, in any case, or the
/// header `api_key_header`. `None` where there is none.
///
/// ```
/// use agentkey::tower::presented_key;
///
/// let mut headers = http::HeaderMap::new();
/// headers.insert("authorization", "bearer ak_123".parse()?);
/// assert_eq!(presented_key(&headers, None).unwrap().expose(), "ak_123");
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
pub fn presented_key(headers: &HeaderMap, api_key_header: Option<&HeaderName>) -> Option<Token> {
    Token::of(Presented::of(headers, api_key_header).credentials()).ok()
}

/// A response of the policy's. What failed on this side is for the log alone.
pub(super) fn response(from: http::Response) -> Response<Full<Bytes>> {
    if let Some(fault) = &from.fault {
        tracing::error!(target: "agentkey", "{fault}");
    }
    let mut response = Response::new(Full::from(from.body));
    *response.status_mut() = StatusCode::from_u16(from.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    add(response.headers_mut(), from.headers);
    response
}

/// Adds headers of the policy's, but for those that are there.
pub(super) fn add(headers: &mut HeaderMap, added: Vec<Header>) {
    for (name, value) in added {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            (Ok(name), Ok(value)) => {
                headers.entry(name).or_insert(value);
            }
            _ => tracing::error!(target: "agentkey", "{name} cannot be sent: it is left out"),
        }
    }
}

/// For what a response says of times. Decisions take the database's.
pub(super) fn now() -> DateTime<Utc> {
    std::time::SystemTime::now().into()
}
