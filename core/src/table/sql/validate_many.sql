-- validate_one.sql for several keys. $1: text[] of key hashes or external subjects, each once.
-- One row a key that exists: as validate.sql's, the last two fields NULL.
-- The sub-select hides the parameter from the planner: one plan, kept, whatever the number of keys.
SELECT ROW(
    input.n,
    {key_columns}
    , k.ancestor_ids IS NOT NULL --? ancestor_ids
    , false --! ancestor_ids
    , NULL
    , NULL
)::text AS agentkey
FROM unnest((SELECT $1::text::text[])) WITH ORDINALITY AS input(lookup, n)
-- OFFSET 0 keeps this a look-up by index for each key: no plan that reads the whole table, however stale the statistics.
CROSS JOIN LATERAL (SELECT k.* FROM {table} k WHERE k.{lookup} = input.lookup OFFSET 0) k
