-- Revokes a live key. $1: id. $2: the account that it must belong to, or NULL for any. $3: the key that it must be or
-- descend from, or NULL for any.
WITH revoked AS (
    UPDATE {table} k
    SET revoked_at = statement_timestamp()
    WHERE k.id = $1::text::{id_type}
      AND k.revoked_at IS NULL
      AND ($2::text IS NULL OR k.account_id = $2::text::{account_type})
      AND ($3::text IS NULL OR k.id = $3::text::{id_type} OR $3::text::{id_type} = ANY (k.ancestor_ids)) --? ancestor_ids
      AND ($3::text IS NULL OR k.id = $3::text::{id_type}) --! ancestor_ids
    RETURNING k.id, k.account_id
)
, logged AS ( --? +events
    INSERT INTO {events} (key_id, account_id, kind) SELECT id, account_id, 'revoke' FROM revoked --? +events
) --? +events
SELECT ROW(id)::text AS agentkey
FROM revoked
