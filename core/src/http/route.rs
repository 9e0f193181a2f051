//! Where a request to the self-serve routes goes.

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// `POST /signup`
    Signup,
    /// `GET /sdk-keys/me`
    Me,
    /// `POST /sdk-keys`
    Create,
    /// `DELETE /sdk-keys/:id`
    Delete {
        /// The last segment, percent-decoded.
        id: String,
    },
    /// `POST /sdk-keys/increases`
    RequestIncrease,
    /// `GET /sdk-keys/increases`
    ListIncreases {
        /// What stands behind the question mark: `state`, `before` and `limit` count.
        query: String,
    },
    /// `POST /sdk-keys/increases/:id`
    DecideIncrease {
        /// The last segment.
        id: String,
    },
    /// None of these.
    Unknown,
}

impl Route {
    /// The route of a request, for bindings whose framework has not routed it. The path is relative to where the routes
    /// are mounted; a slash at its end and the case of its letters do not matter, as in Express.
    pub fn of(method: &str, path: &str) -> Route {
        let path = path.split('#').next().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Some(path) = path.strip_suffix('/').unwrap_or(path).strip_prefix('/') else {
            return Route::Unknown;
        };
        let is = |text: &str, name: &str| text.eq_ignore_ascii_case(name);
        match path.split_once('/') {
            None if method == "POST" && is(path, "signup") => Route::Signup,
            None if method == "POST" && is(path, "sdk-keys") => Route::Create,
            Some((head, "")) if is(head, "sdk-keys") => Route::Unknown,
            Some((head, rest)) if is(head, "sdk-keys") && is(rest, "increases") && method != "DELETE" => {
                match method {
                    "POST" => Route::RequestIncrease,
                    "GET" | "HEAD" => Route::ListIncreases { query: query.to_owned() },
                    _ => Route::Unknown,
                }
            }
            Some((head, rest)) if is(head, "sdk-keys") && rest.contains('/') => match rest.split_once('/') {
                Some((name, id)) if is(name, "increases") && method == "POST" && !id.contains('/') => {
                    Route::DecideIncrease { id: id.to_owned() }
                }
                _ => Route::Unknown,
            },
            Some((head, id)) if is(head, "sdk-keys") => match method {
                "GET" | "HEAD" if is(id, "me") => Route::Me,
                "DELETE" => Route::Delete { id: percent_decoded(id) },
                _ => Route::Unknown,
            },
            _ => Route::Unknown,
        }
    }
}

/// What cannot be decoded stays as it is: no key has such an id.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let mut byte = [0];
            let Some(digits) = tail.get(..2) else { return text.to_owned() };
            if hex::decode_to_slice(digits, &mut byte).is_err() {
                return text.to_owned();
            }
            bytes.push(byte[0]);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
