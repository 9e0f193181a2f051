-- Gives a key a new secret. $1: its id; or $2: the hash of its secret, or of the one before while that counts. $3 and $4:
-- the new secret's hash, and what is shown of it. $5: seconds that the secret before counts. $6: idempotency key, or NULL.
-- $7: true, if the statement is to wait for a row that somebody else has locked; or NULL.
-- One row, if there is such a key: its id, what became of it (rotated, revoked, idempotency_conflict, former_of_another, or busy
-- if somebody else has locked its row), until when the secret before counts, and the other key whose former secret is this one's.
-- A repetition replaces the secret that its first run made, and nothing else: that one was shown to nobody. One of the
-- same attempt, whose answer was lost, finds its key by $3: without a grace the secret before counts no more.
WITH wanted AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $1::text::{id_type}
    UNION ALL
    SELECT id FROM {table} WHERE key_hash = $2::text
    UNION ALL
    SELECT id FROM {table} WHERE key_hash = $3::text AND $2::text IS NOT NULL
    UNION ALL
    SELECT id FROM {table} WHERE prev_key_hash = $2::text AND prev_key_expires_at > statement_timestamp()
    LIMIT 1
),
waited AS MATERIALIZED (
    SELECT k.id
    FROM wanted w
    CROSS JOIN LATERAL (SELECT id FROM {table} WHERE id = w.id AND $7::text = 'true' FOR UPDATE) k
),
-- A key's hash may be what others refer to: without FOR UPDATE, the UPDATE would wait for them while it holds the row.
locked AS MATERIALIZED (
    SELECT k.*
    FROM wanted w
    CROSS JOIN (SELECT count(*) FROM waited) AS has_waited(rows)
    CROSS JOIN LATERAL (
        SELECT
            k.id, k.account_id, k.key_hash, k.prev_key_hash, k.prev_key_expires_at, k.revoked_at IS NOT NULL AS is_revoked,
            $1::text IS NOT NULL
                OR k.key_hash IN ($2::text, $3::text)
                OR (k.prev_key_hash = $2::text AND k.prev_key_expires_at > statement_timestamp()) AS is_meant,
            {k.external_subject} IS NOT NULL OR {k.when_exceeded} IS NOT NULL AS has_no_secret
        FROM {table} k
        WHERE k.id = w.id
          AND has_waited.rows >= 0
        FOR UPDATE SKIP LOCKED
    ) k
),
first AS MATERIALIZED (
    SELECT
        e.id,
        e.kind = 'rotate'
            AND NOT EXISTS (SELECT FROM {events} WHERE key_id = e.key_id AND id > e.id AND kind = 'rotate') AS is_last
    FROM locked l
    CROSS JOIN LATERAL (
        SELECT * FROM {events} WHERE key_id = l.id AND idempotency_key = $6::text OFFSET 0
    ) e
),
decided AS MATERIALIZED (
    SELECT
        l.*,
        CASE
            WHEN l.is_revoked THEN 'revoked'
            WHEN EXISTS (SELECT FROM first WHERE NOT is_last) THEN 'idempotency_conflict'
            -- Rows that were copied by hand: a secret is the former one of one key at most.
            WHEN o.id IS NOT NULL AND NOT EXISTS (SELECT FROM first) THEN 'former_of_another'
            ELSE 'rotated'
        END AS status,
        o.id AS other_id,
        EXISTS (SELECT FROM first) AS is_repeated
    FROM locked l
    LEFT JOIN LATERAL (SELECT id FROM {table} WHERE prev_key_hash = l.key_hash AND id <> l.id) o ON true
    WHERE l.is_meant
      AND NOT l.has_no_secret
),
rotated AS (
    UPDATE {table} k
    SET
        key_hash = $3::text,
        key_prefix = $4::text,
        prev_key_hash = CASE WHEN d.is_repeated THEN d.prev_key_hash ELSE d.key_hash END,
        prev_key_expires_at = CASE
            WHEN d.is_repeated THEN d.prev_key_expires_at
            ELSE statement_timestamp() + make_interval(secs => $5::text::float8)
        END
    FROM decided d
    WHERE k.id = d.id
      AND d.status = 'rotated'
    RETURNING k.id, k.account_id, k.prev_key_expires_at, d.is_repeated
),
logged AS (
    INSERT INTO {events} (key_id, account_id, kind, idempotency_key, metadata)
    SELECT
        r.id, r.account_id, 'rotate', $6::text,
        jsonb_build_object('keyPrefix', $4::text, 'graceSeconds', trim_scale($5::text::numeric))
    FROM rotated r
    WHERE NOT r.is_repeated
),
-- The entry of a repetition is that of its first run.
relogged AS (
    UPDATE {events} e
    SET metadata = e.metadata || jsonb_build_object('keyPrefix', $4::text)
    FROM first f
    WHERE e.id = f.id
      AND EXISTS (SELECT FROM rotated)
)
SELECT ROW(
    d.id,
    d.status,
    extract(epoch FROM CASE WHEN r.prev_key_expires_at > statement_timestamp() THEN r.prev_key_expires_at END),
    d.other_id
)::text AS agentkey
FROM decided d
LEFT JOIN rotated r ON r.id = d.id
UNION ALL
SELECT ROW(w.id, 'busy', NULL, NULL)::text
FROM wanted w
WHERE w.id NOT IN (SELECT id FROM locked)
