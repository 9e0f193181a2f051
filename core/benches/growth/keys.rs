//! A table of very many keys beside one of few: how much of the difference is memory, full pages in the log, the depth of
//! the indexes, the width of rows, and what look-ups remember; and which settings of the server change it.

use serde_json::json;

use crate::callers::OPERATIONS;
use crate::load::Operation;
use crate::report::{Figures, Report, megabytes};
use crate::source::{Source, rounds, rounds_and_costs};
use crate::tables::{self, KeyColumns};
use crate::{Bench, CROWD, Result, number};

const FEW: i64 = 1_000;
const FEW_KEYS: &str = "few_keys";
const WIDE_KEYS: &str = "wide_keys";
const MANY_KEYS: &str = "many_keys";
/// So many times a measurement the server is warmed up: with full pages in the log, too.
const WARM_UPS: u32 = 15;

/// What is called.
struct Case {
    name: &'static str,
    table: &'static str,
    source: Source,
    remembers: bool,
}

/// Settings of the server. The first are the defaults.
struct Settings {
    name: &'static str,
    values: &'static [(&'static str, &'static str)],
}

const WAL_SIZE: (&str, &str) = ("max_wal_size", "8GB");
const CHECKPOINTS: (&str, &str) = ("checkpoint_timeout", "15min");
const COMPRESSED: (&str, &str) = ("wal_compression", "on");
const NO_FULL_PAGES: (&str, &str) = ("full_page_writes", "off");
const LARGER: (&str, &str) = ("shared_buffers", "1GB");
const LARGEST: (&str, &str) = ("shared_buffers", "4GB");

const SETTINGS: [Settings; 8] = [
    Settings { name: "defaults, shared_buffers 128 MB", values: &[] },
    Settings { name: "128 MB, wal_compression", values: &[COMPRESSED] },
    Settings { name: "128 MB, no full pages", values: &[NO_FULL_PAGES] },
    Settings { name: "1 GB", values: &[LARGER] },
    Settings { name: "1 GB, max_wal_size 8 GB", values: &[LARGER, WAL_SIZE, CHECKPOINTS] },
    Settings {
        name: "1 GB, max_wal_size 8 GB, wal_compression",
        values: &[LARGER, WAL_SIZE, CHECKPOINTS, COMPRESSED],
    },
    Settings {
        name: "4 GB, max_wal_size 8 GB, wal_compression",
        values: &[LARGEST, WAL_SIZE, CHECKPOINTS, COMPRESSED],
    },
    Settings {
        name: "4 GB, max_wal_size 8 GB, no full pages",
        values: &[LARGEST, WAL_SIZE, CHECKPOINTS, NO_FULL_PAGES],
    },
];

pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let many = number("AGENTKEY_BENCH_KEYS", 5_000_000, FEW)?;
    let wide = "jsonb_build_object('note', repeat('wide', 250))";
    tables::keys(bench, FEW_KEYS, FEW, KeyColumns::default()).await?;
    tables::keys(bench, WIDE_KEYS, FEW, KeyColumns { metadata: wide, ..KeyColumns::default() }).await?;
    tables::keys(bench, MANY_KEYS, many, KeyColumns::default()).await?;
    let (table, indexes) = tables::sizes(bench, MANY_KEYS).await?;
    report.note(
        &format!("{many} keys: {} and {} of indexes", megabytes(table), megabytes(indexes)),
        Figures::new([("keys", json!(many)), ("tableBytes", json!(table)), ("indexBytes", json!(indexes))]),
    );
    let of = |name, table, source| Case { name, table, source, remembers: true };
    let few = || Source::first(FEW as usize);
    // Far apart, as keys that are in use are.
    let spread = (0..FEW).map(|n| tables::raw_key(1 + n * 7_919 % many)).collect();
    let all = of("all of many", MANY_KEYS, Source::AnyOf(many));
    let cases = [
        of("few", FEW_KEYS, few()),
        of("few, wide", WIDE_KEYS, few()),
        Case { remembers: false, ..of("few, not remembered", FEW_KEYS, few()) },
        of("1,000 of many", MANY_KEYS, Source::These(spread)),
        Case { remembers: false, ..of("1,000 of many, not remembered", MANY_KEYS, few()) },
    ];
    // A look-up may tidy the page that it reads of what charges left there, and so writes to the log: here none did.
    let untouched = of("all of many, nothing charged", MANY_KEYS, Source::AnyOf(many));
    warm_up(bench, &untouched, Operation::Validate).await?;
    calls(bench, report, &SETTINGS[0], &untouched, &[Operation::Validate], many).await?;
    for settings in &SETTINGS {
        if !bench.server.restart_with(settings.values).await? && !settings.values.is_empty() {
            println!("The server was not started for this bench: its settings are not changed.");
            break;
        }
        warm_up(bench, &all, Operation::Charge).await?;
        calls(bench, report, settings, &all, &OPERATIONS, many).await?;
        if settings.values.is_empty() {
            for case in &cases {
                calls(bench, report, settings, case, &OPERATIONS, many).await?;
            }
        }
    }
    bench.server.reset().await?;
    for name in [FEW_KEYS, WIDE_KEYS, MANY_KEYS] {
        tables::drop(bench, name).await?;
    }
    Ok(())
}

/// What fits into memory is there, and pages are in the log since the last checkpoint as after a while of such calls.
async fn warm_up(bench: &Bench, case: &Case, operation: Operation) -> Result<()> {
    // Only where the module is installed: otherwise calls alone fill the memory.
    let prewarm = format!(
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_prewarm') THEN
            CREATE EXTENSION IF NOT EXISTS pg_prewarm;
            PERFORM pg_prewarm('{0}'), pg_prewarm('{0}_pkey'), pg_prewarm('{0}_key_hash_key');
        END IF; END $$",
        case.table
    );
    bench.database.run(&prewarm).await?;
    let client = bench.client(case.table).await?;
    let mut timing = bench.timing;
    // Less for a first look.
    timing.measured =
        timing.measured * WARM_UPS / if timing.rounds() > 1 { timing.rounds() as u32 } else { 5 };
    rounds(&client, operation, &case.source, CROWD, timing).await?;
    client.0.close().await;
    crate::server::Server::wait_for_backends(bench).await
}

async fn calls(
    bench: &Bench,
    report: &mut Report,
    settings: &Settings,
    case: &Case,
    operations: &[Operation],
    many: i64,
) -> Result<()> {
    for &operation in operations {
        for in_flight in [1, CROWD] {
            let builder = bench.builder(case.table);
            let builder = if case.remembers { builder } else { builder.remembered_keys(0) };
            let (sample, costs) =
                rounds_and_costs(bench, builder, |client| client, operation, &case.source, in_flight).await?;
            let name = operation.name();
            let keys = if case.table == MANY_KEYS { many } else { FEW };
            let figures = Figures::new([
                ("operation", json!(name)),
                ("keys", json!(keys)),
                ("case", json!(case.name)),
                ("settings", json!(settings.name)),
                ("inFlight", json!(in_flight)),
            ]);
            let what = format!("{name}, {in_flight} in flight, {}; {}", case.name, settings.name);
            report.add(&what, figures.sample(&sample).costs(&costs));
        }
    }
    Ok(())
}
