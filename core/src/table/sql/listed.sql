-- The rows of a page, and one row more: the last id that was looked at, and how many were.
-- $9: how many keys at most.
, wanted AS MATERIALIZED (
    SELECT id FROM looked_at WHERE is_wanted ORDER BY id LIMIT $9::text::bigint
)
SELECT agentkey
FROM (
    {key_record}
    UNION ALL
    SELECT NULL, ROW((SELECT id FROM looked_at ORDER BY id DESC LIMIT 1), (SELECT count(*) FROM looked_at))::text
) r
ORDER BY place
