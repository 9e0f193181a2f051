-- Ledger entries, the newest first. $1: key id, $2: account, $3: kind; NULL is any. $4: only entries before this id, or
-- NULL. $5: how many at most. $6: only alarms, unless it is NULL. One row each: a JSON object, and the metadata,
-- which may be JSON that no reader of ours takes.
SELECT ROW({event}, e.metadata)::text AS agentkey
FROM {events} e
WHERE ($1::text IS NULL OR e.key_id = $1::text::{id_type})
  AND ($2::text IS NULL OR e.account_id = $2::text::{account_type})
  AND ($3::text IS NULL OR e.kind = $3::text)
  AND ($6::text IS NULL OR e.alarm_key IS NOT NULL) --? +deliveries
  AND $6::text IS NULL --! +deliveries
  AND ($4::text IS NULL OR e.id < $4::text::bigint)
ORDER BY e.id DESC
LIMIT $5::text::bigint
