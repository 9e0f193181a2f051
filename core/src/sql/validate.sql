-- Looks up a batch of keys, whatever they need. Reads only: a budget reset that is due is computed here and written by
-- the next charge.
-- $1: text[] of key hashes, external subjects or ids, each once.
-- One row a key that exists: its place in $1, what key_columns.sql names, the next reset if one is due, its ancestors.
-- The sub-select hides the parameter from the planner: one plan, kept, whatever the number of keys.
SELECT ROW(
    input.n,
    {key_columns},
    CASE WHEN {due} THEN extract(epoch FROM {next_reset}) END
    , chain.states --? ancestor_ids
    , NULL --! ancestor_ids
)::text AS agentkey
FROM unnest((SELECT $1::text::text[])) WITH ORDINALITY AS input(lookup, n)
-- OFFSET 0 keeps this a look-up by index for each key: no plan that reads the whole table, however stale the statistics.
CROSS JOIN LATERAL (SELECT k.* FROM {table} k WHERE k.{lookup} = input.lookup{lookup_cast} OFFSET 0) k
-- Of each ancestor, nearest first: id, whether it exists, budget, used, micro-cents, reserved, reset, when it expires,
-- revoked, disabled, the next reset if one is due.
CROSS JOIN LATERAL ( --? ancestor_ids
    SELECT array_agg(ROW( --? ancestor_ids
        ancestor.id, --? ancestor_ids
        k.id IS NOT NULL, --? ancestor_ids
        k.budget_cents, --? ancestor_ids
        k.budget_used_cents, --? ancestor_ids
        k.budget_used_microcents, --? ancestor_ids
        k.budget_reserved_cents, --? ancestor_ids
        extract(epoch FROM k.budget_reset_at), --? ancestor_ids
        extract(epoch FROM k.expires_at), --? ancestor_ids
        k.revoked_at IS NOT NULL, --? ancestor_ids
        k.disabled_at IS NOT NULL, --? ancestor_ids
        CASE WHEN {due} THEN extract(epoch FROM {next_reset}) END --? ancestor_ids
    )::text ORDER BY ancestor.distance) AS states --? ancestor_ids
    FROM unnest(k.ancestor_ids) WITH ORDINALITY AS ancestor(id, distance) --? ancestor_ids
    LEFT JOIN LATERAL (SELECT * FROM {table} WHERE id = ancestor.id OFFSET 0) k ON true --? ancestor_ids
) chain --? ancestor_ids
