-- Requests for more budget, the newest first. $1 to $6: as increase_filter.sql says. One row each: a JSON object.
-- Each way to find them has a part of its own, so that an index serves it; of the open ones there is one a key at most.
WITH RECURSIVE tree AS (
    SELECT id FROM {table} WHERE id = $3::text::{id_type}
    UNION
    SELECT k.id FROM tree t JOIN {table} k ON k.parent_id = t.id
),
found AS (
    (
        SELECT r.* FROM {requests} r WHERE $1::text IS NOT NULL AND r.key_id = $1::text::{id_type} AND {increase_filter}
    )
    UNION ALL
    (
        SELECT r.*
        FROM tree t
        CROSS JOIN LATERAL (
            SELECT r.* FROM {requests} r WHERE r.key_id = t.id AND {increase_filter}
        ) r
        WHERE $1::text IS NULL
    )
    UNION ALL
    (
        SELECT r.*
        FROM {requests} r
        WHERE $1::text IS NULL AND $3::text IS NULL AND $2::text IS NOT NULL AND r.account_id = $2::text::{account_type} AND {increase_filter}
    )
    UNION ALL
    (
        SELECT r.*
        FROM {requests} r
        WHERE $1::text IS NULL AND $2::text IS NULL AND $3::text IS NULL AND $4::text = 'pending' AND r.state = 'pending' AND {increase_filter}
    )
    UNION ALL
    (
        SELECT r.*
        FROM {requests} r
        WHERE $1::text IS NULL AND $2::text IS NULL AND $3::text IS NULL AND $4::text IS DISTINCT FROM 'pending' AND {increase_filter}
    )
)
SELECT ROW({increase})::text AS agentkey
FROM found r
ORDER BY r.id DESC
LIMIT $6::text::bigint
