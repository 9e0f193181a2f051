-- Looks up a batch of keys. Reads only: a budget reset that is due is computed here and written by the next charge.
-- $1: text[] of key hashes or external subjects, each once. $2: seconds after which a key's last use is old.
-- One row a key that exists: its place in $1, then what key_columns.sql names.
-- The sub-select hides the parameter from the planner: one plan, kept, whatever the number of keys.
SELECT ROW(
    input.n,
    {key_columns}
)::text AS agentkey
FROM unnest((SELECT $1::text::text[])) WITH ORDINALITY AS input(lookup, n)
-- OFFSET 0 keeps this a look-up by index for each key: no plan that reads the whole table, however stale the statistics.
CROSS JOIN LATERAL (
    SELECT
        k.*,
        coalesce({due}, false) AS is_due
    FROM {table} k
    WHERE k.{lookup} = input.lookup
    OFFSET 0
) k
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN k.is_due THEN 0 ELSE LEAST(coalesce({k.budget_used_cents}, 0), {max_cents}) END,
        CASE WHEN k.is_due THEN 0 ELSE {k.budget_used_microcents} END,
        CASE WHEN k.is_due THEN {next_reset} ELSE {k.budget_reset_at} END
) AS period(used_cents, used_microcents, reset_at)
