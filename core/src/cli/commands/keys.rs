//! Keys as they are: `list`, `show`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{mismatch, no_such_key};
use crate::budget::limit::{LimitState, WhenExceeded};
use crate::budget::money::MICROCENTS_PER_CENT;
use crate::cli::args::List;
use crate::cli::host::{Exit, Host, Outcome};
use crate::cli::table::{facts, table};
use crate::cli::text::{ERROR, FAINT, GOOD, WARNING, bar, cell, cents, money, optional_time, paint};
use crate::engine::{Answer, Request};
use crate::error::{Error, ErrorCode};
use crate::id::KeyId;
use crate::key::grant::DenialReason;
use crate::key::record::{KeyFilter, KeyRecord};

/// The most that one call lists.
const PAGE: u32 = 1_000;
const BAR: u64 = 20;

pub(super) async fn list(host: &Host, list: List) -> Outcome {
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let filter = KeyFilter {
        account_id: list.account.map(Into::into),
        parent: list.parent.map(Into::into),
        delegated_by: list.delegated_by,
        state: list.state.map(|state| state.parse()).transpose()?,
        scope: list.scope,
        metadata: list.metadata.as_deref().map(|text| object("--metadata", text)).transpose()?,
        over_share: list.over_share,
        after: list.after.map(Into::into),
        limit: None,
    };
    let mut keys = read(host, filter, limit.saturating_add(1)).await?;
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    if host.look.json {
        host.out(Answer::Keys(keys.clone()).json(true)).await?;
    } else if keys.is_empty() {
        host.note("There are no such keys.").await?;
    } else {
        host.out(table(HEADINGS, &tree(&keys, host.look.unicode))).await?;
    }
    if let (true, Some(last)) = (has_more, keys.last()) {
        host.note(format!("There are more keys: go on with --after {}, or give --limit.", last.grant.id))
            .await?;
    }
    Ok(Exit::Done)
}

/// Reads a JSON object; an error names the flag.
pub(super) fn object(flag: &str, text: &str) -> Result<Map<String, Value>, Error> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("Invalid {flag}: give a JSON object, such as {{\"team\":\"red\"}}: {error}");
        Error::new(ErrorCode::InvalidText, message)
    })
}

/// Keys of a filter, page by page, so many at most.
pub(super) async fn read(host: &Host, mut filter: KeyFilter, most: usize) -> Outcome<Vec<KeyRecord>> {
    let mut keys: Vec<KeyRecord> = Vec::new();
    while keys.len() < most {
        let page = u32::try_from(most - keys.len()).unwrap_or(PAGE).min(PAGE);
        filter.limit = Some(page);
        let read = match host.call(Request::List(filter.clone())).await? {
            Answer::Keys(read) => read,
            other => return Err(mismatch(&other)),
        };
        let is_last = u32::try_from(read.len()).is_ok_and(|read| read < page);
        keys.extend(read);
        filter.after = keys.last().map(|key| key.grant.id.clone());
        if is_last {
            break;
        }
        if keys.len().is_multiple_of(10 * PAGE as usize) {
            host.progress(format!("{} keys read ...", keys.len())).await?;
        }
    }
    Ok(keys)
}

const HEADINGS: &[&str] = &[
    "ID",
    "NAME",
    "ACCOUNT",
    "STATE",
    "BUDGET",
    "SPENT>",
    "HELD>",
    "FREE>",
    "OF>",
    "RESETS (UTC)",
    "EXPIRES (UTC)",
    "DELEGATED BY",
];

/// Rows of a table, each key below its parent. Keys whose parent is not listed stand at the top.
fn tree(keys: &[KeyRecord], unicode: bool) -> Vec<Vec<String>> {
    let listed: HashSet<&KeyId> = keys.iter().map(|key| &key.grant.id).collect();
    let mut children: HashMap<Option<&KeyId>, Vec<&KeyRecord>> = HashMap::new();
    for key in keys {
        let parent =
            key.parent_id.as_ref().filter(|parent| listed.contains(parent) && **parent != key.grant.id);
        children.entry(parent).or_default().push(key);
    }
    let [branch, last, through, blank] =
        if unicode { ["├─ ", "└─ ", "│  ", "   "] } else { ["+- ", "`- ", "|  ", "   "] };
    let mut rows = Vec::new();
    let mut told: HashSet<&KeyId> = HashSet::new();
    // With what stands before the id, and before its children's.
    let mut stack: Vec<(&KeyRecord, String, String)> = Vec::new();
    let roots = children.get(&None).into_iter().flatten().copied();
    // Keys that are their own ancestors hang on no root.
    for root in roots.chain(keys) {
        if told.contains(&root.grant.id) {
            continue;
        }
        stack.push((root, String::new(), String::new()));
        while let Some((key, before, below)) = stack.pop() {
            if !told.insert(&key.grant.id) {
                continue;
            }
            rows.push(row(key, &before, unicode));
            let below_it = children.get(&Some(&key.grant.id)).map(Vec::as_slice).unwrap_or_default();
            for (place, child) in below_it.iter().enumerate().rev() {
                let is_last = place + 1 == below_it.len();
                let (mark, deeper) = if is_last { (last, blank) } else { (branch, through) };
                stack.push((child, format!("{below}{mark}"), format!("{below}{deeper}")));
            }
        }
    }
    rows
}

fn row(key: &KeyRecord, before: &str, unicode: bool) -> Vec<String> {
    let grant = &key.grant;
    let whole = grant.budget_cents.map(|cents| cents.saturating_mul(MICROCENTS_PER_CENT));
    let (spent, held) = (grant.budget_used_microcents, grant.budget_reserved_microcents);
    let limit = match (grant.budget_cents, &grant.budget_period) {
        (None, _) => String::new(),
        (Some(budget), None) => cents(budget),
        (Some(budget), Some(period)) => format!("{}/{}", cents(budget), cell(period)),
    };
    vec![
        format!("{}{}", paint(FAINT, before), cell(&grant.id.to_string())),
        cell(&grant.name),
        grant.account_id.as_ref().map(|id| cell(&id.to_string())).unwrap_or_default(),
        state(key),
        whole.map(|whole| bar(spent, held, whole, BAR, unicode)).unwrap_or_default(),
        money(spent),
        if held == 0 { String::new() } else { money(held) },
        grant.budget_remaining_microcents().map(money).unwrap_or_default(),
        limit,
        optional_time(grant.budget_reset_at.as_ref()),
        optional_time(grant.expires_at.as_ref()),
        grant.delegated_by.as_deref().map(cell).unwrap_or_default(),
    ]
}

/// What `validate` would say of it.
fn state(key: &KeyRecord) -> String {
    match key.reason {
        None => paint(GOOD, "live"),
        Some(reason @ (DenialReason::Disabled | DenialReason::BudgetExceeded)) => {
            paint(WARNING, reason.as_str())
        }
        Some(reason) => paint(ERROR, reason.as_str()),
    }
}

/// A key, or that there is none.
pub(super) async fn get(host: &Host, id: &str) -> Outcome<KeyRecord> {
    match host.call(Request::Get(id.into())).await? {
        Answer::Key(Some(key)) => Ok(*key),
        Answer::Key(None) => Err(no_such_key(id)),
        other => Err(mismatch(&other)),
    }
}

pub(super) async fn show(host: &Host, id: &str) -> Outcome {
    let key = get(host, id).await?;
    tell(host, key).await
}

/// A key on standard output.
pub(super) async fn tell(host: &Host, key: KeyRecord) -> Outcome {
    if host.look.json {
        host.out(Answer::Key(Some(Box::new(key))).json(true)).await?;
        return Ok(Exit::Done);
    }
    // A chain is eight keys at most; one that is a circle ends where it began.
    let mut chain = vec![key.clone()];
    while let Some(parent) = chain.last().and_then(|key| key.parent_id.clone()) {
        if chain.iter().any(|key| key.grant.id == parent) {
            break;
        }
        match host.call(Request::Get(parent)).await? {
            Answer::Key(Some(parent)) => chain.push(*parent),
            _ => break,
        }
    }
    host.out(record(&key)).await?;
    if chain.len() > 1 || key.grant.budget_cents.is_some() {
        let rows: Vec<_> = chain.iter().map(|key| row(key, "", host.look.unicode)).collect();
        host.out(format!(
            "\n{}\n{}",
            paint(FAINT, "What it draws on, the nearest first:"),
            table(HEADINGS, &rows)
        ))
        .await?;
    }
    Ok(Exit::Done)
}

fn limit(limit: &LimitState) -> String {
    let period =
        limit.period.as_deref().map_or_else(|| "for life".to_owned(), |p| format!("every {}", cell(p)));
    let then = if limit.when_exceeded == WhenExceeded::Disable { ", switches the key off" } else { "" };
    format!("{} {period} ({} free{then})", cents(limit.cents), cents(limit.remaining_cents))
}

/// By how much the budget is raised, and until when.
fn raised(key: &KeyRecord) -> String {
    match (key.budget_boost_cents, key.budget_boost_until.as_ref()) {
        (Some(amount), until @ Some(_)) => {
            format!("{} of it until {} UTC", cents(amount), optional_time(until))
        }
        _ => String::new(),
    }
}

fn record(key: &KeyRecord) -> String {
    let grant = &key.grant;
    let scopes = match grant.scopes.as_deref() {
        None => "everything".to_owned(),
        Some([]) => "nothing".to_owned(),
        Some(scopes) => scopes.iter().map(|scope| cell(scope)).collect::<Vec<_>>().join(", "),
    };
    let text = |value: &Option<String>| value.as_deref().map(cell).unwrap_or_default();
    let utc = |at: Option<&chrono::DateTime<chrono::Utc>>| {
        at.map(|_| format!("{} UTC", optional_time(at))).unwrap_or_default()
    };
    let budget = match (grant.budget_cents, &grant.budget_period) {
        (None, _) => "none of its own".to_owned(),
        (Some(budget), None) => format!("{} for life", cents(budget)),
        (Some(budget), Some(period)) => format!("{} a {}", cents(budget), cell(period)),
    };
    facts(&[
        ("Key", format!("{} ({})", cell(&grant.id.to_string()), cell(&grant.name))),
        ("State", state(key)),
        ("Secret", format!("{}...", cell(&key.key_prefix))),
        ("Account", grant.account_id.as_ref().map(|id| cell(&id.to_string())).unwrap_or_default()),
        ("User", text(&grant.user_id)),
        ("Subject", text(&key.external_subject)),
        ("Parent", key.parent_id.as_ref().map(|id| cell(&id.to_string())).unwrap_or_default()),
        ("Delegated by", text(&grant.delegated_by)),
        ("Scopes", scopes),
        ("Budget", budget),
        ("Limits", key.limits.iter().map(limit).collect::<Vec<_>>().join("; ")),
        ("Raised", raised(key)),
        ("Spent", money(grant.budget_used_microcents)),
        ("Held", money(grant.budget_reserved_microcents)),
        ("Free", grant.budget_remaining_microcents().map(money).unwrap_or_default()),
        ("Resets", utc(grant.budget_reset_at.as_ref())),
        ("Created", utc(key.created_at.as_ref())),
        ("Last used", utc(key.last_used_at.as_ref())),
        ("Expires", utc(grant.expires_at.as_ref())),
        ("Disabled", utc(key.disabled_at.as_ref())),
        ("Revoked", utc(key.revoked_at.as_ref())),
    ])
}
