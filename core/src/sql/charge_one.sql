-- Charges one key in the common case: it is live and has no parent, no reset is due and the charge fits. No row means that
-- charge_batch.sql decides. Times 1,000,000: budgets are summed in micro-cents.
-- $1: key hash or external subject. $2: micro-cents.
UPDATE {table} k
SET
    budget_used_microcents = (coalesce({k.budget_used_microcents}, 0) + $2::text::bigint) % 1000000, --? budget_used_microcents
    budget_used_cents = coalesce(k.budget_used_cents, 0) + (coalesce({k.budget_used_microcents}, 0) + $2::text::bigint) / 1000000
WHERE k.{lookup} = $1::text
  AND k.revoked_at IS NULL
  AND k.ancestor_ids IS NULL --? ancestor_ids
  AND NOT coalesce({due}, false)
  -- A budget beyond what the column holds is cut to it: a total that cannot be stored is refused.
  AND $2::text::bigint <= (
        LEAST({k.budget_cents}, {max_cents})::bigint
        - LEAST(coalesce(k.budget_used_cents, 0), {max_cents})::bigint
        - coalesce({k.budget_reserved_cents}, 0)
      ) * 1000000 - coalesce({k.budget_used_microcents}, 0)
RETURNING ROW(
    1,
    k.id,
    {k.budget_cents},
    k.budget_used_cents::bigint * 1000000 + coalesce({k.budget_used_microcents}, 0) - $2::text::bigint,
    coalesce({k.budget_reserved_cents}, 0) * 1000000,
    k.budget_used_cents::bigint * 1000000 + coalesce({k.budget_used_microcents}, 0)
)::text AS agentkey
