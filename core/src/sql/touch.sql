-- Notes that keys were used. A row that somebody else is writing is left out: its next use notes it.
-- $1: array of ids. $2: seconds after which a last use is old.
WITH stale AS MATERIALIZED (
    SELECT k.id
    FROM unnest($1::text::{id_type}[]) AS input(id)
    JOIN {table} k ON k.id = input.id
    WHERE k.last_used_at IS NULL OR k.last_used_at < statement_timestamp() - make_interval(secs => $2::text::float8)
    ORDER BY k.id
    FOR NO KEY UPDATE OF k SKIP LOCKED
)
UPDATE {table} k
SET last_used_at = statement_timestamp()
FROM stale
WHERE k.id = stale.id
