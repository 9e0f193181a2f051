//! A key with a budget that holds: 64 workers charge it at once until it stops them, and the table agrees to the cent.
//!
//! `make demo`, or with a Postgres of your own: `DATABASE_URL=... cargo run --release --example demo`. It works in a
//! database that it makes and drops.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use agentkey::{AgentKey, CreateKey, Created, Denial, Period};
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const BUDGET_CENTS: i64 = 50;
const WORKERS: i64 = 64;
const DEAREST_CENTS: i64 = 7;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set: run `make demo`")?;
    let server: PgConnectOptions = url.parse()?;
    let name = format!("agentkey_demo_{}", std::process::id());
    admin(&server, format!("CREATE DATABASE {name}")).await?;
    let outcome = in_database(server.clone().database(&name)).await;
    admin(&server, format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    outcome
}

async fn admin(server: &PgConnectOptions, sql: String) -> Result<()> {
    let mut connection = PgConnection::connect_with(server).await?;
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(connection.close().await?)
}

async fn in_database(options: PgConnectOptions) -> Result<()> {
    let pool = PgPoolOptions::new().connect_with(options).await?;
    let ak = AgentKey::builder().pool(pool.clone())?;
    ak.migrate().await?;

    let key = mint(&ak).await?;
    let tally = race(&ak, &key).await?;
    tally.print();
    after(&ak, &key).await?;
    let agreed = reconcile(&pool, &key, &tally).await;
    ak.close().await;
    pool.close().await;
    agreed
}

async fn mint(ak: &AgentKey) -> Result<Created> {
    let spec = CreateKey::new("acme")
        .name("research agents")
        .scopes(["search", "summarise"])
        .budget_cents(BUDGET_CENTS)
        .budget_period(Period::Day)
        .expires_in(Duration::from_secs(3600))
        .delegated_by("alice@example.com");
    let key = ak.create(spec).await?;
    let grant =
        ak.validate(key.key.expose()).await?.map_err(|denial| format!("a new key is refused: {denial:?}"))?;
    println!("Alice gives her research agents one key.");
    println!("  key            {}... (shown once; the table keeps a hash)", shown(&key));
    println!("  scopes         {}", grant.scopes.as_deref().unwrap_or_default().join(", "));
    println!("  budget         {BUDGET_CENTS} cents a day");
    println!("  expires        {}", time(grant.expires_at));
    println!("  authorised by  {}", grant.delegated_by.as_deref().unwrap_or("nobody"));
    println!(
        "  may it search? {}   may it deploy? {}",
        yes(grant.has_scope("search")),
        yes(grant.has_scope("deploy"))
    );
    println!();
    Ok(key)
}

/// What the workers were told.
#[derive(Default)]
struct Tally {
    /// How many charges of how many cents.
    granted: BTreeMap<i64, i64>,
    refused: BTreeMap<i64, i64>,
    micros: u128,
    statements: u64,
}

impl Tally {
    fn acknowledged_cents(&self) -> i64 {
        self.granted.iter().map(|(cents, count)| cents * count).sum()
    }

    fn print(&self) {
        let list = |charges: &BTreeMap<i64, i64>| {
            charges.iter().map(|(cents, count)| format!("{count} of {cents}c")).collect::<Vec<_>>().join(", ")
        };
        let count = |charges: &BTreeMap<i64, i64>| charges.values().sum::<i64>();
        println!(
            "{WORKERS} workers charge 1 to {DEAREST_CENTS} cents at once, cheaper after a refusal, until not a cent is left."
        );
        println!("  granted  {:>4} charges: {}", count(&self.granted), list(&self.granted));
        println!("  refused  {:>4} charges: {}", count(&self.refused), list(&self.refused));
        println!("  took     {} us and {} statements", self.micros, self.statements);
        println!();
    }
}

async fn race(ak: &AgentKey, key: &Created) -> Result<Tally> {
    let mut tally = Tally::default();
    let (started, statements) = (Instant::now(), ak.stats().statements);
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let (ak, key) = (ak.clone(), key.key.clone());
        workers.spawn(async move { work(&ak, key.expose(), 1 + number % DEAREST_CENTS).await });
    }
    while let Some(worker) = workers.join_next().await {
        for (cents, recorded) in worker?? {
            let charges = if recorded { &mut tally.granted } else { &mut tally.refused };
            *charges.entry(cents).or_default() += 1;
        }
    }
    tally.micros = started.elapsed().as_micros();
    tally.statements = ak.stats().statements - statements;
    Ok(tally)
}

/// A worker, until it cannot spend a single cent. Its charges, and whether each was recorded.
async fn work(ak: &AgentKey, key: &str, mut cents: i64) -> Result<Vec<(i64, bool)>> {
    let mut charges = Vec::new();
    while cents > 0 {
        let recorded = ak.track_usage(key, cents).await?.is_ok();
        charges.push((cents, recorded));
        cents -= i64::from(!recorded);
    }
    Ok(charges)
}

/// What the key is told once its budget is spent, and once it is revoked.
async fn after(ak: &AgentKey, key: &Created) -> Result<()> {
    let denial = refusal(ak, key).await?;
    let limit = denial.limit.ok_or("a refusal for the budget that does not name it")?;
    println!(
        "The key is refused now: {}, {} of {} cents used, resets {}.",
        denial.reason,
        limit.used_cents,
        limit.budget_cents,
        time(limit.resets_at)
    );
    if !ak.revoke(key.id.clone()).await? {
        return Err("a live key could not be revoked".into());
    }
    println!("Alice revokes it: {}, at once and everywhere.", refusal(ak, key).await?.reason);
    println!();
    Ok(())
}

async fn refusal(ak: &AgentKey, key: &Created) -> Result<Denial> {
    match ak.validate(key.key.expose()).await? {
        Ok(_) => Err("a key that may not spend is granted".into()),
        Err(denial) => Ok(denial),
    }
}

/// Whether the table says what the workers were told.
async fn reconcile(pool: &PgPool, key: &Created, tally: &Tally) -> Result<()> {
    let sql = "SELECT budget_used_cents FROM sdk_api_keys WHERE id::text = $1";
    let stored: i64 = sqlx::query(sql).bind(key.id.to_string()).fetch_one(pool).await?.try_get(0)?;
    let acknowledged = tally.acknowledged_cents();
    println!("  granted to workers           {acknowledged:>4} cents");
    println!("  budget_used_cents, in psql   {stored:>4} cents");
    println!("  budget                       {BUDGET_CENTS:>4} cents");
    if acknowledged != stored || stored != BUDGET_CENTS {
        return Err("the accounts do not agree".into());
    }
    println!("They agree to the cent.");
    Ok(())
}

fn shown(key: &Created) -> &str {
    key.key.expose().get(..11).unwrap_or_default()
}

fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| at.format("%Y-%m-%d %H:%M UTC").to_string())
}

fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}
