-- What is wrong with the rows. Only reads. No parameters. One row a kind of finding that there is: a JSON object, with some of
-- the keys that it is about.
WITH finding(check_name, id, found) AS (
    SELECT f.check_name, k.id::text, f.found
    FROM {table} k
    CROSS JOIN LATERAL (
        VALUES
            ('overflow', {k.budget_used_cents} > {max_cents} OR {k.budget_used_cents} < -{max_credit} OR {k.budget_cents} > {max_cents} OR {k.budget_reserved_cents} > {max_cents}, 'a budget or counter beyond what can be added up'),
            ('full_counter', {k.budget_cents} IS NULL AND {k.budget_used_cents}::numeric + coalesce({k.budget_reserved_cents}, 0) >= {max_cents}, 'no budget, and a counter that holds no more'),
            ('negative_budget', {k.budget_cents} < 0 OR {k.budget_reserved_cents} < 0, 'a budget or hold below nothing'),
            ('bad_fraction', {k.budget_used_microcents} NOT BETWEEN -999999 AND 999999 OR {k.budget_reserved_microcents} NOT BETWEEN 0 AND 999999, 'a fraction of a cent that is none'),
            ('null_account', k.account_id IS NULL AND {k.parent_id} IS NULL AND {k.external_subject} IS NULL AND {k.when_exceeded} IS NULL, 'a key of no account'),
            ('infinite_time', NOT isfinite({k.budget_reset_at}) OR NOT isfinite({k.budget_anchor_at})
                OR {k.budget_anchor_at} NOT BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 00:00:00+00'
                OR {k.budget_reset_at} NOT BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 00:00:00+00', 'a time that never comes'),
            ('unknown_period', {k.budget_period} NOT IN ('month', 'year') AND {period_seconds} IS NULL, 'a period that nobody knows'),
            ('no_reset', {k.budget_period} IS NOT NULL AND {k.budget_cents} IS NOT NULL AND {k.budget_reset_at} IS NULL, 'a period that never ends'),
            ('broken_chain', {k.parent_id} IS NOT NULL AND k.ancestor_ids IS NULL OR k.ancestor_ids IS NOT NULL AND (
                array_position({chain}, NULL) IS NOT NULL
                OR EXISTS (SELECT FROM unnest({chain}) AS a(id) WHERE NOT EXISTS (SELECT FROM {table} p WHERE p.id = a.id))
            ), 'ancestors that cannot be'),
            ('wrong_parent', {k.parent_id} IS DISTINCT FROM (
                SELECT a.id
                FROM unnest(k.ancestor_ids) WITH ORDINALITY AS a(id, distance)
                WHERE a.id NOT IN (SELECT l.id FROM {table} l WHERE l.when_exceeded IS NOT NULL) --? when_exceeded
                ORDER BY a.distance
                LIMIT 1
            ), 'a parent that is not the first ancestor'),
            ('bad_hash', {k.external_subject} IS NULL AND (length(k.key_hash) <> 64 OR k.key_hash !~ '^[0-9a-f]*$'), 'a hash that is none'),
            ('bad_scopes', {bad_scopes}, 'scopes that no request can name')
    ) AS f(check_name, is_so, found)
    WHERE f.is_so
    UNION ALL
    SELECT 'stale_hold', r.key_id::text, 'a hold whose time was over an hour ago and more'
    FROM {reservations} r
    WHERE r.state = 'pending' AND r.expires_at < statement_timestamp() - interval '1 hour'
    UNION ALL
    SELECT 'orphan_hold', r.key_id::text, 'a hold of a key that is gone'
    FROM {reservations} r
    WHERE r.state = 'pending' AND NOT EXISTS (SELECT FROM {table} k WHERE k.id = r.key_id)
    UNION ALL
    SELECT 'wrong_hold', k.id::text, 'what is held is not what open reservations hold'
    FROM {table} k
    LEFT JOIN (
        SELECT c.id, sum(r.amount_microcents) AS amount
        FROM {reservations} r
        JOIN {table} k ON k.id = r.key_id
        CROSS JOIN LATERAL unnest({chain}) AS c(id)
        WHERE r.state = 'pending'
        GROUP BY c.id
    ) h ON h.id = k.id
    WHERE {reserved} <> coalesce(h.amount, 0)
)
SELECT ROW(jsonb_build_object(
    'check', check_name,
    'subject', array_to_string((array_agg(DISTINCT id))[1:10], ', '),
    'found', count(*)::text || CASE count(*) WHEN 1 THEN ' row: ' ELSE ' rows: ' END || min(found)
))::text AS agentkey
FROM finding
GROUP BY check_name
ORDER BY check_name
