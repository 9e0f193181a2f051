-- Charges and reserves as spend.sql decides them, in the common case: each is recorded for the first time, its key and all
-- of its ancestors are live, and all that is asked of each of these rows fits. What has no row was not done, and spend.sql
-- decides it. It takes half the time, for it is half as long.
-- $1 to $4: as in spend.sql. One row an operation that was done, or that is `busy`: as spend.sql answers.
WITH input AS MATERIALIZED (
    SELECT
        i.n, i.lookup, CASE i.kind WHEN 'a' THEN 'o' ELSE i.kind END AS kind, i.kind = 'a' AS is_admitted, i.amount,
        NULLIF(i.details, '')::jsonb AS details
    FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::text[]), (SELECT $3::text::bigint[]), (SELECT $4::text::text[]))
        WITH ORDINALITY AS i(lookup, kind, amount, details, n)
),
found AS MATERIALIZED (
    SELECT u.lookup, k.id, k.ancestor_ids, {chain} AS chain
    FROM (SELECT DISTINCT lookup FROM input) u
    CROSS JOIN LATERAL (SELECT id, ancestor_ids FROM {table} WHERE {lookup} = u.lookup OFFSET 0) k
),
-- Another client may be recording the same idempotency key right now: the unique index refuses the second one then, and
-- this statement is tried again.
operation AS MATERIALIZED (
    SELECT i.n, i.kind, i.is_admitted, i.amount, i.details, f.id AS key_id, f.ancestor_ids, f.chain
    FROM input i
    JOIN found f ON f.lookup = i.lookup
    WHERE CASE WHEN i.details ? 'idempotency_key'
        THEN (SELECT e.id FROM {events} e WHERE e.key_id = f.id AND e.idempotency_key = i.details->>'idempotency_key')
        END IS NULL
),
wanted AS MATERIALIZED (
    SELECT
        c.id,
        sum(o.amount) AS total,
        bool_and(o.is_admitted) AS are_admitted,
        bool_and(o.kind = 'o') AS has_overruns_only,
        coalesce(sum(o.amount) FILTER (WHERE o.kind = 'o'), 0) AS overruns,
        bool_or(c.id = o.key_id) AS is_key,
        max(o.ancestor_ids) FILTER (WHERE c.id = o.key_id) AS ancestor_ids
    FROM operation o
    CROSS JOIN LATERAL unnest(o.chain) AS c(id)
    GROUP BY c.id
    ORDER BY c.id
),
-- Every row that a decision needs, locked in id order.
locked AS MATERIALIZED (
    SELECT
        k.id,
        k.account_id,
        k.{lookup} AS lookup,
        {budget}::bigint AS budget_cents,
        {cap} AS cap,
        {scopes_array} AS scopes,
        {reserved} AS reserved,
        p.*,
        (k.revoked_at IS NULL OR w.are_admitted)
            -- A key that was given limits since is read again.
            AND (w.is_key AND w.ancestor_ids IS DISTINCT FROM k.ancestor_ids) IS NOT TRUE
            AND w.overruns <= LEAST({max_cents}::bigint * 1000000 - p.before, {max_cents}::bigint * 1000000) - {reserved}
            AND (w.has_overruns_only AND {k.when_exceeded} IS DISTINCT FROM 'disable' OR w.total <= LEAST({cap} - p.before, {max_cents}::bigint * 1000000) - {reserved})
             -- What crosses a threshold raises an alarm.
             AND (w.total < (SELECT min(t.amount) FROM {thresholds_of} t WHERE t.amount > p.before) - p.before) IS NOT FALSE --? thresholds
             AS fits,
        k.disabled_at IS NULL
            AND (k.expires_at <= statement_timestamp()) IS NOT TRUE
            AND ((p.before - CASE WHEN p.before < 0 THEN 999999 ELSE 0 END) / 1000000 >= {budget}) IS NOT TRUE AS may_reserve,
        -- Only a reserve answers the key and the states of its ancestors.
        CASE WHEN (SELECT bool_or(kind = 'r') FROM input) THEN ROW(
            1,
            {key_columns},
            k.ancestor_ids IS NOT NULL,
            CASE WHEN p.is_due THEN extract(epoch FROM p.reset_at) END,
            NULL
        )::text END AS key_row,
        CASE WHEN (SELECT bool_or(kind = 'r') FROM input) THEN {ancestor_state} END AS state
    FROM wanted w
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = w.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) k
    CROSS JOIN LATERAL {period} p
),
busy AS MATERIALIZED (
    {busy}
),
-- The keys of which all rows take what is asked of them.
passing AS MATERIALIZED (
    SELECT
        f.id,
        bool_and(l.may_reserve) AS may_reserve,
        CASE WHEN (SELECT bool_or(kind = 'r') FROM input) THEN (array_agg(l.state ORDER BY c.distance))[2:] END AS states,
        count(*) > 1 AS has_parent
    FROM found f
    CROSS JOIN LATERAL unnest(f.chain) WITH ORDINALITY AS c(id, distance)
    LEFT JOIN locked l ON l.id = c.id
    GROUP BY f.id
    HAVING bool_and(l.fits IS TRUE AND (c.distance > 1 OR l.lookup = f.lookup))
),
moved AS MATERIALIZED (
    SELECT
        o.n, o.kind, o.amount, o.details, o.key_id, c.distance, p.states, p.has_parent,
        l.id, l.account_id, l.budget_cents, l.cap, l.is_due, l.stored, l.anchor_at, l.reset_at, l.key_row,
        l.before + (sum(CASE WHEN o.kind <> 'r' THEN o.amount ELSE 0 END) OVER upto)::bigint AS used_after,
        l.reserved + (sum(CASE WHEN o.kind = 'r' THEN o.amount ELSE 0 END) OVER upto)::bigint AS reserved_after,
        row_number() OVER upto AS place,
        lead(o.n) OVER upto IS NULL AS is_last
    FROM operation o
    JOIN passing p ON p.id = o.key_id
    CROSS JOIN LATERAL unnest(o.chain) WITH ORDINALITY AS c(id, distance)
    JOIN locked l ON l.id = c.id
    WHERE o.kind <> 'r'
       OR p.may_reserve
      AND NOT (
            o.details ? 'scopes'
            AND EXISTS (SELECT FROM locked own WHERE own.id = o.key_id AND own.scopes IS NOT NULL AND NOT (o.details->'scopes' ?| own.scopes))
      )
    WINDOW upto AS (PARTITION BY l.id ORDER BY o.kind <> 'o', o.amount, o.n ROWS UNBOUNDED PRECEDING)
),
spent AS (
    UPDATE {table} k
    SET
        budget_used_cents = b.used_after / 1000000,
        budget_used_microcents = b.used_after % 1000000,
        budget_microcents_reset_at = b.reset_at,
        budget_reserved_cents = b.reserved_after / 1000000,
        budget_reserved_microcents = b.reserved_after % 1000000,
        budget_anchor_at = b.anchor_at,
        budget_reset_at = b.reset_at
    FROM (SELECT * FROM moved WHERE is_last) b
    WHERE k.id = b.id
),
held AS (
    INSERT INTO {reservations} (id, key_id, amount_microcents, expires_at, settles_if_expired, metadata)
    SELECT
        (m.details->>'id')::uuid, m.key_id, m.amount,
        statement_timestamp() + make_interval(secs => (m.details->>'ttl')::float8),
        coalesce(m.details->>'if_expired' = 'settle', false), m.details->'metadata'
    FROM moved m
    WHERE m.kind = 'r'
      AND m.distance = 1
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents,
        remaining_after_microcents, budget_cents, idempotency_key, reservation_id, via_key_id, metadata
    )
    SELECT
        e.id, e.account_id, e.kind, e.amount, e.used_after, e.reserved_after,
        CASE WHEN e.budget_cents IS NOT NULL THEN e.cap - e.used_after - e.reserved_after END, e.budget_cents,
        e.idempotency_key, e.reservation_id, e.via_key_id, e.metadata
    FROM (
        SELECT m.id, m.place, 1 AS step, m.account_id, 'reset' AS kind, -m.stored AS amount, 0 AS used_after,
            m.reserved_after - CASE m.kind WHEN 'r' THEN m.amount ELSE 0 END AS reserved_after, m.cap, m.budget_cents,
            NULL::text AS idempotency_key, NULL::uuid AS reservation_id, NULL::{id_type} AS via_key_id, NULL::jsonb AS metadata
        FROM moved m
        WHERE m.is_due AND m.place = 1 AND m.stored <> 0 AND {ledger}
        UNION ALL
        SELECT m.id, m.place, 2, m.account_id, CASE m.kind WHEN 'r' THEN 'reserve' ELSE 'charge' END, m.amount, m.used_after,
            m.reserved_after, m.cap, m.budget_cents,
            CASE m.distance WHEN 1 THEN m.details->>'idempotency_key' END,
            CASE m.kind WHEN 'r' THEN (m.details->>'id')::uuid END,
            CASE WHEN m.distance > 1 THEN m.key_id END, m.details->'metadata'
        FROM moved m
        WHERE {ledger} OR (m.distance = 1 AND m.details ? 'idempotency_key')
    ) e
    ORDER BY e.id, e.place, e.step
)
SELECT ROW(
    m.n, 'ok', m.budget_cents, m.used_after, m.reserved_after, m.details->>'id',
    extract(epoch FROM statement_timestamp() + make_interval(secs => (m.details->>'ttl')::float8)), NULL, false,
    CASE m.kind WHEN 'r' THEN m.key_row END, CASE m.kind WHEN 'r' THEN m.states END, NULL, m.has_parent
)::text AS agentkey
FROM moved m
WHERE m.distance = 1
UNION ALL
SELECT ROW(b.n, 'busy', NULL, NULL, NULL, b.id, NULL, NULL, false, NULL, NULL, NULL, b.has_parent)::text
FROM (
    SELECT o.n, cardinality(o.chain) > 1 AS has_parent, (SELECT b.id FROM busy b WHERE b.id = ANY (o.chain) LIMIT 1) AS id
    FROM operation o
    WHERE EXISTS (SELECT FROM busy)
) b
WHERE b.id IS NOT NULL
