-- charge_one.sql for several charges of one key: it is charged in whole, for all that is asked of it, or has no row. Then
-- charge_batch.sql decides. It waits for the key's row if somebody else has locked it, and holds no other.
-- $1: key hash or external subject. $2: bigint[], its costs in micro-cents. The row, if the key is charged: as
-- charge_batch.sql's.
UPDATE {table} k
SET
    budget_used_microcents = ({used} + t.total::bigint) % 1000000, --? budget_used_microcents
    budget_microcents_reset_at = k.budget_reset_at, --? budget_microcents_reset_at
    budget_used_cents = ({used} + t.total::bigint) / 1000000
FROM (SELECT sum(cost) AS total FROM unnest($2::text::bigint[]) cost) t
WHERE k.{lookup} = $1::text
  AND {is_plain}
  AND t.total <= {room}
RETURNING ROW(
    1,
    false,
    {charged}
)::text AS agentkey
