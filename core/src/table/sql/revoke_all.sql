-- Revokes every live key of an account, under a parent, or that a human delegated. $1: the account, $2: the parent's
-- id, $3: the human; one of them, the others NULL. One row a key: its id.
WITH RECURSIVE descendant AS (
    SELECT k.id FROM {table} k WHERE k.parent_id = $2::text::{id_type}
    UNION
    SELECT k.id FROM descendant d JOIN {table} k ON k.parent_id = d.id
),
wanted AS MATERIALIZED (
    SELECT k.id
    FROM {table} k
    WHERE k.revoked_at IS NULL
      AND (k.account_id = $1::text::{account_type} OR k.delegated_by = $3::text OR k.id IN (SELECT id FROM descendant))
    ORDER BY k.id
    FOR NO KEY UPDATE
),
revoked AS (
    UPDATE {table} k
    SET revoked_at = statement_timestamp()
    FROM wanted w
    WHERE k.id = w.id
    RETURNING k.id, k.account_id
),
logged AS (
    INSERT INTO {events} (key_id, account_id, kind) SELECT id, account_id, 'revoke' FROM revoked
)
SELECT ROW(id)::text AS agentkey
FROM revoked
