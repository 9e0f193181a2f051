-- charge_one.sql for several charges: each key is charged in whole, for all that is asked of it, or has no row. Then
-- charge_batch.sql decides. Nobody waits while holding other rows.
-- $1: text[] of key hashes or external subjects, each once. $2: text[] of bigint[], each key's costs in micro-cents.
-- One row a key that is charged; where rows are contended for, also one a key whose row somebody else has locked: as
-- charge_batch.sql's.
WITH found AS MATERIALIZED (
    SELECT k.id, i.lookup, i.n, (SELECT sum(cost) FROM unnest(i.costs::bigint[]) cost) AS total
    FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::text[])) WITH ORDINALITY AS i(lookup, costs, n)
    CROSS JOIN LATERAL (SELECT id FROM {table} WHERE {lookup} = i.lookup OFFSET 0) k
    ORDER BY k.id
),
-- Locked in id order.
locked AS MATERIALIZED (
    SELECT k.id, f.n, f.total::bigint AS total
    FROM found f
    CROSS JOIN LATERAL (
        SELECT k.id
        FROM {table} k
        WHERE k.id = f.id
          AND k.{lookup} = f.lookup
          AND {is_plain}
          AND f.total <= {room}
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
WHERE k.id = l.id
RETURNING ROW(
    l.n,
    false,
    {charged}
)::text AS agentkey
) --? contended
SELECT agentkey FROM charged --? contended
UNION ALL --? contended
SELECT ROW(f.n, NULL, f.id, NULL, NULL, NULL, NULL)::text --? contended
FROM found f --? contended
CROSS JOIN LATERAL ( --? contended
    SELECT --? contended
    FROM {table} k --? contended
    WHERE k.id = f.id --? contended
      AND k.{lookup} = f.lookup --? contended
      AND {is_plain} --? contended
      AND f.total <= {room} --? contended
    OFFSET 0 --? contended
) fits --? contended
WHERE f.id NOT IN (SELECT id FROM locked) --? contended
