//! The closed list of errors. Refusals (an exceeded budget, a revoked key) are values, not errors: see
//! [`Denial`](crate::Denial) and [`ChargeRefusal`](crate::ChargeRefusal).

use std::sync::Arc;

/// What went wrong, as a stable string for programs: see [`ErrorCode::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A scope that the client's `valid_scopes` does not list, or one that cannot be stored.
    InvalidScopes,
    /// A budget period that is not one of the accepted ones.
    InvalidBudgetPeriod,
    /// An expiry that is not digits followed by `m`, `h`, `d` or `mo`, or that is absurdly long.
    InvalidDuration,
    /// A budget that is negative or does not fit the table's column.
    InvalidBudget,
    /// A cost that is given in no form, in several, or in one that cannot be read. `NaN` and infinite cents are no error but
    /// the refusal of that name.
    InvalidCost,
    /// An account id that the table's `account_id` column cannot hold.
    InvalidAccountId,
    /// An external subject that is empty or cannot be stored.
    InvalidSubject,
    /// A parent that does not exist, is no longer live, or is too deep down.
    InvalidParent,
    /// A text argument that Postgres cannot store; the message names the field.
    InvalidText,
    /// A table name that is not `table` or `schema.table`.
    InvalidTableName,
    /// A key prefix that cannot stand in an HTTP header.
    InvalidKeyPrefix,
    /// A database URL that cannot be read.
    InvalidDsn,
    /// The table lacks a column or an index that this call needs; `migrate` adds it.
    MigrationRequired,
    /// Too many calls are waiting; nothing was sent.
    Overloaded,
    /// The call's time limit passed. [`Error::may_have_been_recorded`] says whether its statement was sent.
    Timeout,
    /// The client was closed.
    Closed,
    /// The database, or the way to it, failed.
    Database,
    /// The database answered something that the statement cannot have answered.
    UnexpectedResponse,
}

impl ErrorCode {
    /// Every code, for bindings that must map them all.
    pub const ALL: &'static [ErrorCode] = &[
        ErrorCode::InvalidScopes,
        ErrorCode::InvalidBudgetPeriod,
        ErrorCode::InvalidDuration,
        ErrorCode::InvalidBudget,
        ErrorCode::InvalidCost,
        ErrorCode::InvalidAccountId,
        ErrorCode::InvalidSubject,
        ErrorCode::InvalidParent,
        ErrorCode::InvalidText,
        ErrorCode::InvalidTableName,
        ErrorCode::InvalidKeyPrefix,
        ErrorCode::InvalidDsn,
        ErrorCode::MigrationRequired,
        ErrorCode::Overloaded,
        ErrorCode::Timeout,
        ErrorCode::Closed,
        ErrorCode::Database,
        ErrorCode::UnexpectedResponse,
    ];

    /// The code's stable name, the same in every language.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidScopes => "invalid_scopes",
            ErrorCode::InvalidBudgetPeriod => "invalid_budget_period",
            ErrorCode::InvalidDuration => "invalid_duration",
            ErrorCode::InvalidBudget => "invalid_budget",
            ErrorCode::InvalidCost => "invalid_cost",
            ErrorCode::InvalidAccountId => "invalid_account_id",
            ErrorCode::InvalidSubject => "invalid_subject",
            ErrorCode::InvalidParent => "invalid_parent",
            ErrorCode::InvalidText => "invalid_text",
            ErrorCode::InvalidTableName => "invalid_table_name",
            ErrorCode::InvalidKeyPrefix => "invalid_key_prefix",
            ErrorCode::InvalidDsn => "invalid_dsn",
            ErrorCode::MigrationRequired => "migration_required",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::Timeout => "timeout",
            ErrorCode::Closed => "closed",
            ErrorCode::Database => "database",
            ErrorCode::UnexpectedResponse => "unexpected_response",
        }
    }

    /// Whether the caller's input is at fault, rather than the database or the load.
    pub const fn is_bad_input(self) -> bool {
        matches!(
            self,
            ErrorCode::InvalidScopes
                | ErrorCode::InvalidBudgetPeriod
                | ErrorCode::InvalidDuration
                | ErrorCode::InvalidBudget
                | ErrorCode::InvalidCost
                | ErrorCode::InvalidAccountId
                | ErrorCode::InvalidSubject
                | ErrorCode::InvalidParent
                | ErrorCode::InvalidText
                | ErrorCode::InvalidTableName
                | ErrorCode::InvalidKeyPrefix
                | ErrorCode::InvalidDsn
        )
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a failed call may have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Effect {
    /// It certainly changed nothing.
    #[default]
    None,
    /// Nobody knows: the connection or the time ended before the database answered.
    Unknown,
}

/// An error: a code for programs, a message for people, and the driver's error where there is one.
///
/// It never holds a raw key.
#[derive(Debug, Clone)]
pub struct Error {
    code: ErrorCode,
    message: String,
    effect: Effect,
    is_transient: bool,
    sqlstate: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a source. It says that nothing was recorded.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let is_transient = matches!(code, ErrorCode::Overloaded);
        Error {
            code,
            message: message.into(),
            effect: Effect::None,
            is_transient,
            sqlstate: None,
            source: None,
        }
    }

    /// The same error, caused by `source`.
    pub fn with_source(mut self, source: Arc<dyn std::error::Error + Send + Sync>) -> Self {
        self.source = Some(source);
        self
    }

    /// The same error of a statement that failed so.
    pub(crate) fn with_facts(mut self, effect: Effect, is_transient: bool, sqlstate: Option<&str>) -> Self {
        self.effect = effect;
        self.is_transient = is_transient;
        self.sqlstate = sqlstate.map(str::to_owned);
        self
    }

    /// The same error of a call that may have been recorded.
    pub(crate) fn after_sending(mut self) -> Self {
        self.effect = Effect::Unknown;
        self
    }

    /// The same error with its message as `say` has it.
    #[cfg(feature = "cli")]
    pub(crate) fn said(mut self, say: impl FnOnce(&str) -> String) -> Self {
        self.message = say(&self.message);
        self
    }

    /// The same error, which names the key whose row it is about.
    pub(crate) fn of_key(mut self, id: &str) -> Self {
        self.message.push_str(&format!(" (key {})", shortened(id)));
        self
    }

    /// The same error of a call of which nothing was sent.
    pub(crate) fn before_sending(mut self) -> Self {
        self.effect = Effect::None;
        self
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the call may have been recorded although it failed. If so, a charge that is repeated without an
    /// idempotency key may be recorded twice.
    pub fn may_have_been_recorded(&self) -> bool {
        self.effect == Effect::Unknown
    }

    /// Whether the same call may succeed a little later: a lost connection, a restart, too many calls.
    pub fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// Postgres's own code, where the database sent one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    pub(crate) fn unexpected(what: impl std::fmt::Display) -> Self {
        Error::new(ErrorCode::UnexpectedResponse, format!("Unexpected response from the database: {what}"))
            .after_sending()
    }

    pub(crate) fn migration_required(what: impl std::fmt::Display) -> Self {
        Error::new(ErrorCode::MigrationRequired, format!("migration required: {what}; call migrate()"))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    /// The driver's error itself: `downcast_ref::<sqlx::Error>()` finds it.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// A value for a message: it may be megabytes long, a message need not be. What looks like a raw key, put where something
/// else belongs, is left out.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 100;
    // A key may begin within what is shown and end beyond it.
    let looked_at: String = text.chars().take(2 * SHOWN).collect();
    let shown = without_keys(&looked_at);
    match shown.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &shown[..end]),
        None if looked_at.len() < text.len() => format!("{shown}..."),
        None => shown,
    }
}

/// A text without what looks like a raw key.
pub(crate) fn without_keys(text: &str) -> String {
    /// More hexadecimal digits in a row than a UUID without hyphens has, fewer than a key.
    const SECRET: usize = 33;
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        shown.push_str(before);
        shown.push_str(if digits.len() < SECRET { digits } else { "[redacted]" });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Refuses text that Postgres cannot store, naming the field.
pub(crate) fn storable(field: &str, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::new(
            ErrorCode::InvalidText,
            format!("Invalid {field}: a NUL character cannot be stored"),
        ));
    }
    Ok(())
}

/// An index row holds about 2,700 bytes.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 2_000;

/// Refuses an idempotency key that no index takes.
pub(crate) fn check_idempotency_key(key: Option<&str>) -> Result<(), Error> {
    let Some(key) = key else { return Ok(()) };
    storable("idempotency key", key)?;
    if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        let message = format!("Invalid idempotency key: it must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} bytes");
        return Err(Error::new(ErrorCode::InvalidText, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_and_no_key() {
        let key = format!("ak_{}", "0123456789abcdef".repeat(3));
        for text in ["", "soon", "30m, admin", "é".repeat(100).as_str(), "6f9619ff8b86d011b42d00cf4fc964ff"]
        {
            assert_eq!(shortened(text), text);
        }
        assert_eq!(shortened(&key), "ak_[redacted]");
        assert_eq!(shortened(&format!("read, {key}, write")), "read, ak_[redacted], write");
        for at in 0..200 {
            let text = format!("{}{key}{}", "x".repeat(at), "y".repeat(1_000));
            let shown = shortened(&text);
            assert!(shown.len() <= 103 && shown.ends_with("..."), "{shown}");
            assert!(!shown.contains("0123456789abcdef0123"), "{shown}");
        }
    }

    #[test]
    fn every_code_is_listed_once_and_named_once() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|c| c.as_str()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        // A new variant must be added to ALL: this match stops compiling until somebody has looked here.
        for code in ErrorCode::ALL {
            match code {
                ErrorCode::InvalidScopes
                | ErrorCode::InvalidBudgetPeriod
                | ErrorCode::InvalidDuration
                | ErrorCode::InvalidBudget
                | ErrorCode::InvalidCost
                | ErrorCode::InvalidAccountId
                | ErrorCode::InvalidSubject
                | ErrorCode::InvalidParent
                | ErrorCode::InvalidText
                | ErrorCode::InvalidTableName
                | ErrorCode::InvalidKeyPrefix
                | ErrorCode::InvalidDsn
                | ErrorCode::MigrationRequired
                | ErrorCode::Overloaded
                | ErrorCode::Timeout
                | ErrorCode::Closed
                | ErrorCode::Database
                | ErrorCode::UnexpectedResponse => {}
            }
        }
        assert_eq!(count, 18);
    }
}
