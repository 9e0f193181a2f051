//! `explain`: whether a charge would pass, and every limit that it meets.

use super::{mismatch, no_such_key};
use crate::budget::limit::WhenExceeded;
use crate::budget::money::{Cost, MICROCENTS_PER_CENT};
use crate::cli::args::Explain;
use crate::cli::host::{Exit, Host, Outcome};
use crate::cli::table::table;
use crate::cli::text::{ERROR, FAINT, GOOD, WARNING, bar, cell, cents, money, optional_time, paint, time};
use crate::engine::{Answer, Credential, ExplainedLimit, Explanation, Request};
use crate::error::{Error, ErrorCode, shortened};
use crate::id::KeyId;
use crate::key::explanation::LEAST_COST;

const BAR: u64 = 20;

pub(super) async fn explain(host: &Host, of: &Explain) -> Outcome {
    let id = of.key.id.as_str();
    let cost = cost(of)?;
    let answer = host.call(Request::Explain(Credential::Id(id.into()), cost)).await?;
    let Answer::Explained(explanation) = &answer else { return Err(mismatch(&answer)) };
    if explanation.limits.is_empty() {
        return Err(no_such_key(id));
    }
    if host.look.json {
        host.out(answer.json(true)).await?;
        return Ok(Exit::Done);
    }
    host.out(sentence(explanation, cost)).await?;
    let rows: Vec<_> = explanation.limits.iter().map(|limit| row(limit, host.look.unicode)).collect();
    host.out(format!("\n{}", table(LIMITS, &rows))).await?;
    for limit in explanation.limits.iter().filter(|limit| limit.holds.count > 0) {
        host.out(holds(limit)).await?;
    }
    Ok(Exit::Done)
}

fn cost(of: &Explain) -> Result<Cost, Error> {
    match (of.cost_cents, &of.cost_usd) {
        (Some(cents), _) => Ok(Cost::cents(cents)),
        (None, Some(usd)) => match Cost::from_usd(usd.strip_prefix('$').unwrap_or(usd)) {
            Cost::Invalid => {
                let message = format!("Invalid --cost-usd: {}; give dollars, such as 0.0042", shortened(usd));
                Err(Error::new(ErrorCode::InvalidCost, message))
            }
            cost => Ok(cost),
        },
        (None, None) => Ok(LEAST_COST),
    }
}

fn id_of(id: Option<&KeyId>) -> String {
    id.map_or_else(|| "?".to_owned(), |id| cell(&id.to_string()))
}

fn sentence(explanation: &Explanation, cost: Cost) -> String {
    let what = match cost {
        LEAST_COST => "A charge".to_owned(),
        Cost::Microcents(amount) => format!("A charge of {}", money(amount)),
        Cost::Free | Cost::Invalid => "A charge of nothing".to_owned(),
    };
    let mut said = match explanation.reason {
        None => format!("{what} {}.", paint(GOOD, "passes")),
        Some(reason) => {
            let by = explanation.limit_key_id.as_ref();
            let by = by.map(|id| format!(", by key {}", cell(&id.to_string()))).unwrap_or_default();
            format!("{what} is {}: {reason}{by}.", paint(ERROR, "refused"))
        }
    };
    if !explanation.is_live() {
        said.push_str(" Requests are refused: not every key is live.");
    }
    said
}

const LIMITS: &[&str] =
    &["KEY", "NAME", "STATE", "BUDGET", "SPENT>", "HELD>", "FREE>", "COMES BACK>", "OF>", "RESETS (UTC)"];

fn row(limit: &ExplainedLimit, unicode: bool) -> Vec<String> {
    let (used, held) = (limit.balance.used_microcents, limit.balance.reserved_microcents);
    let of = limit.budget_cents.map(|budget| match &limit.budget_period {
        None => cents(budget),
        Some(period) => format!("{}/{}", cents(budget), cell(period)),
    });
    let of = of.map(|of| match limit.when_exceeded {
        Some(WhenExceeded::Disable) => format!("{of}, switches off"),
        _ => of,
    });
    let chart = limit
        .budget_cents
        .map(|budget| bar(used, held, budget.saturating_mul(MICROCENTS_PER_CENT), BAR, unicode));
    let amount = |amount: i64| if amount == 0 { String::new() } else { money(amount) };
    vec![
        id_of(limit.key_id.as_ref()),
        limit.name.as_deref().map(cell).unwrap_or_default(),
        match limit.reason {
            None => paint(GOOD, "live"),
            Some(reason) => paint(ERROR, reason.as_str()),
        },
        chart.unwrap_or_default(),
        money(used),
        amount(held),
        limit.remaining_microcents().map(money).unwrap_or_default(),
        amount(limit.holds.recoverable_microcents),
        of.unwrap_or_default(),
        optional_time(limit.resets_at.as_ref()),
    ]
}

/// What is held of a budget, and by whom.
fn holds(limit: &ExplainedLimit) -> String {
    let held = &limit.holds;
    let rows = held.oldest.iter().map(|hold| {
        vec![
            hold.reservation_id.as_str().to_owned(),
            cell(&hold.key_id.to_string()),
            money(hold.amount_microcents),
            time(&hold.created_at),
            time(&hold.expires_at),
            if hold.expired { paint(WARNING, "its time is over") } else { String::new() },
        ]
    });
    let rows: Vec<_> = rows.collect();
    let how_many = match held.count {
        1 => "by one reservation:".to_owned(),
        count if rows.len() as i64 == count => format!("by {count} reservations:"),
        count => format!("by {count} reservations, the {} oldest of which are:", rows.len()),
    };
    format!(
        "\n{}\n{}",
        paint(
            FAINT,
            &format!(
                "{} of key {} is held {how_many}",
                money(held.amount_microcents),
                id_of(limit.key_id.as_ref())
            )
        ),
        table(&["RESERVATION", "KEY", "AMOUNT>", "SINCE (UTC)", "UNTIL (UTC)", ""], &rows)
    )
}
