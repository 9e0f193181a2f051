-- Raises the alarms that time causes, for what has none yet. $1: seconds before a key expires, or NULL: none of these.
-- $2: seconds for which a reservation is open, or NULL: none of these. $3: how many of each at most.
-- One row: how many of each were raised. A row that somebody else has locked is left for the next time: nobody waits here, not
-- even for an alarm that another process is about to write, whose row it has locked. Every row is judged once more after it was
-- locked.
WITH expiring AS MATERIALIZED (
    SELECT k.id, k.account_id, k.expires_at
    FROM (
        SELECT k.id
        FROM {table} k
        WHERE k.expires_at > statement_timestamp()
          AND k.expires_at <= statement_timestamp() + make_interval(secs => $1::text::float8)
          AND k.revoked_at IS NULL
          -- Of a key that never lives longer than that, everybody knows it.
          AND ({k.created_at} >= k.expires_at - make_interval(secs => $1::text::float8)) IS NOT TRUE
          AND NOT EXISTS (
              SELECT FROM {events} e WHERE e.key_id = k.id AND e.alarm_key = format('expiring %s', date_part('epoch', k.expires_at))
          )
        ORDER BY k.expires_at, k.id
        LIMIT $3::text::bigint
    ) w
    CROSS JOIN LATERAL (
        SELECT id, account_id, expires_at
        FROM {table}
        WHERE id = w.id
          AND expires_at > statement_timestamp()
          AND expires_at <= statement_timestamp() + make_interval(secs => $1::text::float8)
          AND revoked_at IS NULL
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ) k
),
stale AS MATERIALIZED (
    SELECT r.*
    FROM (
        SELECT r.id
        FROM {reservations} r
        WHERE r.state = 'pending'
          AND r.created_at <= statement_timestamp() - make_interval(secs => $2::text::float8)
          AND NOT EXISTS (SELECT FROM {events} e WHERE e.key_id = r.key_id AND e.alarm_key = format('stale_hold %s', r.id))
        ORDER BY r.expires_at, r.id
        LIMIT $3::text::bigint
    ) w
    CROSS JOIN LATERAL (
        SELECT id, key_id, amount_microcents, created_at, expires_at
        FROM {reservations}
        -- As in settle_flat.sql.
        WHERE id = w.id AND NULLIF(state, '') = 'pending'
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) r
),
raised AS (
    INSERT INTO {events} (key_id, account_id, kind, reservation_id, alarm_key, metadata)
    SELECT
        k.id, k.account_id, 'expiring', NULL, format('expiring %s', date_part('epoch', k.expires_at)),
        jsonb_build_object('expiresAt', to_char(k.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
    FROM expiring k
    UNION ALL
    SELECT
        r.key_id, (SELECT k.account_id FROM {table} k WHERE k.id = r.key_id), 'stale_hold', r.id, format('stale_hold %s', r.id),
        jsonb_build_object(
            'heldMicrocents', r.amount_microcents,
            'reservedAt', to_char(r.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'expiresAt', to_char(r.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
        )
    FROM stale r
    ON CONFLICT (key_id, alarm_key) WHERE alarm_key IS NOT NULL DO NOTHING
    RETURNING kind
)
SELECT ROW(count(*) FILTER (WHERE kind = 'expiring'), count(*) FILTER (WHERE kind = 'stale_hold'))::text AS agentkey
FROM raised
