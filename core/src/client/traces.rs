//! Spans of calls and statements for subscribers of `tracing`. Fields are named as OpenTelemetry names them, so that
//! `tracing-opentelemetry` hands them on as they are. None has a raw key.

#[cfg(feature = "tracing")]
use tracing::{Instrument, Span, field::Empty};

use super::callers::CallResult;
#[cfg(feature = "tracing")]
use crate::engine::Answer;
use crate::engine::{Fault, Request, Statement};

/// Without the feature nothing is traced.
#[cfg(not(feature = "tracing"))]
pub(super) struct NoSpan;

#[cfg(not(feature = "tracing"))]
pub(super) fn of_call(_: &Request) -> NoSpan {
    NoSpan
}

#[cfg(not(feature = "tracing"))]
pub(super) async fn call(_: NoSpan, answer: impl Future<Output = CallResult>) -> CallResult {
    answer.await
}

#[cfg(feature = "tracing")]
pub(super) fn of_call(request: &Request) -> Span {
    let operation = request.operation();
    tracing::debug_span!(
        target: "agentkey",
        "agentkey.call",
        otel.name = %format_args!("agentkey {operation}"),
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "postgresql",
        agentkey.operation = operation,
        agentkey.key.id = Empty,
        agentkey.outcome = Empty,
        agentkey.refusal.reason = Empty,
        error.type = Empty,
    )
}

#[cfg(feature = "tracing")]
pub(super) fn call(span: Span, answer: impl Future<Output = CallResult>) -> impl Future<Output = CallResult> {
    let ended = span.clone();
    let answered = async move {
        let answer = answer.await;
        if !ended.is_disabled() {
            note(&ended, &answer);
        }
        answer
    };
    answered.instrument(span)
}

#[cfg(feature = "tracing")]
fn note(span: &Span, answer: &CallResult) {
    match answer.as_ref().map(|answer| (answer, answer.refusal())) {
        Err(error) => {
            span.record("agentkey.outcome", "error");
            span.record("error.type", error.code().as_str());
            span.record("otel.status_code", "ERROR");
        }
        Ok((_, Some(reason))) => {
            span.record("agentkey.outcome", "refused");
            span.record("agentkey.refusal.reason", reason);
        }
        Ok((answer, None)) => {
            span.record("agentkey.outcome", "success");
            let id = match answer {
                Answer::Validated(Ok(grant)) => Some(&grant.id),
                Answer::Reserved(Ok(reservation)) => Some(&reservation.grant.id),
                _ => None,
            };
            if let Some(id) = id {
                span.record("agentkey.key.id", tracing::field::display(id));
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
pub(super) async fn statement(
    _: &Statement,
    rows: impl Future<Output = Result<Vec<String>, Fault>>,
) -> Result<Vec<String>, Fault> {
    rows.await
}

/// A statement is nobody's child: the calls of many share it.
#[cfg(feature = "tracing")]
pub(super) fn statement(
    statement: &Statement,
    rows: impl Future<Output = Result<Vec<String>, Fault>>,
) -> impl Future<Output = Result<Vec<String>, Fault>> {
    let span = tracing::debug_span!(
        target: "agentkey",
        parent: None,
        "agentkey.statement",
        otel.name = %format_args!("agentkey statement {:?}", statement.kind),
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "postgresql",
        agentkey.statement.kind = ?statement.kind,
        db.response.status_code = Empty,
        db.response.returned_rows = Empty,
        error.type = Empty,
    );
    let ended = span.clone();
    let answered = async move {
        let rows = rows.await;
        match &rows {
            Ok(rows) => _ = ended.record("db.response.returned_rows", rows.len()),
            Err(fault) => {
                ended.record("otel.status_code", "ERROR");
                ended.record("error.type", fault.sqlstate().unwrap_or("_OTHER"));
                if let Some(sqlstate) = fault.sqlstate() {
                    ended.record("db.response.status_code", sqlstate);
                }
            }
        }
        rows
    };
    answered.instrument(span)
}
