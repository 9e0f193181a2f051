-- The reservations whose time is over, the oldest first. $1: how many at most. $2: how many to leave out. One row each: its id.
SELECT ROW(id)::text AS agentkey
FROM {reservations}
WHERE state = 'pending'
  AND expires_at <= statement_timestamp()
ORDER BY expires_at, id
LIMIT $1::text::bigint OFFSET $2::text::bigint
