-- Charges and reserves as spend.sql decides them, of keys without a parent and in the common case: each is recorded for
-- the first time, the key is live, no reset can be due, and all that is asked of the key fits. What has no row was not
-- done, and spend.sql decides it.
-- $1 to $4: as in spend.sql. One row an operation that was done, or whose key's row somebody else has locked: as spend.sql
-- answers.
WITH input AS MATERIALIZED (
    SELECT
        i.lookup,
        sum(i.amount) AS total,
        coalesce(sum(i.amount) FILTER (WHERE i.kind = 'r'), 0) AS reserved,
        count(*) FILTER (WHERE i.kind = 'r') AS held,
        array_agg(i.details->'scopes') FILTER (WHERE i.details ? 'scopes') AS scopes,
        array_agg(i.details->>'idempotency_key') FILTER (WHERE i.details ? 'idempotency_key') AS idempotency_keys,
        array_agg(i.n) AS ns,
        array_agg(i.kind) AS kinds,
        array_agg(i.amount) AS amounts,
        array_agg(i.details) AS details
    FROM (
        SELECT i.n, i.lookup, CASE i.kind WHEN 'a' THEN 'o' ELSE i.kind END AS kind, i.amount, NULLIF(i.details, '')::jsonb AS details
        FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::text[]), (SELECT $3::text::bigint[]), (SELECT $4::text::text[]))
            WITH ORDINALITY AS i(lookup, kind, amount, details, n)
    ) i
    GROUP BY i.lookup
),
-- LIMIT 1 keeps what Postgres sets up for rows that changed since the snapshot, from one key to the next.
locked AS MATERIALIZED (
    SELECT
        i.lookup,
        (i.total - i.reserved)::bigint AS charged,
        i.reserved::bigint AS held,
        i.ns, i.kinds, i.amounts, i.details,
        k.id,
        k.account_id,
        {budget}::bigint AS budget_cents,
        {cap} AS cap,
        {used} AS before,
        {reserved} AS reserved,
        -- Only a reserve answers the key.
        CASE WHEN i.held > 0 THEN ROW(1, {key_columns}, false, NULL, NULL)::text END AS key_row
    FROM input i
    CROSS JOIN LATERAL (
        SELECT *
        FROM {table} k
        WHERE {takes_spends}
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ) k
),
-- No join: the planner knows little of these rows and would take them for few.
moved AS MATERIALIZED (
    SELECT
        o.n, o.kind, o.amount, o.details, l.id, l.account_id, l.budget_cents, l.cap, l.key_row,
        l.before + (sum(CASE WHEN o.kind <> 'r' THEN o.amount ELSE 0 END) OVER upto)::bigint AS used_after,
        l.reserved + (sum(CASE WHEN o.kind = 'r' THEN o.amount ELSE 0 END) OVER upto)::bigint AS reserved_after,
        row_number() OVER upto AS place,
        statement_timestamp() + make_interval(secs => (o.details->>'ttl')::float8) AS expires_at
    FROM locked l
    CROSS JOIN LATERAL unnest(l.ns, l.kinds, l.amounts, l.details) AS o(n, kind, amount, details)
    WINDOW upto AS (PARTITION BY l.id ORDER BY o.kind <> 'o', o.amount, o.n ROWS UNBOUNDED PRECEDING)
),
spent AS (
    UPDATE {table} k
    SET
        budget_used_cents = (l.before + l.charged) / 1000000,
        budget_used_microcents = (l.before + l.charged) % 1000000,
        budget_microcents_reset_at = k.budget_reset_at,
        budget_reserved_cents = (l.reserved + l.held) / 1000000,
        budget_reserved_microcents = (l.reserved + l.held) % 1000000
    FROM locked l
    -- It always is more than 0. So Postgres expects fewer rows, and finds them by index in a small table, too.
    WHERE k.id = l.id AND l.charged + l.held > 0
),
held AS (
    INSERT INTO {reservations} (id, key_id, amount_microcents, expires_at, settles_if_expired, metadata)
    SELECT
        (m.details->>'id')::uuid, m.id, m.amount, m.expires_at,
        coalesce(m.details->>'if_expired' = 'settle', false), m.details->'metadata'
    FROM moved m
    WHERE m.kind = 'r'
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents,
        remaining_after_microcents, budget_cents, idempotency_key, reservation_id, metadata
    )
    SELECT
        m.id, m.account_id, CASE m.kind WHEN 'r' THEN 'reserve' ELSE 'charge' END, m.amount, m.used_after, m.reserved_after,
        CASE WHEN m.budget_cents IS NOT NULL THEN m.cap - m.used_after - m.reserved_after END, m.budget_cents,
        m.details->>'idempotency_key', CASE m.kind WHEN 'r' THEN (m.details->>'id')::uuid END, m.details->'metadata'
    FROM moved m
    WHERE {ledger} OR m.details ? 'idempotency_key'
)
SELECT ROW(
    m.n, 'ok', m.budget_cents, m.used_after, m.reserved_after, m.details->>'id', extract(epoch FROM m.expires_at), NULL, false,
    CASE m.kind WHEN 'r' THEN m.key_row END, NULL, NULL, false
)::text AS agentkey
FROM moved m
UNION ALL
SELECT ROW(o.n, 'busy', NULL, NULL, NULL, k.id, NULL, NULL, false, NULL, NULL, NULL, false)::text
FROM input i
CROSS JOIN LATERAL (SELECT k.id FROM {table} k WHERE {takes_spends} OFFSET 0) k
CROSS JOIN LATERAL unnest(i.ns) AS o(n)
WHERE i.lookup NOT IN (SELECT lookup FROM locked)
