-- charge_one.sql for several keys: each is charged in whole, for all that is asked of it, or has no row. Then
-- charge_batch.sql decides. Nobody waits while holding other rows.
-- $1: text[] of key hashes or external subjects, each once. $2: bigint[], for each all that it is charged, in
-- micro-cents.
-- One row a key that is charged; where rows are contended for, also one a key whose row somebody else has locked: as
-- charge_batch.sql's.
WITH input AS MATERIALIZED (
    SELECT i.n, i.lookup, i.total
    FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::bigint[])) WITH ORDINALITY AS i(lookup, total, n)
),
-- LIMIT 1 keeps what Postgres sets up for rows that changed since the snapshot, from one key to the next.
locked AS MATERIALIZED (
    SELECT k.id, i.n, i.total
    FROM input i
    CROSS JOIN LATERAL (
        SELECT k.id
        FROM {table} k
        WHERE k.{lookup} = i.lookup
          AND {is_plain}
          AND i.total <= {room}
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ) k
)
, charged AS ( --? contended
UPDATE {table} k
SET
    budget_used_microcents = ({used} + l.total) % 1000000, --? budget_used_microcents
    budget_microcents_reset_at = k.budget_reset_at, --? budget_microcents_reset_at
    budget_used_cents = ({used} + l.total) / 1000000
FROM locked l
-- It always is more than 0. So Postgres expects fewer rows, and finds them by index in a small table, too.
WHERE k.id = l.id AND l.total > 0
RETURNING ROW(
    l.n,
    false,
    {charged}
)::text AS agentkey
) --? contended
SELECT agentkey FROM charged --? contended
UNION ALL --? contended
SELECT ROW(i.n, NULL, k.id, NULL, NULL, NULL, NULL)::text --? contended
FROM input i --? contended
CROSS JOIN LATERAL ( --? contended
    SELECT k.id --? contended
    FROM {table} k --? contended
    WHERE k.{lookup} = i.lookup --? contended
      AND {is_plain} --? contended
      AND i.total <= {room} --? contended
    OFFSET 0 --? contended
) k --? contended
WHERE i.n NOT IN (SELECT n FROM locked) --? contended
