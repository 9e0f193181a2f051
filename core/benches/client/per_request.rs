//! The usual way, done well: prepared statements for each call, on the same kind of pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentkey::engine::KeyHash;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::Notify;

use crate::Result;
use crate::load::Contender;

/// Looks a key up.
pub const SELECT: &str = "
    SELECT id, account_id, user_id, scopes, budget_cents,
        CASE WHEN budget_reset_at <= now() THEN 0 ELSE budget_used_cents END,
        budget_period, extract(epoch FROM budget_reset_at)::float8, extract(epoch FROM expires_at)::float8,
        delegated_by, name, revoked_at IS NOT NULL, coalesce(expires_at <= now(), false)
    FROM sdk_api_keys WHERE key_hash = $1";

/// Notes that it was used.
const TOUCH: &str = "UPDATE sdk_api_keys SET last_used_at = now() WHERE id = $1";

/// Charges a key if the cost fits its budget; a period that is over starts afresh.
pub const CHARGE: &str = "
    UPDATE sdk_api_keys SET
        budget_used_cents = CASE WHEN budget_reset_at <= now() THEN 0 ELSE budget_used_cents END + $2,
        budget_reset_at = CASE WHEN budget_reset_at > now() THEN budget_reset_at
            WHEN budget_period = 'day' THEN now() + interval '1 day'
            WHEN budget_period = 'month' THEN date_trunc('day', now() + interval '1 month') END
    WHERE key_hash = $1 AND revoked_at IS NULL
        AND (budget_cents IS NULL
            OR CASE WHEN budget_reset_at <= now() THEN 0 ELSE budget_used_cents END + $2 <= budget_cents)
    RETURNING budget_used_cents, budget_cents - budget_used_cents";

/// A key as it is decoded.
type KeyRow = (
    i64,
    Option<String>,
    Option<String>,
    Option<Vec<String>>,
    Option<i64>,
    i64,
    Option<String>,
    Option<f64>,
    Option<f64>,
    Option<String>,
    Option<String>,
    bool,
    bool,
);

#[derive(Clone)]
pub struct PerRequest {
    pool: PgPool,
    /// Touches that are not done yet, and a word when one is.
    touching: Arc<(AtomicUsize, Notify)>,
}

impl PerRequest {
    pub async fn connect(url: &str) -> Result<Self> {
        // Without the ping before each use that the pool would make: the client does without it, too.
        let pool = PgPoolOptions::new().max_connections(10).test_before_acquire(false).connect(url).await?;
        Ok(PerRequest { pool, touching: Arc::default() })
    }

    /// Waits until nothing is left to be done.
    pub async fn settle(&self) {
        let (open, done) = &*self.touching;
        loop {
            let notified = done.notified();
            if open.load(Ordering::SeqCst) == 0 {
                return;
            }
            notified.await;
        }
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Nobody waits for this.
    fn touch(&self, id: i64) {
        let this = self.clone();
        this.touching.0.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let _ = sqlx::query(TOUCH).bind(id).execute(&this.pool).await;
            this.touching.0.fetch_sub(1, Ordering::SeqCst);
            this.touching.1.notify_waiters();
        });
    }
}

impl Contender for PerRequest {
    async fn validate(&self, raw_key: &str) -> Result<bool> {
        let hash = KeyHash::of(raw_key);
        let row = sqlx::query_as::<_, KeyRow>(SELECT).bind(hash.as_str()).fetch_optional(&self.pool);
        let Some(row) = row.await? else { return Ok(false) };
        let (id, _, _, _, budget, used, _, _, _, _, _, revoked, expired) = row;
        if revoked || expired || budget.is_some_and(|budget| used >= budget) {
            return Ok(false);
        }
        self.touch(id);
        Ok(true)
    }

    async fn charge(&self, raw_key: &str) -> Result<bool> {
        let hash = KeyHash::of(raw_key);
        let charged = sqlx::query_as::<_, (i64, Option<i64>)>(CHARGE).bind(hash.as_str()).bind(1i64);
        Ok(charged.fetch_optional(&self.pool).await?.is_some())
    }
}
