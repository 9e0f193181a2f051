//! Charges without an end, and what their callers were told of them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::{Duration, Instant};

use agentkey::{AgentKey, Charge, CreateKey, Error, ErrorCode};
use tokio::task::JoinSet;

use super::{TestDatabase, eventually};

pub const LIMIT: Duration = Duration::from_secs(2);
const CALLERS: i64 = 40;
/// What a loaded machine may need to tell a caller that its time is over: less than for ever.
pub const GRACE: Duration = Duration::from_secs(20);

/// Callers that charge a key again and again, and what they were told.
pub struct Load {
    ak: AgentKey,
    stop: Arc<AtomicBool>,
    pub told: Arc<Told>,
    callers: JoinSet<()>,
}

#[derive(Default)]
pub struct Told {
    pub acknowledged: AtomicI64,
    /// Of charges that failed and may have been recorded.
    pub unknown: AtomicI64,
    /// Calls that failed, whatever they say.
    pub failed: AtomicI64,
}

impl Told {
    fn hear_of(&self, error: &Error, cost: i64, is_repeated: bool) {
        assert!(matches!(error.code(), ErrorCode::Database | ErrorCode::Timeout), "{error}");
        assert!(error.message().len() > 10, "says what happened: {error}");
        self.failed.fetch_add(1, Relaxed);
        if error.may_have_been_recorded() && !is_repeated {
            self.unknown.fetch_add(cost, Relaxed);
        }
    }
}

impl Load {
    /// Plain charges: one that failed is not repeated.
    pub fn start(ak: &AgentKey, key: &str) -> Load {
        Self::start_with(ak, key, false)
    }

    /// Charges with idempotency keys: one that failed is repeated until it is acknowledged.
    pub fn start_idempotent(ak: &AgentKey, key: &str) -> Load {
        Self::start_with(ak, key, true)
    }

    fn start_with(ak: &AgentKey, key: &str, is_repeated: bool) -> Load {
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Told::default()));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (ak, key, stop, told) = (ak.clone(), key.to_owned(), Arc::clone(&stop), Arc::clone(&told));
            callers.spawn(async move {
                let cost = 1 + caller % 7;
                let mut calls = 0;
                let mut is_open = false;
                while is_open || !stop.load(Relaxed) {
                    let began = Instant::now();
                    let charge = match is_repeated {
                        true => Charge::new(cost).idempotency_key(format!("{caller} {calls}")),
                        false => Charge::new(cost),
                    };
                    match ak.track_usage(&key, charge).await {
                        Ok(usage) => {
                            assert!(usage.is_ok(), "no cap was near: {usage:?}");
                            told.acknowledged.fetch_add(cost, Relaxed);
                            (calls, is_open) = (calls + 1, false);
                        }
                        Err(error) => {
                            told.hear_of(&error, cost, is_repeated);
                            is_open = is_repeated;
                        }
                    }
                    assert!(began.elapsed() < LIMIT + GRACE, "a call took {:?}", began.elapsed());
                }
            });
        }
        Load { ak: ak.clone(), stop, told, callers }
    }

    /// Waits until this much more was acknowledged.
    pub async fn flows(&self, cents: i64) {
        let before = self.told.acknowledged.load(Relaxed);
        eventually("charges are acknowledged", async || {
            self.told.acknowledged.load(Relaxed) > before + cents
        })
        .await;
    }

    /// No more charges.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Ends the load and compares what was told with what is recorded. Answers acknowledged, used and unknown.
    pub async fn check(self, db: &TestDatabase) -> (i64, i64, i64) {
        self.check_key(db, "true").await
    }

    /// The same of the keys that a condition names.
    pub async fn check_key(mut self, db: &TestDatabase, which: &str) -> (i64, i64, i64) {
        self.stop.store(true, Relaxed);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
        tokio::time::timeout(LIMIT + GRACE, self.ak.close()).await.expect("the client comes to rest");
        // A statement whose caller was told `timeout` may still be on its way.
        let active = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()";
        eventually("the database is at rest", async || db.number(active).await == 0).await;
        let used = format!("SELECT sum(budget_used_cents) FROM sdk_api_keys WHERE {which}");
        let used = db.number(&used).await;
        let (acknowledged, unknown) = (self.told.acknowledged.load(Relaxed), self.told.unknown.load(Relaxed));
        assert!(
            acknowledged <= used && used <= acknowledged + unknown,
            "{acknowledged} <= {used} <= {acknowledged} + {unknown}"
        );
        (acknowledged, used, unknown)
    }
}

/// A client with a pool of its own on a fresh table, and a key.
pub async fn client(db: &TestDatabase, url: &str) -> (AgentKey, String) {
    let ak = AgentKey::builder().timeout(LIMIT).connect(url).await.unwrap();
    ak.migrate().await.unwrap();
    let created = ak.create(CreateKey::new("acct").budget_cents(1_000_000_000)).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys").await, 1);
    (ak, created.key.expose().to_owned())
}
