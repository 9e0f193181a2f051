-- Looks up a batch of keys. Reads only: a budget reset that is due is computed here and written by the next charge.
-- $1: text[] of key hashes or external subjects, each once. $2: seconds after which a key's last use is old.
-- One row a key that exists: its place in $1, then its columns.
SELECT ROW(
    input.n,
    k.id,
    k.account_id,
    {k.name},
    {k.user_id},
    {k.scopes},
    {k.delegated_by},
    {k.budget_period},
    {k.budget_cents},
    CASE WHEN {due} THEN 0 ELSE LEAST(coalesce({k.budget_used_cents}, 0), {max_cents}) END,
    CASE WHEN {due} THEN 0 ELSE {k.budget_used_microcents} END,
    {k.budget_reserved_cents},
    extract(epoch FROM CASE WHEN {due} THEN {next_reset} ELSE {k.budget_reset_at} END),
    extract(epoch FROM {k.expires_at}),
    k.revoked_at IS NOT NULL,
    {k.disabled_at} IS NOT NULL,
    coalesce({k.expires_at} <= statement_timestamp(), false),
    coalesce({k.last_used_at} < statement_timestamp() - make_interval(secs => $2::text::float8), true)
)::text AS agentkey
FROM unnest($1::text::text[]) WITH ORDINALITY AS input(lookup, n)
-- OFFSET 0 keeps this a look-up by index for each key: no plan that reads the whole table, however stale the statistics.
CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {lookup} = input.lookup OFFSET 0) k
