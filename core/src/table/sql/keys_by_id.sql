-- Finds the hashes of keys that are named by their ids.
-- $1: text[] of ids, each once. One row a key that exists: its place in $1, and its hash.
-- The sub-select hides the parameter from the planner: one plan, kept, whatever the number of keys.
SELECT ROW(input.n, k.key_hash)::text AS agentkey
FROM unnest((SELECT $1::text::text[])) WITH ORDINALITY AS input(id, n)
CROSS JOIN LATERAL (
    SELECT key_hash
    FROM {table}
    WHERE id = input.id::{id_type}
      AND when_exceeded IS NULL --? when_exceeded
    OFFSET 0
) k
