-- Gives back what a key spent, on it and all its ancestors, of no budget more than is used. $1: the key's id. $2:
-- micro-cents. $3: '' or a JSON object with idempotency_key and metadata. $4: the id of the only row that it waits for if somebody
-- else has locked it, before it locks any other; or NULL. One row if there is such a key: see refunded.rs. Where another row is
-- locked it writes nothing, and answers its id.
WITH input AS MATERIALIZED (
    SELECT $2::text::bigint AS amount, d.details ->> 'idempotency_key' AS idempotency_key, d.details -> 'metadata' AS metadata
    FROM (SELECT nullif($3::text, '')::jsonb) AS d(details)
),
wanted AS MATERIALIZED (
    SELECT c.id, c.distance, c.distance = 1 AS is_key, found.ancestor_ids
    FROM (
        SELECT {chain}, k.ancestor_ids
        FROM {table} k
        WHERE k.id = $1::text::{id_type}
          AND k.when_exceeded IS NULL --? when_exceeded
    ) AS found(chain, ancestor_ids)
    CROSS JOIN LATERAL unnest(found.chain) WITH ORDINALITY AS c(id, distance)
    ORDER BY c.id
),
waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $4::text::{id_type} AND (SELECT count(*) FROM wanted) >= 0 FOR NO KEY UPDATE
),
locked AS MATERIALIZED (
    SELECT
        w.distance,
        k.id,
        k.account_id,
        {budget}::bigint AS budget_cents,
        {cap} AS cap,
        {reserved} AS reserved,
        w.is_key AND w.ancestor_ids IS DISTINCT FROM k.ancestor_ids AS has_moved,
        p.*
    FROM wanted w
    CROSS JOIN (SELECT count(*) FROM waited) AS has_waited(rows)
    CROSS JOIN LATERAL (
        SELECT * FROM {table} WHERE id = w.id AND has_waited.rows >= 0 LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) k
    CROSS JOIN LATERAL {period} p
),
busy AS MATERIALIZED (
    {busy}
    UNION ALL
    -- A key that was given limits since is read again.
    SELECT id FROM locked WHERE has_moved
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
      AND NOT EXISTS (SELECT FROM busy)
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
SELECT ROW(m.budget_cents, m.used_after, m.reserved, false, false, NULL)::text AS agentkey
FROM moved m
WHERE m.distance = 1
UNION ALL
SELECT ROW(e.budget_cents, e.used_after_microcents, e.reserved_after_microcents, true, e.kind <> 'refund', NULL)::text
FROM earlier e
UNION ALL
SELECT ROW(NULL, NULL, NULL, false, false, (SELECT min(b.id::text) FROM busy b))::text
WHERE EXISTS (SELECT FROM busy)
  AND NOT EXISTS (SELECT FROM earlier)
