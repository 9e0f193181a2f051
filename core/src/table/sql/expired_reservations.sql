-- The reservations whose time is over, the oldest first. $1: how many at most. One row each: its id.
SELECT ROW(id)::text AS agentkey
FROM {reservations}
WHERE state = 'pending'
  AND expires_at <= statement_timestamp()
ORDER BY expires_at
LIMIT $1::text::bigint
