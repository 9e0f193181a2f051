-- Charges and reserves as spend.sql decides them, in the common case: each is recorded for the first time, and all fit.
-- What has no row was not done, and spend.sql decides it. It takes half the time, for it is half as long.
-- $1 to $4: as in spend.sql. One row an operation that was done, or that is `busy`: as spend.sql answers.
WITH input AS MATERIALIZED (
    SELECT i.n, i.lookup, i.kind, i.amount, NULLIF(i.details, '')::jsonb AS details
    FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::text[]), (SELECT $3::text::bigint[]), (SELECT $4::text::text[]))
        WITH ORDINALITY AS i(lookup, kind, amount, details, n)
),
found AS MATERIALIZED (
    SELECT u.lookup, k.id, {chain} AS chain
    FROM (SELECT DISTINCT lookup FROM input) u
    CROSS JOIN LATERAL (SELECT id, ancestor_ids FROM {table} WHERE {lookup} = u.lookup OFFSET 0) k
),
wanted AS MATERIALIZED (
    SELECT DISTINCT c.id FROM found CROSS JOIN LATERAL unnest(chain) AS c(id) ORDER BY c.id
),
-- Every row that a decision needs, locked in id order.
locked AS MATERIALIZED (
    SELECT
        k.id,
        k.account_id,
        k.{lookup} AS lookup,
        k.revoked_at IS NOT NULL AS is_revoked,
        k.disabled_at IS NOT NULL OR coalesce(k.expires_at <= statement_timestamp(), false) AS is_over,
        k.budget_cents::bigint AS budget_cents,
        {cap} AS cap,
        {max_cents}::bigint * 1000000 AS storable,
        {scopes_array} AS scopes,
        {reserved} AS reserved,
        p.*,
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
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = w.id FOR NO KEY UPDATE SKIP LOCKED) k
    CROSS JOIN LATERAL {period} p
),
busy AS MATERIALIZED (
    {busy}
),
operation AS MATERIALIZED (
    SELECT
        i.n, i.lookup, i.kind, i.amount, i.details, f.id AS key_id, f.chain,
        CASE WHEN EXISTS (SELECT FROM busy) THEN (SELECT b.id FROM busy b WHERE b.id = ANY (f.chain) LIMIT 1) END AS busy_id
    FROM input i
    JOIN found f ON f.lookup = i.lookup
),
-- Another client may be recording the same idempotency key right now: the unique index refuses the second one then, and
-- this statement is tried again.
drawn AS MATERIALIZED (
    SELECT o.n, o.lookup, o.kind, o.amount, o.details, o.key_id, c.id AS drawn_id, c.distance
    FROM operation o
    CROSS JOIN LATERAL unnest(o.chain) WITH ORDINALITY AS c(id, distance)
    WHERE o.busy_id IS NULL
      AND CASE WHEN o.details ? 'idempotency_key'
          THEN (SELECT e.id FROM {events} e WHERE e.key_id = o.key_id AND e.idempotency_key = o.details->>'idempotency_key')
          END IS NULL
),
-- From here on no join, see spend.sql.
draw AS MATERIALIZED (
    SELECT
        d.n, d.kind, d.amount, d.details, d.key_id, d.distance, l.id, l.account_id, l.budget_cents, l.cap, l.reserved,
        l.is_due, l.stored, l.before, l.anchor_at, l.reset_at, l.state,
        CASE d.distance WHEN 1 THEN l.key_row END AS key_row,
        l.id IS NOT NULL
            AND NOT l.is_revoked
            AND (d.distance > 1 OR l.lookup = d.lookup)
            AND (d.kind <> 'r' OR NOT (
                l.is_over
                OR coalesce((l.before - CASE WHEN l.before < 0 THEN 999999 ELSE 0 END) / 1000000 >= l.budget_cents, false)
                OR d.distance = 1 AND d.details ? 'scopes' AND l.scopes IS NOT NULL AND NOT (d.details->'scopes' ?| l.scopes)
            )) AS is_live,
        sum(d.amount) OVER (PARTITION BY l.id ORDER BY d.kind <> 'o', d.amount, d.n ROWS UNBOUNDED PRECEDING)
            <= LEAST(CASE d.kind WHEN 'o' THEN l.storable ELSE l.cap END - l.before, l.storable) - l.reserved AS fits
    FROM drawn d
    LEFT JOIN locked l ON l.id = d.drawn_id
),
decided AS MATERIALIZED (
    SELECT
        d.*,
        bool_and(d.is_live AND d.fits) OVER operation AS is_done,
        CASE WHEN d.kind = 'r' THEN array_agg(d.state) OVER (operation ORDER BY d.distance ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) END AS states
    FROM draw d
    WINDOW operation AS (PARTITION BY d.n)
),
moved AS MATERIALIZED (
    SELECT
        d.*,
        d.before + (sum(CASE WHEN d.kind <> 'r' THEN d.amount ELSE 0 END) OVER upto)::bigint AS used_after,
        d.reserved + (sum(CASE WHEN d.kind = 'r' THEN d.amount ELSE 0 END) OVER upto)::bigint AS reserved_after,
        row_number() OVER upto AS place,
        lead(d.n) OVER upto IS NULL AS is_last
    FROM decided d
    WHERE d.is_done
    WINDOW upto AS (PARTITION BY d.id ORDER BY d.kind <> 'o', d.amount, d.n ROWS UNBOUNDED PRECEDING)
),
spent AS (
    UPDATE {table} k
    SET
        budget_used_cents = b.used_after / 1000000,
        budget_used_microcents = b.used_after % 1000000,
        budget_reserved_cents = b.reserved_after / 1000000,
        budget_reserved_microcents = b.reserved_after % 1000000,
        budget_anchor_at = b.anchor_at,
        budget_reset_at = b.reset_at
    FROM (SELECT * FROM moved WHERE is_last) b
    WHERE k.id = b.id
),
held AS (
    INSERT INTO {reservations} (id, key_id, amount_microcents, expires_at, metadata)
    SELECT
        (m.details->>'id')::uuid, m.key_id, m.amount,
        statement_timestamp() + make_interval(secs => (m.details->>'ttl')::float8), m.details->'metadata'
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
        m.id, m.account_id, entry.kind, entry.amount, entry.used_after, entry.reserved_after,
        CASE WHEN m.budget_cents IS NOT NULL THEN m.cap - entry.used_after - entry.reserved_after END, m.budget_cents,
        entry.idempotency_key, entry.reservation_id, entry.via_key_id, entry.metadata
    FROM moved m
    CROSS JOIN LATERAL (
        SELECT 1, 'reset', -m.stored, 0::bigint, m.reserved_after - CASE m.kind WHEN 'r' THEN m.amount ELSE 0 END,
            NULL::text, NULL::uuid, NULL, NULL::jsonb
        WHERE m.is_due AND m.place = 1 AND m.stored <> 0 AND {ledger}
        UNION ALL
        SELECT 2, CASE m.kind WHEN 'r' THEN 'reserve' ELSE 'charge' END, m.amount, m.used_after, m.reserved_after,
            CASE m.distance WHEN 1 THEN m.details->>'idempotency_key' END,
            CASE m.kind WHEN 'r' THEN (m.details->>'id')::uuid END,
            CASE WHEN m.distance > 1 THEN m.key_id END, m.details->'metadata'
    ) AS entry(step, kind, amount, used_after, reserved_after, idempotency_key, reservation_id, via_key_id, metadata)
    WHERE {ledger} OR (m.distance = 1 AND m.details ? 'idempotency_key')
    ORDER BY m.id, m.place, entry.step
)
SELECT ROW(
    m.n, 'ok', m.budget_cents, m.used_after, m.reserved_after, m.details->>'id',
    extract(epoch FROM statement_timestamp() + make_interval(secs => (m.details->>'ttl')::float8)), NULL, false,
    CASE m.kind WHEN 'r' THEN m.key_row END, m.states[2:], NULL
)::text AS agentkey
FROM moved m
WHERE m.distance = 1
UNION ALL
SELECT ROW(o.n, 'busy', NULL, NULL, NULL, o.busy_id, NULL, NULL, false, NULL, NULL, NULL)::text
FROM operation o
WHERE o.busy_id IS NOT NULL
