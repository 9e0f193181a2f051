//! `doctor`: what is wrong, why it matters, what to do.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::mismatch;
use crate::cli::advice::{Advice, Severity, advice};
use crate::cli::host::{Exit, Host, Outcome};
use crate::cli::text::{ERROR, FAINT, GOOD, TITLE, WARNING, paint, shown};
use crate::engine::json::json;
use crate::engine::{Answer, Diagnosis, Finding, Request};
use crate::error::Error;

/// Clocks that differ by more are told.
const CLOCK_SECONDS: i64 = 5;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    severity: Severity,
    why: &'a str,
    what_to_do: &'a str,
}

pub(super) async fn doctor(host: &Host) -> Outcome {
    host.progress("Looking at the server, the session and the schema ...").await?;
    let (answer, now) = host.call_at(Request::Diagnose(Diagnosis::Database)).await?;
    let Answer::Diagnosed(found) = answer else { return Err(mismatch(&answer)) };
    let (facts, mut findings): (Vec<Finding>, Vec<Finding>) =
        found.into_iter().partition(|finding| ["server", "clock"].contains(&finding.check.as_str()));
    findings.extend(facts.iter().filter_map(|fact| clock(fact, now)));
    let server = facts.iter().find(|fact| fact.check == "server");
    if let Some(server) = server {
        let database = server.subject.as_deref().unwrap_or_default();
        host.progress(format!("{}, database {}.", shown(&server.found), shown(database))).await?;
    }
    if !findings.iter().any(|finding| finding.check == "no_table") {
        host.progress("Looking at every row ...").await?;
        match host.call(Request::Diagnose(Diagnosis::Keys)).await {
            Ok(Answer::Diagnosed(found)) => findings.extend(found),
            Ok(other) => return Err(mismatch(&other)),
            Err(error) => findings.push(not_looked_at(&error)),
        }
    }
    let mut told: Vec<(Finding, Advice)> =
        findings.into_iter().map(|f| (advice(&f.check), f)).map(|(a, f)| (f, a)).collect();
    told.sort_by_key(|(_, advice)| advice.severity);
    if host.look.json {
        let all: Vec<_> = told
            .iter()
            .map(|(finding, Advice { severity, why, what_to_do, .. })| Told {
                finding,
                severity: *severity,
                why,
                what_to_do,
            })
            .collect();
        host.out(json(&all)).await?;
    } else {
        for (finding, advice) in &told {
            host.out(text(finding, advice)).await?;
        }
        host.out(summary(&told)).await?;
    }
    let is_wrong = told.iter().any(|(_, advice)| advice.severity == Severity::Error);
    Ok(if is_wrong { Exit::Found } else { Exit::Done })
}

fn clock(fact: &Finding, now: DateTime<Utc>) -> Option<Finding> {
    let server: i64 = fact.found.parse().ok().filter(|_| fact.check == "clock")?;
    let seconds = now.timestamp_millis().checked_sub(server)? / 1_000;
    let found = match seconds {
        near if near.abs() <= CLOCK_SECONDS => return None,
        ..0 => format!("this machine is {} s behind the database", -seconds),
        _ => format!("this machine is {seconds} s before the database"),
    };
    Some(Finding { check: "clock".to_owned(), subject: None, found, fix: None })
}

/// The rows could not be looked at.
fn not_looked_at(error: &Error) -> Finding {
    let found = match error.sqlstate() {
        Some(sqlstate) => format!("{} (SQLSTATE {sqlstate})", error.message()),
        None => error.message().to_owned(),
    };
    Finding { check: "rows_unread".to_owned(), subject: None, found, fix: None }
}

fn text(finding: &Finding, advice: &Advice) -> String {
    let head = match advice.severity {
        Severity::Error => paint(ERROR, "error"),
        Severity::Warning => paint(WARNING, "warning"),
        Severity::Notice => paint(FAINT, "notice"),
    };
    let check = paint(FAINT, &format!("[{}]", finding.check));
    let subject =
        finding.subject.as_deref().map(|subject| format!("{}: ", shown(subject))).unwrap_or_default();
    let mut text =
        format!("{head} {} {check}\n    {subject}{}\n", paint(TITLE, advice.title), shown(&finding.found));
    text.push_str(&format!("    {} {}\n", paint(FAINT, "Why it matters:"), advice.why));
    text.push_str(&format!("    {} {}\n", paint(FAINT, "What to do:"), advice.what_to_do));
    if let Some(fix) = &finding.fix {
        text.push_str(&format!("        {}\n", shown(fix).replace('\n', "\n        ")));
    }
    text
}

fn summary(told: &[(Finding, Advice)]) -> String {
    let count = |severity: Severity| told.iter().filter(|(_, advice)| advice.severity == severity).count();
    let (errors, warnings, notices) =
        (count(Severity::Error), count(Severity::Warning), count(Severity::Notice));
    let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let text =
        format!("{}, {}, {}.", many(errors, "error"), many(warnings, "warning"), many(notices, "notice"));
    match (errors, warnings) {
        (0, 0) => paint(GOOD, &format!("Nothing is wrong: {text}")),
        (0, _) => paint(WARNING, &text),
        _ => paint(ERROR, &text),
    }
}
