-- Charges one key in the common case: it is live and has no parent, no reset can be due and all that it is charged fits. No
-- row means that charge_batch.sql decides. It waits for the key's row if somebody else has locked it, and holds no other.
-- $1: key hash or external subject. $2: micro-cents, in all. The row, if the key is charged: as charge_batch.sql's.
-- A budget beyond what the column holds is cut to it: a total that cannot be stored is refused.
UPDATE {table} k
SET
    budget_used_microcents = ({used} + $2::text::bigint) % 1000000, --? budget_used_microcents
    budget_microcents_reset_at = k.budget_reset_at, --? budget_microcents_reset_at
    budget_used_cents = ({used} + $2::text::bigint) / 1000000
WHERE k.{lookup} = $1::text
  AND {is_plain}
  AND $2::text::bigint <= {room}
RETURNING ROW(
    1,
    false,
    {charged}
)::text AS agentkey
