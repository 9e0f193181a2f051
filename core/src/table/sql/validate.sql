-- Looks up a batch of keys, whatever they need. Reads only: a budget reset that is due is computed here and written by
-- the next charge.
-- $1: text[] of key hashes, external subjects or ids, each once.
-- One row a key that exists: its place in $1, what key_columns.sql names, whether it has a parent, the next reset if one
-- is due, its ancestors.
-- The sub-select hides the parameter from the planner: one plan, kept, whatever the number of keys.
SELECT ROW(
    input.n,
    {key_columns}
    , k.ancestor_ids IS NOT NULL --? ancestor_ids
    , false --! ancestor_ids
    , CASE WHEN p.is_due THEN extract(epoch FROM p.reset_at) END
    , chain.states --? ancestor_ids
    , NULL --! ancestor_ids
)::text AS agentkey
FROM unnest((SELECT $1::text::text[])) WITH ORDINALITY AS input(lookup, n)
-- OFFSET 0 keeps this a look-up by index for each key: no plan that reads the whole table, however stale the statistics.
CROSS JOIN LATERAL (
    SELECT k.*
    FROM {table} k
    WHERE k.{lookup} = input.lookup{lookup_cast}
      AND k.when_exceeded IS NULL --? when_exceeded
    OFFSET 0
) k
CROSS JOIN LATERAL {period} p
-- Of each ancestor, nearest first, its state.
CROSS JOIN LATERAL ( --? ancestor_ids
    SELECT array_agg(coalesce({ancestor_state}, ROW(ancestor.id, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::text) ORDER BY ancestor.distance) AS states --? ancestor_ids
    FROM unnest({chain}) WITH ORDINALITY AS ancestor(id, distance) --? ancestor_ids
    LEFT JOIN LATERAL (SELECT * FROM {table} WHERE id = ancestor.id OFFSET 0) k ON true --? ancestor_ids
    CROSS JOIN LATERAL {period} p --? ancestor_ids
    WHERE ancestor.distance > 1 --? ancestor_ids
) chain --? ancestor_ids
