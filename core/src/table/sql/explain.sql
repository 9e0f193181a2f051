-- What a charge of a key meets: the budgets of the key and its ancestors, and what is held of them. Reads only.
-- $1: the key's id; or $2: the hash of its secret, or of the one before while that counts; or $3: its external subject.
-- $4: how many open reservations of a budget it names at most, the oldest first.
-- One row a key of the chain, the nearest first, and one a limit, after its key: the key's id, the row's state (NULL if there is no such key), name, period, budget, what
-- is used and reserved of it and what it has room for in micro-cents, when it starts afresh; by how much the
-- budget is raised now, and until when; how many open reservations hold
-- of it, how much, and how much of that comes back to a charge that needs it (none without a budget); and of some of them the
-- id, the key that holds it, the amount, since when, until when, and whether that is over; what a limit does when it is exceeded.
WITH RECURSIVE found AS MATERIALIZED (
    {named}
),
chained AS MATERIALIZED (
    SELECT c.id, c.distance
    FROM found f
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = f.id OFFSET 0) k
    CROSS JOIN LATERAL unnest({chain}) WITH ORDINALITY AS c(id, distance) --? ancestor_ids
    CROSS JOIN LATERAL (SELECT k.id, 1) AS c(id, distance) --! ancestor_ids
),
budget AS MATERIALIZED (
    SELECT
        c.id,
        c.distance,
        CASE WHEN k.id IS NOT NULL THEN {state} END AS state,
        {k.name} AS name,
        {k.budget_period} AS period,
        {budget} AS budget_cents,
        p.before AS used,
        {reserved} AS reserved,
        {cap} - {reserved} - p.before AS room,
        p.reset_at,
        {boosted},
        {k.when_exceeded} AS when_exceeded,
        -- A limit is its key's, the nearest before it, and so is what is held of it.
        max(c.distance) FILTER (WHERE {k.when_exceeded} IS NULL) OVER (ORDER BY c.distance) AS owner
    FROM chained c
    LEFT JOIN LATERAL (SELECT * FROM {table} WHERE id = c.id OFFSET 0) k ON true
    CROSS JOIN LATERAL {period} p
)
{open} --? +reservations
SELECT ROW(
    o.id,
    b.state,
    b.name,
    b.period,
    b.budget_cents,
    b.used,
    b.reserved,
    b.room,
    extract(epoch FROM b.reset_at),
    b.boost_cents,
    b.boost_until
    , held.reservations, held.amount, CASE WHEN b.budget_cents IS NULL THEN 0 ELSE LEAST(held.recoverable, b.reserved) END, held.oldest --? +reservations
    , 0, 0, 0, NULLIF($4::text, $4::text) --! +reservations
    , b.when_exceeded
)::text AS agentkey
FROM budget b
JOIN budget o ON o.distance = b.owner
CROSS JOIN LATERAL ( --? +reservations
    SELECT --? +reservations
        count(*) AS reservations, --? +reservations
        LEAST(coalesce(sum(o.amount_microcents), 0), 9223372036854775807)::bigint AS amount, --? +reservations
        coalesce(sum(o.amount_microcents) FILTER (WHERE o.is_over AND NOT o.settles_if_expired), 0) AS recoverable, --? +reservations
        array_agg( --? +reservations
            ROW(o.id, o.key_id, o.amount_microcents, extract(epoch FROM o.created_at), extract(epoch FROM o.expires_at), o.is_over)::text --? +reservations
            ORDER BY o.place --? +reservations
        ) FILTER (WHERE o.place <= $4::text::bigint) AS oldest --? +reservations
    FROM open o --? +reservations
    WHERE o.budget_id = b.id --? +reservations
) held --? +reservations
ORDER BY b.distance
