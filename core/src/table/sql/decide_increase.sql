-- Decides a request for more budget. $1: its id. $2: true or false. $3: cents, or NULL: as many as were asked for. $4: seconds
-- that it lasts, or NULL: as long as was asked for. $5: who decides. $6: the id of the key that decides: a live ancestor of the
-- one that asked, or NULL: the application. $7: true, if the statement is to wait for the key's row; or NULL.
-- One row, if there is such a request that this decider may decide: what became of it, the request as JSON, and the ancestor
-- whose budget is too small: approved, denied, replayed, already_decided, busy; revoked, expired, no_budget, exceeds_ancestor.
-- The key's row is locked first, then the request's. What is left of an increase before is added, and the sum ends with the one
-- that ends first: nobody gets more, or for longer, than was approved.
WITH asked AS MATERIALIZED (
    SELECT id, key_id FROM {requests} WHERE id = $1::text::bigint
),
waited AS MATERIALIZED (
    SELECT k.id
    FROM asked a
    CROSS JOIN LATERAL (SELECT id FROM {table} WHERE id = a.key_id AND $7::text = 'true' FOR NO KEY UPDATE) k
),
locked AS MATERIALIZED (
    SELECT
        k.id,
        k.account_id,
        {state} AS state,
        {budget} AS budget_cents,
        {cap} AS cap,
        {reserved} AS reserved,
        p.before AS used,
        {chain} AS chain,
        b.boost_cents,
        CASE WHEN b.boost_cents > 0 THEN k.budget_boost_until END AS boost_until
    FROM asked a
    CROSS JOIN (SELECT count(*) FROM waited) AS has_waited(rows)
    CROSS JOIN LATERAL (
        SELECT * FROM {table} WHERE id = a.key_id AND has_waited.rows >= 0 LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) k
    CROSS JOIN LATERAL {period} p
    CROSS JOIN LATERAL (
        SELECT {boosted}
    ) b
),
request AS MATERIALIZED (
    SELECT r.*
    FROM (SELECT count(*) FROM locked) AS keys(rows)
    CROSS JOIN LATERAL (
        SELECT * FROM {requests} WHERE id = $1::text::bigint AND keys.rows > 0 LIMIT 1 FOR UPDATE SKIP LOCKED
    ) r
),
-- They are not locked: whatever is approved draws on them as they are then.
ancestor AS MATERIALIZED (
    SELECT k.id, c.distance, {state} AS state, {budget} AS budget_cents, {cap} AS cap
    FROM locked l
    CROSS JOIN LATERAL unnest(l.chain[2:]) WITH ORDINALITY AS c(id, distance)
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = c.id OFFSET 0) k
    -- Limits of their own periods go on as they are.
    WHERE {k.when_exceeded} IS NULL
),
wanted AS MATERIALIZED (
    SELECT
        r.id, r.state, g.cents AS granted_cents,
        statement_timestamp() + make_interval(secs => LEAST(coalesce($4::text::bigint, r.for_seconds), 31536000000)) AS granted_until,
        (
            SELECT a.id
            FROM ancestor a, locked l
            WHERE a.budget_cents IS NOT NULL
              AND a.cap / 1000000 < l.cap / 1000000 + g.cents
            ORDER BY a.distance
            LIMIT 1
        ) AS too_small,
        r.state = CASE $2::text WHEN 'true' THEN 'approved' ELSE 'denied' END
            AND r.decided_by = $5::text
            AND r.decided_by_key_id IS NOT DISTINCT FROM $6::text::{id_type}
            AND (r.state = 'denied' OR r.granted_cents = g.cents) AS is_same
    FROM request r
    CROSS JOIN LATERAL (SELECT GREATEST(LEAST(coalesce($3::text::bigint, r.cents), {max_cents}), 0)) AS g(cents)
    WHERE $6::text IS NULL
       OR EXISTS (SELECT FROM ancestor a WHERE a.id = $6::text::{id_type} AND a.state = 'live')
),
decided AS MATERIALIZED (
    SELECT
        w.*,
        CASE
            WHEN w.is_same THEN 'replayed'
            WHEN w.state <> 'pending' THEN 'already_decided'
            WHEN $2::text <> 'true' THEN 'denied'
            WHEN l.state IN ('revoked', 'expired') THEN l.state
            WHEN l.budget_cents IS NULL THEN 'no_budget'
            WHEN w.too_small IS NOT NULL THEN 'exceeds_ancestor'
            ELSE 'approved'
        END AS status,
        l.id AS key_id, l.account_id, l.budget_cents, l.cap, l.reserved, l.used,
        coalesce(l.boost_cents, 0) + w.granted_cents AS boost_after,
        LEAST(l.boost_until, w.granted_until) AS until_after
    FROM wanted w
    CROSS JOIN locked l
),
raised AS (
    UPDATE {table} k
    SET budget_boost_cents = d.boost_after, budget_boost_until = d.until_after
    FROM decided d
    WHERE k.id = d.key_id
      AND d.status = 'approved'
),
ended AS (
    UPDATE {requests} r
    SET
        state = d.status,
        decided_at = statement_timestamp(),
        decided_by = $5::text,
        decided_by_key_id = $6::text::{id_type},
        granted_cents = CASE d.status WHEN 'approved' THEN d.granted_cents END,
        granted_until = CASE d.status WHEN 'approved' THEN d.until_after END
    FROM decided d
    WHERE r.id = d.id
      AND d.status IN ('approved', 'denied')
    RETURNING r.*
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents, remaining_after_microcents, budget_cents, via_key_id, actor,
        alarm_key, --? +deliveries
        metadata
    )
    SELECT
        d.key_id, d.account_id, 'approve_increase', d.granted_cents * 1000000,
        LEAST(d.cap / 1000000 + d.granted_cents, {max_cents}) * 1000000 - d.used - d.reserved,
        LEAST(d.cap / 1000000 + d.granted_cents, {max_cents}), $6::text::{id_type}, $5::text,
        format('approve_increase %s %s', d.id, date_part('epoch', statement_timestamp())), --? +deliveries
        jsonb_build_object(
            'requestId', d.id,
            'until', to_char(d.until_after AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'boostCents', d.boost_after
        )
    FROM decided d
    WHERE d.status = 'approved'
    UNION ALL
    SELECT
        d.key_id, d.account_id, 'deny_increase', d.granted_cents * 1000000, NULL, NULL, $6::text::{id_type}, $5::text,
        format('deny_increase %s %s', d.id, date_part('epoch', statement_timestamp())), --? +deliveries
        jsonb_build_object('requestId', d.id)
    FROM decided d
    WHERE d.status = 'denied'
)
SELECT ROW(r.state, {increase}, NULL)::text AS agentkey
FROM ended r
UNION ALL
SELECT ROW(d.status, {increase}, d.too_small)::text
FROM decided d
JOIN request r ON r.id = d.id
WHERE d.status NOT IN ('approved', 'denied')
UNION ALL
SELECT ROW('busy', NULL, NULL)::text
FROM asked a
WHERE NOT EXISTS (SELECT FROM request)
  AND EXISTS (SELECT FROM {table} k WHERE k.id = a.key_id)
