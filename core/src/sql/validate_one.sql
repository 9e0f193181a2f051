-- Looks up one key in the common case, which is cheap to plan: it exists, no budget reset is due and it has no parent.
-- No row means that validate.sql decides.
-- $1: key hash or external subject. $2: seconds after which a last use is old. The row is that of validate.sql.
SELECT ROW(
    1,
    {key_columns}
)::text AS agentkey
FROM {table} k
CROSS JOIN LATERAL (
    SELECT LEAST(coalesce({k.budget_used_cents}, 0), {max_cents}), {k.budget_used_microcents}, {k.budget_reset_at}
) AS period(used_cents, used_microcents, reset_at)
WHERE k.{lookup} = $1::text
  AND NOT coalesce({due}, false)
  AND k.ancestor_ids IS NULL --? ancestor_ids
