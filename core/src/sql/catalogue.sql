-- The columns of the keys table.
-- $1: the quoted table name. One row a column: name, type, the base type of a domain, NOT NULL.
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
