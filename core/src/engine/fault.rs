//! Why a statement has no rows, and what that means: the only place where faults are classified.

use std::sync::Arc;

use crate::error::{Effect, Error, ErrorCode};

/// Why a statement has no answer, as its driver knows it.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: FaultKind,
    sqlstate: Option<String>,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    NotSent,
    Refused,
    Lost,
    TimedOut,
}

/// Codes of failures to connect, as operating systems and Node name them.
const NOT_SENT: &[&str] = &[
    "ECONNREFUSED",
    "ENOTFOUND",
    "EAI_AGAIN",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EHOSTDOWN",
    "ENETDOWN",
    "EADDRNOTAVAIL",
    "EMFILE",
    "ENFILE",
    "ENOENT",
    "EACCES",
];

impl Fault {
    /// It was never sent: no connection could be had. It had no effect.
    pub fn not_sent(message: impl Into<String>) -> Self {
        Fault { kind: FaultKind::NotSent, sqlstate: None, message: message.into(), source: None }
    }

    /// The database, or a pooler in front of it, answered with an SQLSTATE.
    pub fn refused(sqlstate: impl Into<String>, message: impl Into<String>) -> Self {
        let sqlstate = Some(sqlstate.into());
        Fault { kind: FaultKind::Refused, sqlstate, message: message.into(), source: None }
    }

    /// The same fault with an SQLSTATE: the server, or a pooler, answered so when a connection was opened.
    pub fn with_sqlstate(mut self, sqlstate: Option<String>) -> Self {
        self.sqlstate = sqlstate;
        self
    }

    /// The same fault of a statement that had no connection yet.
    pub(super) fn before_sending(self) -> Self {
        Fault { kind: FaultKind::NotSent, ..self }
    }

    /// It was sent, and the connection ended before there was an answer.
    pub fn lost(message: impl Into<String>) -> Self {
        Fault { kind: FaultKind::Lost, sqlstate: None, message: message.into(), source: None }
    }

    /// It was sent, and the driver waited no longer for an answer.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Fault { kind: FaultKind::TimedOut, sqlstate: None, message: message.into(), source: None }
    }

    /// A driver's error that has a `code`: an SQLSTATE, or an error of the operating system such as `ECONNREFUSED`. An
    /// error without a known code may have come after sending.
    pub fn of_code(code: Option<&str>, message: impl Into<String>) -> Self {
        match code {
            Some(code) if is_sqlstate(code) => Fault::refused(code, message),
            Some(code) if NOT_SENT.contains(&code) => Fault::not_sent(message),
            _ => Fault::lost(message),
        }
    }

    /// The same fault, caused by the driver's own error. Callers find it as the source of theirs.
    pub fn with_source(mut self, source: Arc<dyn std::error::Error + Send + Sync>) -> Self {
        self.source = Some(source);
        self
    }

    /// The same fault of an attempt to connect to this place.
    #[cfg(feature = "sqlx")]
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.message = format!("cannot connect to {place}: {}", self.message);
        self
    }

    /// The same fault, with what became of another attempt.
    #[cfg(feature = "sqlx")]
    pub(crate) fn and(mut self, other: &Fault) -> Self {
        self.message = format!("{}; {}", self.message, other.message);
        self
    }

    /// The SQLSTATE, where there is one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// Whether the statement may have taken effect.
    pub fn may_have_taken_effect(&self) -> bool {
        self.effect() == Effect::Unknown
    }

    /// An SQLSTATE does not prove that it took none: a pooler answers 08P01
    /// when the server dies in the middle of a statement, which may be committed by then.
    pub(super) fn effect(&self) -> Effect {
        match (self.kind, self.sqlstate()) {
            (FaultKind::NotSent, _) => Effect::None,
            (FaultKind::Lost | FaultKind::TimedOut, _) => Effect::Unknown,
            (FaultKind::Refused, Some(sqlstate)) => {
                // connection_exception, operator_intervention (but query_canceled, which rolled back),
                // statement_completion_unknown
                let is_unknown =
                    sqlstate.starts_with("08") || sqlstate.starts_with("57P") || sqlstate == "40003";
                if is_unknown { Effect::Unknown } else { Effect::None }
            }
            (FaultKind::Refused, None) => Effect::Unknown,
        }
    }

    /// Whether the same statement may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match (self.kind, self.sqlstate()) {
            (FaultKind::NotSent | FaultKind::Lost, None) => true,
            (FaultKind::TimedOut, _) => false,
            (_, Some(sqlstate)) => {
                // serialization_failure, statement_completion_unknown, deadlock_detected, lock_not_available,
                // connection_exception, insufficient_resources, operator_intervention but query_canceled
                matches!(sqlstate, "40001" | "40003" | "40P01" | "55P03")
                    || sqlstate.starts_with("08")
                    || sqlstate.starts_with("53")
                    || sqlstate.starts_with("57P")
            }
            (FaultKind::Refused, None) => false,
        }
    }

    /// Whether the table is not as the catalogue said: somebody changed it meanwhile.
    pub(super) fn is_outdated(&self) -> bool {
        // undefined_column, undefined_table
        matches!(self.sqlstate(), Some("42703" | "42P01"))
    }

    /// Whether the statement may have failed for what one of its requests says, or for one of its rows, so that the
    /// others succeed without it. A server that only reads, say, refuses all of them.
    pub(super) fn is_of_one(&self) -> bool {
        // data_exception, integrity_constraint_violation, syntax_error_or_access_rule_violation,
        // program_limit_exceeded, and what functions of the application raise
        let is_candidate =
            |code: &str| ["22", "23", "42", "54", "P0"].iter().any(|class| code.starts_with(class));
        let is_refused = self.kind == FaultKind::Refused && self.sqlstate().is_some_and(is_candidate);
        is_refused && !self.is_outdated() && !self.is_duplicate()
    }

    /// Whether a row changed under the statement, where transactions are stricter than READ COMMITTED.
    pub(super) fn is_conflict(&self) -> bool {
        self.sqlstate() == Some("40001")
    }

    /// Whether a unique index refused what another client was writing at the same time. The second look sees it.
    pub(super) fn is_duplicate(&self) -> bool {
        self.sqlstate() == Some("23505")
    }

    /// What the callers of the statement are told.
    pub(crate) fn error(&self) -> Error {
        let error = Error::new(ErrorCode::Database, &self.message).with_facts(
            self.effect(),
            self.is_transient(),
            self.sqlstate(),
        );
        match &self.source {
            Some(source) => error.with_source(Arc::clone(source)),
            None => error,
        }
    }
}

/// Five digits or upper-case letters, not letters alone: `EPIPE` is an error of the operating system.
fn is_sqlstate(code: &str) -> bool {
    code.len() == 5
        && code.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && code.bytes().any(|b| b.is_ascii_digit())
        && code != "E2BIG"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(fault: Fault) -> (Effect, bool) {
        (fault.effect(), fault.is_transient())
    }

    #[test]
    fn what_was_never_sent_had_no_effect() {
        assert_eq!(facts(Fault::not_sent("no connection")), (Effect::None, true));
        assert_eq!(facts(Fault::of_code(Some("ECONNREFUSED"), "")), (Effect::None, true));
    }

    #[test]
    fn a_lost_connection_leaves_everything_open() {
        for code in [Some("EPIPE"), Some("ECONNRESET"), Some("E2BIG"), Some("ABCDE"), Some("x"), None] {
            assert_eq!(facts(Fault::of_code(code, "")), (Effect::Unknown, true), "{code:?}");
        }
        assert_eq!(facts(Fault::timed_out("")), (Effect::Unknown, false));
    }

    #[test]
    fn an_sqlstate_proves_no_effect_only_where_the_server_rolled_back() {
        for (sqlstate, effect, is_transient) in [
            ("40001", Effect::None, true),
            ("40P01", Effect::None, true),
            ("55P03", Effect::None, true),
            ("53300", Effect::None, true),
            ("57014", Effect::None, false),
            ("22003", Effect::None, false),
            ("23505", Effect::None, false),
            ("42703", Effect::None, false),
            ("P0001", Effect::None, false),
            ("XX000", Effect::None, false),
            ("08P01", Effect::Unknown, true),
            ("08006", Effect::Unknown, true),
            ("57P01", Effect::Unknown, true),
            ("40003", Effect::Unknown, true),
        ] {
            assert_eq!(facts(Fault::of_code(Some(sqlstate), "")), (effect, is_transient), "{sqlstate}");
        }
    }
}
