-- Which keys' counters are not what the ledger and the open reservations say. $1: a key's id, or NULL for all that the
-- ledger knows. One row a key that does not add up: a JSON object.
WITH ledger AS (
    SELECT
        e.key_id,
        (array_agg(e.used_after_microcents - e.amount_microcents ORDER BY e.id))[1] + sum(e.amount_microcents) AS used
    FROM {events} e
    WHERE e.kind IN ('charge', 'settle', 'refund', 'reset')
      AND ($1::text IS NULL OR e.key_id = $1::text::{id_type})
    GROUP BY e.key_id
),
held AS (
    SELECT c.id AS key_id, sum(r.amount_microcents) AS reserved
    FROM {reservations} r
    JOIN {table} k ON k.id = r.key_id
    CROSS JOIN LATERAL unnest({chain}) AS c(id)
    WHERE r.state = 'pending'
      AND ($1::text IS NULL OR c.id = $1::text::{id_type})
    GROUP BY c.id
),
counted AS (
    SELECT
        k.id AS key_id,
        {used} AS used,
        {reserved} AS reserved
    FROM {table} k
    WHERE $1::text IS NULL OR k.id = $1::text::{id_type}
)
SELECT ROW(jsonb_build_object(
    'keyId', c.key_id,
    'usedMicrocents', c.used,
    'ledgerMicrocents', coalesce(l.used, c.used),
    'reservedMicrocents', c.reserved,
    'heldMicrocents', coalesce(h.reserved, 0)
))::text AS agentkey
FROM counted c
LEFT JOIN ledger l ON l.key_id = c.key_id
LEFT JOIN held h ON h.key_id = c.key_id
WHERE c.used <> coalesce(l.used, c.used)
   OR c.reserved <> coalesce(h.reserved, 0)
ORDER BY c.key_id
