-- Notes that keys were used. A row that somebody else is writing is left out, and named in the answer.
-- $1: array of ids. $2: seconds after which a last use is old. One row a key that was left out: its id.
WITH old AS MATERIALIZED (
    SELECT k.id
    FROM unnest($1::text::{id_type}[]) AS input(id)
    JOIN {table} k ON k.id = input.id
    WHERE k.last_used_at IS NULL OR k.last_used_at < statement_timestamp() - make_interval(secs => $2::text::float8)
),
free AS MATERIALIZED (
    SELECT k.id
    FROM old
    JOIN {table} k ON k.id = old.id
    ORDER BY k.id
    FOR NO KEY UPDATE OF k SKIP LOCKED
),
touched AS (
    UPDATE {table} k
    SET last_used_at = statement_timestamp()
    FROM free
    WHERE k.id = free.id
)
SELECT ROW(old.id)::text AS agentkey
FROM old
WHERE NOT EXISTS (SELECT FROM free WHERE free.id = old.id)
