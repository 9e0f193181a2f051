-- Looks up a batch of keys. Reads only: a budget reset that is due is computed here and written by the next charge.
-- $1: text[] of key hashes or external subjects, each once. $2: seconds after which a key's last use is old.
-- One row a key that exists: its place in $1, then what key_columns.sql names.
-- The sub-select hides the parameter from the planner: one plan, kept, whatever the number of keys.
SELECT ROW(
    input.n,
    {key_columns}
    , chain.states --? ancestor_ids
)::text AS agentkey
FROM unnest((SELECT $1::text::text[])) WITH ORDINALITY AS input(lookup, n)
-- OFFSET 0 keeps this a look-up by index for each key: no plan that reads the whole table, however stale the statistics.
CROSS JOIN LATERAL (
    SELECT
        k.*,
        coalesce({due}, false) AS is_due
    FROM {table} k
    WHERE k.{lookup} = input.lookup{lookup_cast}
    OFFSET 0
) k
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN k.is_due THEN 0 ELSE LEAST(coalesce({k.budget_used_cents}, 0), {max_cents}) END,
        CASE WHEN k.is_due THEN 0 ELSE {k.budget_used_microcents} END,
        CASE WHEN k.is_due THEN {next_reset} ELSE {k.budget_reset_at} END
) AS period(used_cents, used_microcents, reset_at)
-- Of each ancestor, nearest first: id, whether it exists, budget, used, micro-cents, reserved, reset, seconds until it
-- expires, revoked, disabled, expired.
CROSS JOIN LATERAL ( --? ancestor_ids
    SELECT array_agg(ROW( --? ancestor_ids
        ancestor.id, --? ancestor_ids
        a.is_due IS NOT NULL, --? ancestor_ids
        a.budget_cents, --? ancestor_ids
        CASE WHEN a.is_due THEN 0 ELSE LEAST(coalesce(a.budget_used_cents, 0), {max_cents}) END, --? ancestor_ids
        CASE WHEN a.is_due THEN 0 ELSE a.budget_used_microcents END, --? ancestor_ids
        a.budget_reserved_cents, --? ancestor_ids
        extract(epoch FROM CASE WHEN a.is_due THEN a.next_reset ELSE a.budget_reset_at END), --? ancestor_ids
        floor(extract(epoch FROM a.expires_at - statement_timestamp())), --? ancestor_ids
        a.revoked_at IS NOT NULL, --? ancestor_ids
        a.disabled_at IS NOT NULL, --? ancestor_ids
        coalesce(a.expires_at <= statement_timestamp(), false) --? ancestor_ids
    )::text ORDER BY ancestor.distance) AS states --? ancestor_ids
    FROM unnest(k.ancestor_ids) WITH ORDINALITY AS ancestor(id, distance) --? ancestor_ids
    LEFT JOIN LATERAL ( --? ancestor_ids
        SELECT k.*, coalesce({due}, false) AS is_due, CASE WHEN {due} THEN {next_reset} END AS next_reset --? ancestor_ids
        FROM {table} k --? ancestor_ids
        WHERE k.id = ancestor.id --? ancestor_ids
        OFFSET 0 --? ancestor_ids
    ) a ON true --? ancestor_ids
) chain --? ancestor_ids
