//! A ledger of very many entries beside an empty one.

use std::time::{Duration, Instant, SystemTime};

use agentkey::{KeyId, Period, UsageFilter};
use serde_json::json;

use crate::agentkey_client::Ours;
use crate::load::{Contender, Draw, Operation, Sample, Timing};
use crate::report::{Figures, Report, megabytes};
use crate::source::{Source, rounds_and_costs};
use crate::tables::{self, KeyColumns, raw_key};
use crate::{Bench, CROWD, Result, number};

const EMPTY: &str = "young_keys";
const FULL: &str = "old_keys";
/// Keys that spend. The first one has every 20th entry, the others have as many as each other.
const KEYS: i64 = 200_000;
const OF_FIRST: i64 = 20;
/// Reports of a kind at least.
const FEWEST: usize = 5;
/// How long it took to fill it.
const DAYS: i64 = 90;

/// Reports on a key, which is found by its number in the raw key.
#[derive(Clone)]
struct Reporting(Ours, Asked);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Usage,
    UsageOfDay,
    Verify,
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Asked::Usage => "usage",
            Asked::UsageOfDay => "usage of the last day",
            Asked::Verify => "verifyLedger",
        }
    }
}

impl Contender for Reporting {
    async fn validate(&self, raw_key: &str) -> Result<bool> {
        let id: i64 = raw_key.rsplit('_').next().unwrap_or_default().parse()?;
        let Reporting(Ours(client), asked) = self;
        let usage = UsageFilter::of_key(id);
        Ok(match asked {
            Asked::Usage => client.usage(usage.by(Period::Month)).await?.iter().all(|of| of.complete),
            Asked::UsageOfDay => {
                let yesterday = SystemTime::now() - Duration::from_secs(86_400);
                let usage = usage.from(yesterday.into()).by(Period::Hour);
                client.usage(usage).await?.iter().all(|of| of.complete)
            }
            Asked::Verify => client.verify_ledger(Some(KeyId::from(id))).await?.is_empty(),
        })
    }

    async fn charge(&self, _raw_key: &str) -> Result<bool> {
        Err("it reports only".into())
    }
}

pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let entries = number("AGENTKEY_BENCH_ENTRIES", 20_000_000, 2 * KEYS)?;
    tables::keys(bench, EMPTY, KEYS, KeyColumns::default()).await?;
    let used = used(entries);
    tables::keys(bench, FULL, KEYS, KeyColumns { used_cents: &used, ..KeyColumns::default() }).await?;
    fill(bench, entries).await?;
    let (table, indexes) = tables::sizes(bench, &format!("{FULL}_events")).await?;
    report.note(
        &format!("{entries} entries: {} and {} of indexes", megabytes(table), megabytes(indexes)),
        Figures::new([
            ("entries", json!(entries)),
            ("tableBytes", json!(table)),
            ("indexBytes", json!(indexes)),
        ]),
    );
    for (table, entries) in [(EMPTY, 0), (FULL, entries)] {
        charges(bench, report, table, entries).await?;
        for asked in [Asked::Usage, Asked::UsageOfDay, Asked::Verify] {
            let ordinary = (entries - entries / OF_FIRST) / (KEYS - 1);
            reports(bench, report, table, asked, entries, ordinary).await?;
            if entries > 0 {
                reports(bench, report, table, asked, entries, entries / OF_FIRST).await?;
            }
        }
    }
    tables::drop(bench, EMPTY).await?;
    tables::drop(bench, FULL).await
}

/// What each key used, by its number: a cent an entry.
fn used(entries: i64) -> String {
    let (first, rest, others) = (entries / OF_FIRST, entries - entries / OF_FIRST, KEYS - 1);
    format!("CASE n WHEN 1 THEN {first} ELSE {rest} / {others} + (n - 2 < {rest} % {others})::int END")
}

/// Entries of all keys by turns: those of one key are far apart, as they are where many keys spend.
async fn fill(bench: &Bench, entries: i64) -> Result<()> {
    eprintln!("making {entries} entries ...");
    let others = KEYS - 1;
    let insert = format!(
        "INSERT INTO {FULL}_events (at, key_id, account_id, kind, amount_microcents, used_after_microcents,
            reserved_after_microcents, remaining_after_microcents, budget_cents)
        SELECT now() - ({entries} - n) * (interval '{DAYS} days' / {entries}), key, 'acct_' || key / 100, 'charge', 1000000,
            nth * 1000000, 0, (1000000000000 - nth) * 1000000, 1000000000000
        FROM generate_series(1::bigint, {entries}) n,
        LATERAL (SELECT n - n / {OF_FIRST} - 1 AS place) p,
        LATERAL (SELECT
            CASE WHEN n % {OF_FIRST} = 0 THEN 1 ELSE 2 + place % {others} END AS key,
            CASE WHEN n % {OF_FIRST} = 0 THEN n / {OF_FIRST} ELSE place / {others} + 1 END AS nth) k"
    );
    tables::fill(bench, &format!("{FULL}_events"), &insert).await?;
    bench.database.run("CHECKPOINT").await
}

async fn charges(bench: &Bench, report: &mut Report, table: &str, entries: i64) -> Result<()> {
    for in_flight in [1, CROWD] {
        let builder = bench.builder(table).ledger(true);
        let source = Source::AnyOf(KEYS);
        let measured = rounds_and_costs(bench, builder, |ours| ours, Operation::Charge, &source, in_flight);
        let (sample, costs) = measured.await?;
        let figures = Figures::new([
            ("operation", json!("charge")),
            ("entries", json!(entries)),
            ("inFlight", json!(in_flight)),
        ]);
        let what = format!("charge into {entries} entries, {in_flight} in flight");
        report.add(&what, figures.sample(&sample).costs(&costs));
    }
    Ok(())
}

/// One report at a time, of a key that has so many of the entries.
async fn reports(
    bench: &Bench,
    report: &mut Report,
    table: &str,
    asked: Asked,
    entries: i64,
    of_key: i64,
) -> Result<()> {
    let client = bench.client(table).await?;
    let reporting = Reporting(client.clone(), asked);
    let is_first = of_key > 0 && of_key == entries / OF_FIRST;
    let mut draw = Draw(of_key as u64);
    let (mut latencies, until) = (Vec::new(), Instant::now() + bench.timing.measured);
    while latencies.len() <= FEWEST || Instant::now() < until {
        let key = raw_key(1 + if is_first { 0 } else { draw.below(KEYS as usize) as i64 });
        let begun = Instant::now();
        if !reporting.validate(&key).await? {
            return Err(format!("{} of {key}: it does not add up", asked.name()).into());
        }
        latencies.push(begun.elapsed());
    }
    client.0.close().await;
    // The first one warms up.
    latencies.remove(0);
    let measured = latencies.iter().sum();
    let sample = Sample::of(latencies, Timing { measured })?;
    let figures = Figures::new([
        ("operation", json!(asked.name())),
        ("entries", json!(entries)),
        ("entriesOfKey", json!(of_key)),
        ("inFlight", json!(1)),
    ]);
    let what = format!("{} of a key with {of_key} of {entries} entries", asked.name());
    report.add(&what, figures.sample(&sample));
    Ok(())
}
