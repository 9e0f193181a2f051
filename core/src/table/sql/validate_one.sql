-- Looks up one key as its row stands, which is cheap to plan. Where a budget reset is due or the key has a parent,
-- validate.sql decides.
-- $1: key hash or external subject. The row, if the key exists: as validate.sql's, the last two fields NULL.
SELECT ROW(
    1,
    {key_columns}
    , k.ancestor_ids IS NOT NULL --? ancestor_ids
    , false --! ancestor_ids
    , NULL
    , NULL
)::text AS agentkey
FROM {table} k
WHERE k.{lookup} = $1::text
