-- Gives back what a key spent, on it and all its ancestors, of no budget more than is used. $1: the key's id. $2:
-- micro-cents. $3: '' or a JSON object with idempotency_key and metadata. One row if there is such a key: see refunded.rs.
WITH input AS MATERIALIZED (
    SELECT $2::text::bigint AS amount, d.details ->> 'idempotency_key' AS idempotency_key, d.details -> 'metadata' AS metadata
    FROM (SELECT nullif($3::text, '')::jsonb) AS d(details)
),
wanted AS MATERIALIZED (
    SELECT c.id, c.distance
    FROM (
        SELECT {chain}
        FROM {table} k
        WHERE k.id = $1::text::{id_type}
          AND k.when_exceeded IS NULL --? when_exceeded
    ) AS found(chain)
    CROSS JOIN LATERAL unnest(found.chain) WITH ORDINALITY AS c(id, distance)
    ORDER BY c.id
),
locked AS MATERIALIZED (
    SELECT
        w.distance,
        k.id,
        k.account_id,
        {budget}::bigint AS budget_cents,
        {cap} AS cap,
        {reserved} AS reserved,
        p.*
    FROM wanted w
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = w.id FOR NO KEY UPDATE) k
    CROSS JOIN LATERAL {period} p
),
-- What another session records under the key at this moment is not seen here: the unique index refuses this one, which
-- is then tried again.
earlier AS MATERIALIZED (
    SELECT e.kind, e.budget_cents, e.used_after_microcents, e.reserved_after_microcents
    FROM input i
    CROSS JOIN LATERAL (
        SELECT * FROM {events} WHERE key_id = $1::text::{id_type} AND idempotency_key = i.idempotency_key
    ) e
),
moved AS MATERIALIZED (
    SELECT l.*, i.idempotency_key, i.metadata, back.amount, l.before - back.amount AS used_after
    FROM locked l
    CROSS JOIN input i
    CROSS JOIN LATERAL (SELECT GREATEST(LEAST(i.amount, l.before), 0)) AS back(amount)
    WHERE NOT EXISTS (SELECT FROM earlier)
),
given_back AS (
    UPDATE {table} k
    SET
        budget_used_cents = m.used_after / 1000000,
        budget_used_microcents = m.used_after % 1000000,
        budget_microcents_reset_at = m.reset_at,
        budget_anchor_at = m.anchor_at,
        budget_reset_at = m.reset_at
    FROM moved m
    WHERE k.id = m.id
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents,
        remaining_after_microcents, budget_cents, idempotency_key, via_key_id, metadata
    )
    SELECT
        m.id, m.account_id, entry.kind, entry.amount, entry.used_after, m.reserved,
        CASE WHEN m.budget_cents IS NOT NULL THEN m.cap - entry.used_after - m.reserved END, m.budget_cents, entry.idempotency_key,
        CASE WHEN entry.step = 2 AND m.distance > 1 THEN $1::text::{id_type} END, entry.metadata
    FROM moved m
    CROSS JOIN LATERAL (
        SELECT 1, 'reset', -m.stored, 0::bigint, NULL, NULL::jsonb WHERE m.is_due AND m.stored <> 0
        UNION ALL
        SELECT 2, 'refund', -m.amount, m.used_after, CASE WHEN m.distance = 1 THEN m.idempotency_key END, m.metadata
    ) AS entry(step, kind, amount, used_after, idempotency_key, metadata)
    ORDER BY m.id, entry.step
)
SELECT ROW(m.budget_cents, m.used_after, m.reserved, false, false)::text AS agentkey
FROM moved m
WHERE m.distance = 1
UNION ALL
SELECT ROW(e.budget_cents, e.used_after_microcents, e.reserved_after_microcents, true, e.kind <> 'refund')::text
FROM earlier e
