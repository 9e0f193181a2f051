//! Reserve and settle beside very many reservations that have ended: new, as they are left, and after autovacuum.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::agentkey_client::Ours;
use crate::load::{Contender, Operation, Timing};
use crate::report::{Figures, Report, megabytes};
use crate::source::{Source, rounds, rounds_and_costs};
use crate::tables::{self, KeyColumns};
use crate::{Bench, CROWD, Result, number};

const TABLE: &str = "holding_keys";
const COMPANION: &str = "holding_keys_reservations";
const KEYS: i64 = 1_000;
/// How often autovacuum looks, in place of once a minute.
const NAPTIME: (&str, &str) = ("autovacuum_naptime", "5s");
/// So many times a measurement the last load takes.
const LONG: u32 = 30;

/// A reserve and its settle for each charge.
#[derive(Clone)]
struct Reserving(Ours);

impl Contender for Reserving {
    async fn validate(&self, _raw_key: &str) -> Result<bool> {
        Err("it charges only".into())
    }

    async fn charge(&self, raw_key: &str) -> Result<bool> {
        let Ours(client) = &self.0;
        match client.reserve(raw_key, 2).await? {
            Ok(held) => Ok(client.settle(&held.id, 1).await?.is_ok()),
            Err(_) => Ok(false),
        }
    }
}

pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let ended = number("AGENTKEY_BENCH_RESERVATIONS", 2_000_000, 1_000)?;
    bench.server.restart_with(&[NAPTIME]).await?;
    tables::keys(bench, TABLE, KEYS, KeyColumns::default()).await?;
    autovacuum(bench, false).await?;
    pairs(bench, report, "none ended").await?;
    sizes(bench, report, "none ended", None).await?;

    eprintln!("making {ended} reservations that have ended ...");
    let make = format!(
        "INSERT INTO {COMPANION} (id, key_id, amount_microcents, created_at, expires_at)
        SELECT gen_random_uuid(), 1 + n % {KEYS}, 2000000, at, at + interval '10 minutes'
        FROM generate_series(1::bigint, {ended}) n, LATERAL (SELECT now() - n * (interval '1 day' / {ended}) AS at) a;
        UPDATE {COMPANION} SET state = 'settled', finished_at = created_at, settled_microcents = 1000000,
            budget_cents = 1000000000000, used_after_microcents = 1000000, reserved_after_microcents = 0;
        ANALYZE {COMPANION}"
    );
    bench.database.run(&make).await?;
    bench.database.run("CHECKPOINT").await?;
    sizes(bench, report, "not vacuumed", None).await?;
    pairs(bench, report, "not vacuumed").await?;

    let begun = Instant::now();
    autovacuum(bench, true).await?;
    wait_for_autovacuum(bench).await?;
    sizes(bench, report, "autovacuumed", Some(begun.elapsed())).await?;
    pairs(bench, report, "autovacuumed").await?;

    // With autovacuum beside it, as it is in life.
    let client = bench.client(TABLE).await?;
    let timing = Timing { measured: bench.timing.measured * LONG / bench.timing.rounds() as u32 };
    let source = Source::first(KEYS as usize);
    let sample = rounds(&Reserving(client.clone()), Operation::Charge, &source, CROWD, timing).await?;
    client.0.close().await;
    let figures = figures("autovacuum beside it").with("inFlight", CROWD).sample(&sample);
    report.add(&format!("reserve and settle for {LONG} times as long, autovacuum beside it"), figures);
    sizes(bench, report, "autovacuum beside it", None).await?;
    tables::drop(bench, TABLE).await?;
    bench.server.reset().await
}

fn figures(companion: &str) -> Figures {
    Figures::new([("operation", json!("reserve and settle")), ("companion", json!(companion))])
}

async fn pairs(bench: &Bench, report: &mut Report, companion: &str) -> Result<()> {
    for in_flight in [1, CROWD] {
        let source = Source::first(KEYS as usize);
        let builder = bench.builder(TABLE);
        let measured = rounds_and_costs(bench, builder, Reserving, Operation::Charge, &source, in_flight);
        let (sample, costs) = measured.await?;
        let figures = figures(companion).with("inFlight", in_flight).sample(&sample).costs(&costs);
        report.add(&format!("reserve and settle, {in_flight} in flight, {companion}"), figures);
    }
    Ok(())
}

async fn sizes(bench: &Bench, report: &mut Report, companion: &str, took: Option<Duration>) -> Result<()> {
    let (table, indexes) = tables::sizes(bench, COMPANION).await?;
    let of = async |what: &str| -> Result<i64> {
        let sql = format!("SELECT {what} FROM pg_stat_user_tables WHERE relname = '{COMPANION}'");
        Ok(bench.database.text(&sql).await?.parse()?)
    };
    let (live, dead) = (of("n_live_tup").await?, of("n_dead_tup").await?);
    let pending: i64 = {
        let sum = format!(
            "SELECT sum(pg_relation_size(indexrelid)) FROM pg_index WHERE indrelid = '{COMPANION}'::regclass AND indpred IS NOT NULL"
        );
        bench.database.text(&sum).await?.parse()?
    };
    let took = took.map(|took| took.as_secs());
    let figures = Figures::new([
        ("companion", json!(companion)),
        ("tableBytes", json!(table)),
        ("indexBytes", json!(indexes)),
        ("pendingIndexBytes", json!(pending)),
        ("liveRows", json!(live)),
        ("deadRows", json!(dead)),
        ("tookSeconds", json!(took)),
    ]);
    let what = format!(
        "reservations, {companion}: {} and {} of indexes, {} of them of what is pending; {live} rows, {dead} dead{}",
        megabytes(table),
        megabytes(indexes),
        megabytes(pending),
        took.map_or(String::new(), |took| format!("; it took {took} s"))
    );
    report.note(&what, figures);
    Ok(())
}

async fn autovacuum(bench: &Bench, is_on: bool) -> Result<()> {
    bench.database.run(&format!("ALTER TABLE {COMPANION} SET (autovacuum_enabled = {is_on})")).await
}

async fn wait_for_autovacuum(bench: &Bench) -> Result<()> {
    let count = format!("SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = '{COMPANION}'");
    for _ in 0..6_000 {
        if bench.database.text(&count).await? != "0" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("autovacuum did not come".into())
}
