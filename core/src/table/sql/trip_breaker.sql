-- Switches a key off that has passed a limit which is a breaker. $1: its id. $2: the limit's row. $3: the micro-cents that
-- had no room there. $4: the key's id again, if the statement is to wait for a row that somebody else has locked; or NULL.
-- One row: whether a row was locked. The key is switched off, with one entry in the ledger, if it is on and the limit still
-- has no room: it may have been enabled since, and the limit begun afresh.
WITH waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $4::text::{id_type} FOR NO KEY UPDATE
),
wanted AS MATERIALIZED (
    SELECT id FROM {table} WHERE id IN ($1::text::{id_type}, $2::text::{id_type}) ORDER BY id
),
locked AS MATERIALIZED (
    SELECT
        k.id, k.account_id, k.budget_cents, k.budget_period, k.when_exceeded,
        k.disabled_at IS NULL AND k.revoked_at IS NULL AS is_on,
        {cap} - {reserved} - p.before AS room
    FROM wanted w
    CROSS JOIN (SELECT count(*) FROM waited) AS has_waited(rows)
    CROSS JOIN LATERAL (
        SELECT * FROM {table} WHERE id = w.id AND has_waited.rows >= 0 LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) k
    CROSS JOIN LATERAL {period} p
),
passed AS MATERIALIZED (
    SELECT o.id, l.budget_cents, l.budget_period
    FROM locked o
    JOIN locked l ON l.id = $2::text::{id_type}
    WHERE o.id = $1::text::{id_type}
      AND o.is_on
      AND l.when_exceeded = 'disable'
      AND $3::text::bigint > l.room
),
tripped AS (
    UPDATE {table} k
    SET disabled_at = statement_timestamp()
    FROM passed p
    WHERE k.id = p.id
    RETURNING k.id, k.account_id, p.budget_cents, p.budget_period AS period
),
logged AS (
    {trip_entry}
)
SELECT ROW((SELECT count(*) FROM locked) <> (SELECT count(*) FROM wanted))::text AS agentkey
