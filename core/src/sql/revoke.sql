-- Revokes a live key. $1: id. $2: the account that it must belong to, or NULL for any.
UPDATE {table} k
SET revoked_at = statement_timestamp()
WHERE k.id = $1::text::{id_type}
  AND k.revoked_at IS NULL
  AND ($2::text IS NULL OR k.account_id = $2::text::{account_type})
RETURNING ROW(k.id)::text AS agentkey
