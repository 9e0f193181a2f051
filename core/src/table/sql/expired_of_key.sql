-- Those of them that hold something of one key's budget: its own and those of all keys below it. $1, $2: as
-- expired_reservations.sql's. $3: the key's id. One row each: its id.
WITH RECURSIVE tree AS (
    SELECT $3::text::{id_type} AS id
    UNION
    SELECT k.id FROM tree t JOIN {table} k ON k.parent_id = t.id
)
SELECT ROW(r.id)::text AS agentkey
FROM tree t
CROSS JOIN LATERAL (
    SELECT id
    FROM {reservations}
    WHERE key_id = t.id
      AND state = 'pending'
      AND expires_at <= statement_timestamp()
    ORDER BY expires_at, id
    LIMIT $1::text::bigint + $2::text::bigint
) r
LIMIT $1::text::bigint OFFSET $2::text::bigint
