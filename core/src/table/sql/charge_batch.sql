-- Charges a batch: one row a key. What a decision needs is read from rows that this statement has locked, in id order.
-- $1: text[] of key hashes or external subjects, each once. $2: bigint[], each key's total in micro-cents.
-- $3: text[] of bigint[], each key's costs in ascending order: where the total does not fit, the longest prefix that
-- does is charged, and a refused cost never crowds out an accepted one. $4: the id of the only row that it waits for if
-- somebody else has locked it, before it locks any other; or NULL.
-- One row a key that is live: its place in $1, whether it has a parent, budget, then after all its charges used cents,
-- micro-cents and reserved micro-cents, then micro-cents used before; NULL where all of it was charged. A key with a parent is
-- not charged: spend.sql decides, and the other fields are NULL. A key whose row somebody else has locked is not charged:
-- its parent is NULL, and its id stands in place of the budget.
WITH found AS MATERIALIZED (
    SELECT k.id, input.n, input.lookup, input.total, input.costs
    FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::bigint[]), (SELECT $3::text::text[]))
        WITH ORDINALITY AS input(lookup, total, costs, n)
    CROSS JOIN LATERAL (SELECT id FROM {table} WHERE {lookup} = input.lookup OFFSET 0) k
    ORDER BY k.id
),
-- With everything ready, so that the row is locked no longer than it must be.
waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $4::text::{id_type} AND (SELECT count(*) FROM found) >= 0 FOR NO KEY UPDATE
),
locked AS MATERIALIZED (
    SELECT
        k.id,
        k.{lookup} = input.lookup AND k.revoked_at IS NULL AS is_live,
        input.n,
        input.total,
        input.costs,
        {budget} AS budget_cents,
        {cap} AS cap,
        {reserved} AS reserved,
        k.account_id, --? thresholds
        p.*
        , k.ancestor_ids IS NOT NULL AS has_parent --? ancestor_ids
    FROM found input
    CROSS JOIN (SELECT count(*) FROM waited) AS has_waited(rows)
    CROSS JOIN LATERAL (
        SELECT * FROM {table} WHERE id = input.id AND has_waited.rows >= 0 LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) k
    CROSS JOIN LATERAL {period} p
),
decided AS MATERIALIZED (
    SELECT
        l.id,
        l.n,
        l.budget_cents,
        l.account_id, --? thresholds
        l.cap, --? thresholds
        l.reserved,
        l.anchor_at,
        l.reset_at,
        l.before,
        l.before + CASE
            WHEN l.total <= l.cap - l.reserved - l.before THEN l.total
            WHEN (l.costs::bigint[])[1] > l.cap - l.reserved - l.before THEN 0
            ELSE coalesce((
                SELECT max(prefix.total)::bigint
                FROM (SELECT sum(cost) OVER (ORDER BY cost ROWS UNBOUNDED PRECEDING) AS total FROM unnest(l.costs::bigint[]) cost) prefix
                WHERE prefix.total <= l.cap - l.reserved - l.before
            ), 0)
        END AS after
    FROM locked l
    WHERE l.is_live
      AND NOT l.has_parent --? ancestor_ids
),
charged AS (
    UPDATE {table} k
    SET
        budget_used_microcents = d.after % 1000000, --? budget_used_microcents
        budget_microcents_reset_at = d.reset_at, --? budget_microcents_reset_at
        budget_anchor_at = d.anchor_at, --? budget_anchor_at
        budget_reset_at = d.reset_at, --? budget_reset_at
        budget_used_cents = d.after / 1000000
    FROM decided d
    WHERE k.id = d.id
      AND d.after > d.before
)
, crossing AS ( --? thresholds
    SELECT d.id, d.account_id, d.budget_cents, d.cap, d.cap AS cap_before, d.before AS used_before, d.after AS used_after, --? thresholds
        d.reserved AS reserved_after, d.reset_at, NULL::{id_type} AS via_key_id --? thresholds
    FROM decided d --? thresholds
    WHERE d.after > d.before --? thresholds
), --? thresholds
raised AS ( --? thresholds
    {raised} --? thresholds
) --? thresholds
SELECT ROW(
    d.n, false, d.budget_cents, d.after / 1000000, d.after % 1000000, d.reserved, d.before
)::text AS agentkey
FROM decided d
UNION ALL --? ancestor_ids
SELECT ROW(l.n, true, NULL, NULL, NULL, NULL, NULL)::text --? ancestor_ids
FROM locked l --? ancestor_ids
WHERE l.is_live AND l.has_parent --? ancestor_ids
UNION ALL
SELECT ROW(f.n, NULL, f.id, NULL, NULL, NULL, NULL)::text
FROM found f
WHERE f.id NOT IN (SELECT id FROM locked)
