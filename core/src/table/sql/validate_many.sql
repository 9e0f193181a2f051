-- validate_one.sql for several keys. $1: text[] of key hashes or external subjects, each once.
-- One row a key that exists: as validate.sql's, the last two fields NULL. With versions, two more that tell a later version
-- of the row, and a row of place 0: the time, and the run that the versions are of. While its budget is raised a row has none:
-- the end of that changes the key, not the row.
-- The sub-select hides the parameter from the planner: one plan, kept, whatever the number of keys.
SELECT ROW(
    input.n,
    {key_columns}
    , k.ancestor_ids IS NOT NULL --? ancestor_ids
    , false --! ancestor_ids
    , NULL
    , NULL
    , CASE WHEN {k.budget_boost_until} > statement_timestamp() THEN NULL ELSE k.xmin END --? versions
    , k.ctid --? versions
)::text AS agentkey
FROM unnest((SELECT $1::text::text[])) WITH ORDINALITY AS input(lookup, n)
-- OFFSET 0 keeps this a look-up by index for each key: no plan that reads the whole table, however stale the statistics.
CROSS JOIN LATERAL (
    SELECT
        k.xmin, k.ctid, --? versions
        k.*
    FROM {table} k
    WHERE k.{lookup} = input.lookup
    OFFSET 0
) k
UNION ALL --? versions
SELECT ROW(0, extract(epoch FROM statement_timestamp()), {run})::text --? versions
