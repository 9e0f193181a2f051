-- The open reservations of the budgets of a chain (`budget`), of which something is held: `open`, one row each and budget.
-- Those of few keys are looked up key by key: how many others there are in the table makes no difference. Above that, the keys
-- of all open reservations are looked at: a key may have far more descendants than there are open reservations.
-- The planner expects ten rows of an array: see tree.sql.
, top AS MATERIALIZED (
    -- What the others of the chain have open is open of this key, too.
    SELECT o.id
    FROM budget b
    JOIN budget o ON o.distance = b.owner
    WHERE b.reserved > 0
    ORDER BY o.distance DESC
    LIMIT 1
),
{tree},
walked AS MATERIALIZED (
    SELECT id FROM tree LIMIT 2001
),
holder AS MATERIALIZED (
    SELECT id FROM walked WHERE (SELECT count(*) FROM walked) <= 2000
    UNION
    SELECT k.id
    FROM unnest(ARRAY(
        SELECT DISTINCT key_id FROM {reservations} WHERE state = 'pending' AND (SELECT count(*) FROM walked) > 2000
    )) AS p(id)
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = p.id OFFSET 0) k
    CROSS JOIN top t
    WHERE k.id = t.id
       OR t.id = ANY ({k.ancestor_ids})
),
open AS MATERIALIZED (
    SELECT
        b.id AS budget_id,
        r.*,
        r.expires_at <= statement_timestamp() AS is_over,
        row_number() OVER (PARTITION BY b.id ORDER BY r.created_at, r.id) AS place
    FROM unnest(ARRAY(SELECT id FROM holder)) AS h(id)
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = h.id OFFSET 0) k
    JOIN budget b ON b.id = k.id
        OR b.id = ANY ({k.ancestor_ids})
    CROSS JOIN LATERAL (SELECT * FROM {reservations} WHERE key_id = k.id AND state = 'pending' OFFSET 0) r
    WHERE b.reserved > 0
)
