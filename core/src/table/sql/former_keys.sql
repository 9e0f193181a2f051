-- Finds keys by the secrets that they had before they were rotated, as long as these still count.
-- $1: text[] of key hashes, each once. One row a key that exists: its place in $1, and its hash now.
-- A secret that a key has now, in a row written by hand, names that key alone.
-- The sub-select hides the parameter from the planner: one plan, kept, whatever the number of keys.
SELECT ROW(input.n, k.key_hash)::text AS agentkey
FROM unnest((SELECT $1::text::text[])) WITH ORDINALITY AS input(lookup, n)
CROSS JOIN LATERAL (
    SELECT key_hash
    FROM {table}
    WHERE prev_key_hash = input.lookup
      AND prev_key_expires_at > statement_timestamp()
      AND NOT EXISTS (SELECT FROM {table} WHERE key_hash = input.lookup OFFSET 0)
    OFFSET 0
) k
