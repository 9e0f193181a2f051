-- Records that a key asks for more budget. $1: the key's id; or $2: the hash of its secret, or of the one before while that
-- counts; or $3: its external subject. $4: cents. $5: why, or NULL. $6: seconds that it is to last. $7: idempotency key, or
-- NULL. One row, if there is such a key: what became of it, and the request where there is one, as JSON: requested, or replayed
-- if it was recorded before; already_pending if the key has asked for something else that is open, idempotency_conflict;
-- revoked, disabled or expired, of the key or an ancestor; no_budget; or again: somebody else records one at this moment.
-- It locks no row. The index on open requests decides which of two is recorded.
WITH found AS MATERIALIZED (
    {named}
),
chained AS MATERIALIZED (
    SELECT k.id AS key_id, k.account_id, {budget} AS budget_cents, c.id, c.distance
    FROM found f
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = f.id OFFSET 0) k
    CROSS JOIN LATERAL unnest({chain}) WITH ORDINALITY AS c(id, distance)
),
asker AS MATERIALIZED (
    SELECT
        c.key_id AS id,
        (array_agg(c.account_id))[1] AS account_id,
        CASE
            WHEN bool_or(k.id IS NULL OR {state} = 'revoked') THEN 'revoked'
            WHEN bool_or({state} = 'disabled') THEN 'disabled'
            WHEN bool_or({state} = 'expired') THEN 'expired'
            WHEN bool_and(c.budget_cents IS NULL) THEN 'no_budget'
            ELSE 'live'
        END AS state
    FROM chained c
    LEFT JOIN LATERAL (SELECT * FROM {table} WHERE id = c.id OFFSET 0) k ON true
    WHERE {k.when_exceeded} IS NULL
    GROUP BY c.key_id
),
-- The one of the idempotency key first: the open one may be another.
earlier AS MATERIALIZED (
    SELECT
        r.*,
        r.cents = $4::text::bigint AND r.reason IS NOT DISTINCT FROM $5::text AND r.for_seconds = $6::text::bigint AS is_same
    FROM asker a
    CROSS JOIN LATERAL (
        SELECT *
        FROM {requests}
        WHERE key_id = a.id
          AND (state = 'pending' OR idempotency_key = $7::text)
        ORDER BY (idempotency_key = $7::text) IS TRUE DESC
        LIMIT 1
    ) r
    WHERE a.state = 'live'
),
recorded AS (
    INSERT INTO {requests} (key_id, account_id, cents, reason, for_seconds, idempotency_key, requested_at)
    SELECT a.id, a.account_id, $4::text::bigint, $5::text, $6::text::bigint, $7::text, statement_timestamp()
    FROM asker a
    WHERE a.state = 'live'
      AND NOT EXISTS (SELECT FROM earlier)
    ON CONFLICT DO NOTHING
    RETURNING *
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents,
        alarm_key, --? +deliveries
        metadata
    )
    SELECT
        r.key_id, r.account_id, 'request_increase', r.cents * 1000000,
        format('request_increase %s %s', r.id, date_part('epoch', r.requested_at)), --? +deliveries
        jsonb_strip_nulls(jsonb_build_object('requestId', r.id, 'reason', r.reason, 'forSeconds', r.for_seconds))
    FROM recorded r
)
SELECT ROW('requested', {increase})::text AS agentkey
FROM recorded r
UNION ALL
SELECT ROW(
    CASE
        WHEN r.is_same THEN 'replayed'
        WHEN r.idempotency_key = $7::text THEN 'idempotency_conflict'
        ELSE 'already_pending'
    END,
    {increase}
)::text
FROM earlier r
UNION ALL
SELECT ROW(CASE a.state WHEN 'live' THEN 'again' ELSE a.state END, NULL)::text
FROM asker a
WHERE NOT EXISTS (SELECT FROM recorded)
  AND NOT EXISTS (SELECT FROM earlier)
