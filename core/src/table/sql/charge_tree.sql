-- Charges keys and all of their ancestors in the common case: all of them are live, no reset can be due, and all that is
-- asked of a row fits. Whatever has no row in the answer is decided by spend.sql.
-- $1: text[] of key hashes or external subjects, each once. $2: text[] of bigint[], each key's costs in micro-cents. Where
-- rows are contended for, $3: the id of the only row that it waits for if somebody else has locked it, before it locks any
-- other; or NULL.
-- One row a key that is charged in whole; where rows are contended for, also one a key that needs a row which somebody
-- else has locked: as charge_batch.sql's.
WITH found AS MATERIALIZED (
    SELECT
        i.n,
        i.lookup,
        (SELECT sum(cost) FROM unnest(i.costs::bigint[]) cost) AS total,
        k.id,
        {chain} AS chain
    FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::text[])) WITH ORDINALITY AS i(lookup, costs, n)
    CROSS JOIN LATERAL (SELECT id, ancestor_ids FROM {table} WHERE {lookup} = i.lookup OFFSET 0) k
),
wanted AS MATERIALIZED (
    SELECT c.id, sum(f.total) AS total
    FROM found f
    CROSS JOIN LATERAL unnest(f.chain) AS c(id)
    GROUP BY c.id
    ORDER BY c.id
),
-- With everything ready, so that the row is locked no longer than it must be.
waited AS MATERIALIZED ( --? contended
    SELECT id FROM {table} WHERE id = $3::text::{id_type} AND (SELECT count(*) FROM wanted) >= 0 FOR NO KEY UPDATE --? contended
), --? contended
-- The rows that have room for all of it and that nobody else has locked, locked in id order. What is accepted in the end
-- is this or less.
locked AS MATERIALIZED (
    SELECT k.id, k.lookup
    FROM wanted w
    CROSS JOIN (SELECT count(*) FROM waited) AS has_waited(rows) --? contended
    CROSS JOIN LATERAL (
        SELECT k.id, k.{lookup} AS lookup
        FROM {table} k
        WHERE k.id = w.id
          AND has_waited.rows >= 0 --? contended
          AND k.revoked_at IS NULL
          AND (k.budget_reset_at > statement_timestamp()) IS NOT FALSE
          AND w.total <= {room}
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ) k
),
-- Those that somebody else has.
busy AS MATERIALIZED ( --? contended
    SELECT w.id --? contended
    FROM wanted w --? contended
    CROSS JOIN LATERAL ( --? contended
        SELECT --? contended
        FROM {table} k --? contended
        WHERE k.id = w.id --? contended
          AND k.revoked_at IS NULL --? contended
          AND (k.budget_reset_at > statement_timestamp()) IS NOT FALSE --? contended
          AND w.total <= {room} --? contended
        OFFSET 0 --? contended
    ) fits --? contended
    WHERE w.id NOT IN (SELECT id FROM locked) --? contended
), --? contended
accepted AS MATERIALIZED (
    SELECT f.n, f.id, f.total, f.chain
    FROM found f
    JOIN locked l ON l.id = f.id AND l.lookup = f.lookup
    WHERE (SELECT count(*) FROM locked) = (SELECT count(*) FROM wanted)
       OR f.chain <@ (SELECT array_agg(id) FROM locked)
),
-- Not within the UPDATE: where a row changed since this statement's snapshot, Postgres would run both halves again there,
-- and could leave the row out.
due AS MATERIALIZED (
    -- Mostly all are.
    SELECT w.id, w.total::bigint AS total
    FROM wanted w
    WHERE (SELECT count(*) FROM accepted) = (SELECT count(*) FROM found)
    UNION ALL
    SELECT c.id, sum(a.total)::bigint
    FROM accepted a
    CROSS JOIN LATERAL unnest(a.chain) AS c(id)
    WHERE (SELECT count(*) FROM accepted) <> (SELECT count(*) FROM found)
    GROUP BY c.id
),
charged AS (
    UPDATE {table} k
    SET
        budget_used_cents = ({used} + d.total) / 1000000,
        budget_used_microcents = ({used} + d.total) % 1000000,
        budget_microcents_reset_at = k.budget_reset_at
    FROM due d
    -- It always is more than 0. So Postgres expects fewer rows, and finds them by index in a small table, too.
    WHERE k.id = d.id AND d.total > 0
    RETURNING k.id, {budget} AS budget_cents, k.budget_used_cents, k.budget_used_microcents, {reserved} AS reserved
)
SELECT ROW(
    a.n, false, k.budget_cents, k.budget_used_cents, k.budget_used_microcents, k.reserved, NULL
)::text AS agentkey
FROM accepted a
JOIN charged k ON k.id = a.id
UNION ALL --? contended
SELECT ROW(f.n, NULL, f.busy_id, NULL, NULL, NULL, NULL)::text --? contended
FROM ( --? contended
    SELECT f.n, (SELECT b.id FROM busy b WHERE b.id = ANY (f.chain) LIMIT 1) AS busy_id --? contended
    FROM found f --? contended
    WHERE EXISTS (SELECT FROM busy) --? contended
) f --? contended
WHERE f.busy_id IS NOT NULL --? contended
