-- The columns of the keys table, and its companion tables where they are there and are ours.
-- $1: the quoted table name. $2 to $6: the names of the reservations, events, requests, deliveries and
-- signups tables.
-- One row a column: name, type, the base type of a domain, NOT NULL. One row a companion: +kind, qualified name. A row
-- +versions where a row's version says whether it changed: in an ordinary table, on a server that tells its crashes.
SELECT ROW(
    a.attname,
    format_type(a.atttypid, a.atttypmod),
    CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END,
    a.attnotnull
)::text AS agentkey
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1::text)
  AND a.attnum > 0
  AND NOT a.attisdropped
UNION ALL
SELECT ROW('+' || companion.kind, format('%I.%I', n.nspname, companion.name), '', false)::text
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN (VALUES
    ('reservations', $2::text, 'settles_if_expired'),
    ('events', $3::text, 'remaining_after_microcents'),
    ('requests', $4::text, 'granted_until'),
    ('deliveries', $5::text, 'holders'),
    ('signups', $6::text, 'ends_at')
) AS companion(kind, name, own_column)
CROSS JOIN LATERAL (SELECT to_regclass(format('%I.%I', n.nspname, companion.name)) AS id) t
WHERE c.oid = to_regclass($1::text)
  AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.id AND a.attname = companion.own_column)
  -- They may be left from a table that is gone: this one must be migrated, or older than they are; and its columns of
  -- their types.
  AND (
    c.oid < t.id
    OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'ancestor_ids' AND NOT a.attisdropped)
  )
  AND NOT EXISTS (
    SELECT
    FROM (VALUES ('id', 'key_id'), ('account_id', 'account_id')) AS pair(ours, theirs)
    JOIN pg_catalog.pg_attribute k ON k.attrelid = c.oid AND k.attname = pair.ours
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.id AND a.attname = pair.theirs
    WHERE a.atttypid <> k.atttypid
  )
UNION ALL
SELECT ROW('+versions', '', '', false)::text
FROM pg_catalog.pg_class c
WHERE c.oid = to_regclass($1::text)
  AND c.relkind = 'r'
  AND current_setting('server_version_num')::integer >= 150000
  AND to_regproc('pg_catalog.pg_stat_get_bgwriter_stat_reset_time') IS NOT NULL
