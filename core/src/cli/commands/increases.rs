//! `requests`, `approve`, `deny`: more budget for a while.

use super::keys::get;
use super::mismatch;
use crate::budget::increase::{Increase, IncreaseDecision, IncreaseFilter, IncreaseState, read_lasts};
use crate::budget::increase_outcome::{IncreaseOutcome, IncreaseRefusalReason};
use crate::cli::args::{Approve, Decision, Requests};
use crate::cli::host::{Exit, Host, Outcome, Stop};
use crate::cli::table::table;
use crate::cli::text::{ERROR, GOOD, WARNING, cell, cents, optional_time, paint, time};
use crate::engine::{Answer, Request};
use crate::error::{Error, ErrorCode};

pub(super) async fn requests(host: &Host, requests: Requests) -> Outcome {
    if let Some(id) = requests.key.as_ref().or(requests.within.as_ref()) {
        get(host, id).await?;
    }
    let mut filter = IncreaseFilter::new().limit(requests.limit);
    filter.key_id = requests.key.map(Into::into);
    filter.within = requests.within.map(Into::into);
    filter.account_id = requests.account.map(Into::into);
    filter.before = requests.before;
    filter.state = match requests.state.as_str() {
        "all" => None,
        state => Some(
            state
                .parse()
                .map_err(|error: Error| Error::new(error.code(), format!("--state: {}", error.message())))?,
        ),
    };
    let answer = host.call(Request::ListIncreases(filter)).await?;
    let Answer::Increases(found) = &answer else { return Err(mismatch(&answer)) };
    if host.look.json {
        host.out(answer.json(true)).await?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        host.note("There are no such requests.").await?;
        return Ok(Exit::Done);
    }
    host.out(table(HEADINGS, &found.iter().map(row).collect::<Vec<_>>())).await?;
    if let Some(last) = found.last().filter(|_| found.len() as u64 == u64::from(requests.limit)) {
        host.note(format!("There may be more: --before {} goes on.", last.id)).await?;
    }
    Ok(Exit::Done)
}

const HEADINGS: &[&str] = &[
    "REQUEST>",
    "KEY",
    "STATE",
    "ASKS FOR>",
    "FOR>",
    "SINCE (UTC)",
    "REASON",
    "GRANTED>",
    "UNTIL (UTC)",
    "BY",
];

fn row(request: &Increase) -> Vec<String> {
    vec![
        request.id.to_string(),
        cell(&request.key_id.to_string()),
        match request.state {
            IncreaseState::Pending => paint(WARNING, "pending"),
            IncreaseState::Approved => paint(GOOD, "approved"),
            IncreaseState::Denied => paint(ERROR, "denied"),
        },
        cents(request.cents),
        lasting(request.for_seconds),
        time(&request.requested_at),
        request.reason.as_deref().map(cell).unwrap_or_default(),
        request.granted_cents.map(cents).unwrap_or_default(),
        optional_time(request.granted_until.as_ref()),
        request.decided_by.as_deref().map(cell).unwrap_or_default(),
    ]
}

/// Seconds as people write them.
fn lasting(seconds: i64) -> String {
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    match units.into_iter().find(|(unit, _)| seconds >= *unit && seconds % unit == 0) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

pub(super) async fn approve(host: &Host, approve: Approve) -> Outcome {
    let mut decision = IncreaseDecision::approve(approve.decision.by);
    decision.cents = approve.cents;
    decision.expires_in = match &approve.lasts {
        None => None,
        Some(text) => Some(read_lasts("--for", text)?),
    };
    decide(host, approve.decision.id, decision).await
}

pub(super) async fn deny(host: &Host, Decision { id, by }: Decision) -> Outcome {
    decide(host, id, IncreaseDecision::deny(by)).await
}

async fn decide(host: &Host, id: i64, decision: IncreaseDecision) -> Outcome {
    let answer = host.call(Request::DecideIncrease(id, decision)).await?;
    let Answer::IncreaseDecided(outcome) = &answer else { return Err(mismatch(&answer)) };
    let said = said(id, outcome)?;
    host.out(if host.look.json { answer.json(true) } else { said }).await?;
    Ok(Exit::Done)
}

fn said(id: i64, outcome: &IncreaseOutcome) -> Outcome<String> {
    let refusal = match outcome {
        Ok(recorded) => return Ok(told(&recorded.request)),
        Err(refusal) => refusal,
    };
    let request = refusal.request.as_ref();
    let key = request.map(|request| cell(&request.key_id.to_string())).unwrap_or_default();
    let why = match refusal.reason {
        IncreaseRefusalReason::UnknownRequest => {
            return Err(Stop::NotFound(format!("there is no request {id}; `agentkey requests` lists them")));
        }
        IncreaseRefusalReason::AlreadyDecided => {
            format!("it was decided before. {}", request.map(told).unwrap_or_default())
        }
        IncreaseRefusalReason::ExceedsAncestor => {
            let limit = refusal.limit_key_id.as_ref().map(|id| cell(&id.to_string())).unwrap_or_default();
            format!("the budget of key {key} would pass that of key {limit}; approve less with --cents")
        }
        IncreaseRefusalReason::NoBudget => format!("key {key} has no budget"),
        reason => format!("key {key} is {}", reason.as_str()),
    };
    Err(Stop::Error(Error::new(ErrorCode::InvalidBudget, format!("request {id} is not decided: {why}"))))
}

fn told(request: &Increase) -> String {
    let by = request.decided_by.as_deref().map(cell).unwrap_or_default();
    let key = cell(&request.key_id.to_string());
    match (request.granted_cents, &request.granted_until) {
        (Some(amount), Some(until)) => format!(
            "Request {} is approved by {by}: key {key} may spend {} more until {} UTC.",
            request.id,
            cents(amount),
            time(until)
        ),
        _ => format!("Request {} of key {key} is denied by {by}.", request.id),
    }
}
