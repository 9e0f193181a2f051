-- Revokes a live key. $1: id. $2: the account that it must belong to, or NULL for any. $3: the key that it must be or
-- descend from, or NULL for any. $4: the id again, if the statement is to wait for a row that somebody else has locked; or NULL.
-- One row if there is such a live key: its id, and whether it was revoked. One whose row somebody else has locked was not.
WITH waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $4::text::{id_type} FOR NO KEY UPDATE
),
wanted AS MATERIALIZED (
    SELECT k.id
    FROM {table} k, (SELECT count(*) FROM waited) AS has_waited(rows)
    WHERE k.id = $1::text::{id_type}
      AND has_waited.rows >= 0
      AND k.revoked_at IS NULL
      AND k.when_exceeded IS NULL --? when_exceeded
      AND ($2::text IS NULL OR k.account_id = $2::text::{account_type})
      AND ($3::text IS NULL OR k.id = $3::text::{id_type} OR $3::text::{id_type} = ANY (k.ancestor_ids)) --? ancestor_ids
      AND ($3::text IS NULL OR k.id = $3::text::{id_type}) --! ancestor_ids
),
locked AS MATERIALIZED (
    SELECT k.id, k.is_live
    FROM wanted w
    CROSS JOIN LATERAL (
        SELECT id, revoked_at IS NULL AS is_live FROM {table} WHERE id = w.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) k
),
revoked AS (
    UPDATE {table} k
    SET revoked_at = statement_timestamp()
    FROM locked l
    WHERE k.id = l.id
      AND l.is_live
    RETURNING k.id, k.account_id
)
, logged AS ( --? +events
    INSERT INTO {events} (key_id, account_id, kind) SELECT id, account_id, 'revoke' FROM revoked --? +events
) --? +events
SELECT ROW(id, true)::text AS agentkey
FROM revoked
UNION ALL
SELECT ROW(w.id, false)::text
FROM wanted w
WHERE w.id NOT IN (SELECT id FROM locked)
