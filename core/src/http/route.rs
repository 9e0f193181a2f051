//! Where a request to the routes goes: its method and path, and its query.

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
        /// The segment after `/sdk-keys/`, percent-decoded. Below the same.
        id: String,
    },
    /// `GET /sdk-keys`
    List {
        /// What follows the question mark, as it was sent.
        query: String,
    },
    /// `PATCH /sdk-keys/:id`
    Update {
        /// Whose.
        id: String,
    },
    /// `POST /sdk-keys/:id/rotate`
    Rotate {
        /// Whose.
        id: String,
    },
    /// `POST /sdk-keys/:id/disable`
    Disable {
        /// Whose.
        id: String,
    },
    /// `POST /sdk-keys/:id/enable`
    Enable {
        /// Whose.
        id: String,
    },
    /// `POST /sdk-keys/increases`
    RequestIncrease,
    /// `GET /sdk-keys/increases`
    ListIncreases {
        /// What follows the question mark, as it was sent.
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
    /// The route of a request, for bindings whose framework has not routed it. The path, with its query, is relative to
    /// where the routes are mounted; a slash at its end and the case of its letters do not matter, as in Express.
    pub fn of(method: &str, path: &str) -> Route {
        let path = path.split('#').next().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Some(path) = path.strip_suffix('/').unwrap_or(path).strip_prefix('/') else {
            return Route::Unknown;
        };
        let is = |text: &str, name: &str| text.eq_ignore_ascii_case(name);
        let segments: Vec<&str> = path.split('/').collect();
        match (method, segments.as_slice()) {
            ("POST", [only]) if is(only, "signup") => Route::Signup,
            (_, [head, ..]) if !is(head, "sdk-keys") => Route::Unknown,
            ("POST", [_]) => Route::Create,
            ("GET" | "HEAD", [_]) => Route::List { query: query.to_owned() },
            (_, [_, ""]) => Route::Unknown,
            ("GET" | "HEAD", [_, me]) if is(me, "me") => Route::Me,
            ("POST", [_, increases]) if is(increases, "increases") => Route::RequestIncrease,
            ("GET" | "HEAD", [_, increases]) if is(increases, "increases") => {
                Route::ListIncreases { query: query.to_owned() }
            }
            ("POST", [_, increases, id]) if is(increases, "increases") => {
                Route::DecideIncrease { id: (*id).to_owned() }
            }
            ("DELETE", [_, id]) => Route::Delete { id: percent_decoded(id) },
            ("PATCH", [_, id]) => Route::Update { id: percent_decoded(id) },
            ("POST", [_, id, what]) => {
                let id = percent_decoded(id);
                match what.to_ascii_lowercase().as_str() {
                    "rotate" => Route::Rotate { id },
                    "disable" => Route::Disable { id },
                    "enable" => Route::Enable { id },
                    _ => Route::Unknown,
                }
            }
            _ => Route::Unknown,
        }
    }

    /// Whether the body of such a request is read.
    pub fn has_body(&self) -> bool {
        matches!(
            self,
            Route::Signup
                | Route::Create
                | Route::Update { .. }
                | Route::Rotate { .. }
                | Route::RequestIncrease
                | Route::DecideIncrease { .. }
        )
    }

    /// Whether it is one of those that must be asked for: they manage the keys below the caller's.
    pub(super) fn manages(&self) -> bool {
        match self {
            Route::List { .. }
            | Route::Update { .. }
            | Route::Rotate { .. }
            | Route::Disable { .. }
            | Route::Enable { .. } => true,
            Route::Signup
            | Route::Me
            | Route::Create
            | Route::Delete { .. }
            | Route::RequestIncrease
            | Route::ListIncreases { .. }
            | Route::DecideIncrease { .. }
            | Route::Unknown => false,
        }
    }
}

/// The names and values of a query, decoded as forms are.
pub(super) fn query_members(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(&name.replace('+', " ")), percent_decoded(&value.replace('+', " ")))
    })
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
