//! The ledger: `usage`, `events`, `verify`, `sweep`, `prune`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::keys::get;
use super::mismatch;
use crate::budget::ledger::{Event, EventFilter, UsageFilter};
use crate::budget::period::Period;
use crate::cli::args::{Deliveries, Events, Prune, Usage, Verify};
use crate::cli::host::{Exit, Host, Outcome};
use crate::cli::table::table;
use crate::cli::text::{FAINT, GOOD, WARNING, bar, cell, money, paint, shown};
use crate::engine::json::json;
use crate::engine::{Answer, DeliveryFilter, Request};
use crate::error::{Error, ErrorCode};
use crate::id::KeyId;

const CHART: u64 = 40;
/// The most that one call reads.
const PAGE: u32 = 1_000;
/// How often new entries are looked for.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn usage(host: &Host, usage: Usage) -> Outcome {
    let by: Period = usage
        .by
        .parse()
        .map_err(|error: Error| Error::new(error.code(), format!("--by: {}", error.message())))?;
    let key = get(host, &usage.key.id).await?;
    let filter = UsageFilter { key_id: key.grant.id.clone(), from: usage.from, to: usage.to, by };
    let answer = host.call(Request::Usage(filter)).await?;
    let Answer::Usage(periods) = &answer else { return Err(mismatch(&answer)) };
    if host.look.json {
        host.out(answer.json(true)).await?;
        return Ok(Exit::Done);
    }
    if periods.is_empty() {
        host.note("The ledger knows of nothing that it spent.").await?;
        return Ok(Exit::Done);
    }
    let most = periods.iter().map(|period| period.spent_microcents).max().unwrap_or_default();
    let form = match by {
        Period::Hour => "%Y-%m-%d %H:%M",
        Period::Month => "%Y-%m",
        Period::Year => "%Y",
        _ => "%Y-%m-%d",
    };
    let row = |period: &crate::engine::UsageOfPeriod| {
        let gap = if period.complete { String::new() } else { paint(WARNING, "not all of it is known") };
        let chart = if period.spent_microcents > 0 {
            bar(period.spent_microcents, 0, most, CHART, host.look.unicode)
        } else {
            String::new()
        };
        vec![
            period.from.format(form).to_string(),
            chart,
            money(period.spent_microcents),
            period.charges.to_string(),
            gap,
        ]
    };
    let rows: Vec<_> = periods.iter().map(row).collect();
    host.out(table(&["FROM (UTC)", "SPENT", "AMOUNT>", "CHARGES>", ""], &rows)).await?;
    let sum: i64 = periods.iter().fold(0, |sum, period| sum.saturating_add(period.spent_microcents));
    host.out(format!("{} {}", paint(FAINT, "Together:"), money(sum))).await?;
    if periods.iter().any(|period| !period.complete) {
        host.note(
            "Charges are in the ledger with an idempotency key, or all of them with the option `ledger`.",
        )
        .await?;
    }
    Ok(Exit::Done)
}

pub(super) async fn events(host: &Host, events: Events) -> Outcome {
    let filter = EventFilter {
        key_id: events.key.map(Into::into),
        account_id: events.account.map(Into::into),
        kind: events.kind,
        alarms: events.alarms,
        ..EventFilter::new()
    };
    let mut entries = read(host, &filter, |seen: &[Event]| seen.len() < events.limit as usize).await?;
    entries.truncate(events.limit as usize);
    if entries.is_empty() && !events.follow {
        if host.look.json {
            host.out("[]").await?;
        } else {
            host.note("There are no such entries.").await?;
        }
        return Ok(Exit::Done);
    }
    if !events.follow {
        if host.look.json {
            host.out(Answer::Events(entries).json(true)).await?;
        } else {
            entries.reverse();
            host.out(table(HEADINGS, &entries.iter().map(row).collect::<Vec<_>>())).await?;
        }
        return Ok(Exit::Done);
    }
    follow(host, &filter, entries).await
}

/// The latest entries, the newest first, page by page as long as more are wanted.
async fn read(
    host: &Host,
    filter: &EventFilter,
    wants_more: impl Fn(&[Event]) -> bool,
) -> Outcome<Vec<Event>> {
    let mut entries: Vec<Event> = Vec::new();
    let mut filter = filter.clone().limit(PAGE);
    while wants_more(&entries) {
        let page = match host.call(Request::Events(filter.clone())).await? {
            Answer::Events(page) => page,
            other => return Err(mismatch(&other)),
        };
        let is_last = u32::try_from(page.len()).is_ok_and(|read| read < PAGE);
        entries.extend(page);
        filter.before = entries.last().map(|entry| entry.id);
        if is_last {
            break;
        }
    }
    Ok(entries)
}

/// The entries that were read, then those after the first of them: one that is committed late is not skipped.
async fn follow(host: &Host, filter: &EventFilter, mut new: Vec<Event>) -> Outcome {
    new.reverse();
    let mut told: BTreeSet<i64> = new.iter().map(|entry| entry.id).collect();
    let mut cursor = filter.clone().limit(PAGE).after(new.first().map_or(0, |entry| entry.id));
    if !host.look.json {
        host.note(paint(FAINT, "New entries follow as they come. Ctrl-C ends it.")).await?;
    }
    loop {
        for entry in &new {
            let text = if host.look.json {
                json(entry)
            } else {
                row(entry).into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("  ")
            };
            host.out(text).await?;
        }
        let page = match host.call(Request::Events(cursor.clone())).await {
            Ok(Answer::Events(page)) => page,
            Ok(other) => return Err(mismatch(&other)),
            // A restart of the database ends nothing.
            Err(error) if error.is_transient() => {
                host.note(format!("{} {}", paint(WARNING, "warning:"), shown(error.message()))).await?;
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        cursor.after = page.last().map(|entry| entry.id).or(cursor.after);
        if page.is_empty() {
            host.pause(LOOK).await;
        }
        new = page.into_iter().filter(|entry| !told.remove(&entry.id)).collect();
    }
}

const HEADINGS: &[&str] = &[
    "ENTRY>",
    "TIME (UTC)",
    "KEY",
    "KIND",
    "AMOUNT>",
    "LEFT>",
    "VIA",
    "ACTOR",
    "IDEMPOTENCY KEY",
    "RESERVATION",
    "METADATA",
];

fn row(entry: &Event) -> Vec<String> {
    let text = |value: &Option<String>| value.as_deref().map(cell).unwrap_or_default();
    vec![
        entry.id.to_string(),
        entry.at.format("%Y-%m-%d %H:%M:%S").to_string(),
        cell(&entry.key_id.to_string()),
        cell(&entry.kind),
        entry.amount_microcents.map(money).unwrap_or_default(),
        entry.remaining_after_microcents.map(money).unwrap_or_default(),
        entry.via_key_id.as_ref().map(|id: &KeyId| cell(&id.to_string())).unwrap_or_default(),
        text(&entry.actor),
        text(&entry.idempotency_key),
        text(&entry.reservation_id),
        entry.metadata.as_ref().map(|metadata| cell(&metadata.to_string())).unwrap_or_default(),
    ]
}

pub(super) async fn deliveries(host: &Host, of: Deliveries) -> Outcome {
    let filter = DeliveryFilter { webhook: of.webhook, dead: of.dead, limit: Some(of.limit) };
    let answer = host.call(Request::Deliveries(filter)).await?;
    let Answer::Deliveries(open) = &answer else { return Err(mismatch(&answer)) };
    if host.look.json {
        host.out(answer.json(true)).await?;
    } else if open.is_empty() {
        host.note("All that is known of is delivered.").await?;
    } else {
        let rows: Vec<_> = open
            .iter()
            .map(|delivery| {
                let next = match &delivery.next_at {
                    Some(at) => cell(at),
                    None => paint(WARNING, "never: it is dead"),
                };
                vec![
                    delivery.event_id.to_string(),
                    cell(&delivery.webhook),
                    cell(&delivery.key_id.to_string()),
                    cell(&delivery.kind),
                    delivery.attempts.to_string(),
                    next,
                    delivery.error.as_deref().map(cell).unwrap_or_default(),
                ]
            })
            .collect();
        let headings = &["ENTRY>", "WEBHOOK", "KEY", "KIND", "ATTEMPTS>", "NEXT (UTC)", "ERROR"];
        host.out(table(headings, &rows)).await?;
    }
    Ok(Exit::Done)
}

pub(super) async fn verify(host: &Host, verify: Verify) -> Outcome {
    if let Some(id) = &verify.id {
        get(host, id).await?;
    }
    host.progress("Adding up the ledger ...").await?;
    let answer = host.call(Request::VerifyLedger(verify.id.map(Into::into))).await?;
    let Answer::Verified(differences) = &answer else { return Err(mismatch(&answer)) };
    if host.look.json {
        host.out(answer.json(true)).await?;
    } else if differences.is_empty() {
        host.out(paint(GOOD, "It adds up.")).await?;
    } else {
        let rows: Vec<_> = differences
            .iter()
            .map(|d| {
                let ids = cell(&d.key_id.to_string());
                vec![
                    ids,
                    money(d.used_microcents),
                    money(d.ledger_microcents),
                    money(d.reserved_microcents),
                    money(d.held_microcents),
                ]
            })
            .collect();
        host.out(table(&["KEY", "SPENT>", "SAYS THE LEDGER>", "HELD>", "BY RESERVATIONS>"], &rows)).await?;
        host.note("This means something only where every client of the table has the option `ledger`.")
            .await?;
    }
    Ok(if differences.is_empty() { Exit::Done } else { Exit::Found })
}

pub(super) async fn sweep(host: &Host) -> Outcome {
    host.progress("Ending reservations whose time is over ...").await?;
    let answer = host.call(Request::SweepReservations).await?;
    let Answer::Swept(ended) = answer else { return Err(mismatch(&answer)) };
    let text = if host.look.json {
        answer.json(true)
    } else {
        counted(ended, "reservation", "reservations", "ended")
    };
    host.out(text).await?;
    Ok(Exit::Done)
}

pub(super) async fn prune(host: &Host, prune: &Prune) -> Outcome {
    let none = || {
        Error::new(
            ErrorCode::InvalidDuration,
            "--older-than: Invalid duration: it is empty; give digits and m, h, d or mo",
        )
    };
    let age = crate::duration::read(Some(&prune.older_than))
        .map_err(|error| Error::new(error.code(), format!("--older-than: {}", error.message())))?
        .ok_or_else(none)?;
    let question = format!(
        "Delete the entries of the ledger that are older than {}? Their idempotency keys are then as new.",
        cell(&prune.older_than)
    );
    host.confirm(prune.confirmed.yes, &question).await?;
    host.progress("Deleting ...").await?;
    let answer = host.call(Request::PruneEvents(age)).await?;
    let Answer::Pruned(deleted) = answer else { return Err(mismatch(&answer)) };
    let text =
        if host.look.json { answer.json(true) } else { counted(deleted, "entry", "entries", "deleted") };
    host.out(text).await?;
    Ok(Exit::Done)
}

fn counted(count: u64, one: &str, many: &str, done: &str) -> String {
    if count == 1 { format!("1 {one} {done}.") } else { format!("{count} {many} {done}.") }
}
