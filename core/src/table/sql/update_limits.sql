-- Gives a key other limits. $1: its id. $2: JSON array of the limits that it is to have, with the hash of a row that may be
-- new. $3: the id again, if the statement is to wait for a row that somebody else has locked; or NULL.
-- One row, if there is such a key: what became of it. `done`; `busy`, if a row is locked or changed just now; `parent`, if it
-- needs more rows than it has, and has children, whose chains would lack them.
-- A limit is known by its period: what is used of it stays. A row that is no longer wanted stays in the chain without a
-- budget, since open reservations are held on it, and serves for the next new limit.
WITH given AS MATERIALIZED (
    SELECT l.n, l.p, l.p->>'budget_period' AS budget_period, {first_anchor} AS budget_anchor_at
    FROM (
        SELECT l.n, l.p, statement_timestamp() AT TIME ZONE 'UTC' AS now
        FROM jsonb_array_elements($2::text::jsonb) WITH ORDINALITY AS l(p, n)
    ) l
),
seen AS MATERIALIZED (
    SELECT id, ancestor_ids FROM {table} WHERE id = $1::text::{id_type} AND when_exceeded IS NULL
),
waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $3::text::{id_type} FOR NO KEY UPDATE
),
locked AS MATERIALIZED (
    SELECT k.*
    FROM seen s
    CROSS JOIN (SELECT count(*) FROM waited) AS has_waited(rows)
    CROSS JOIN LATERAL (
        SELECT
            k.id, k.account_id, {k.name} AS name, k.ancestor_ids, k.budget_reserved_cents, k.budget_reserved_microcents,
            coalesce(k.has_children, false) AS has_children,
            k.ancestor_ids IS DISTINCT FROM s.ancestor_ids AS has_moved
        FROM {table} k
        WHERE k.id = s.id
          AND has_waited.rows >= 0
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ) k
),
-- The nearest ancestors that are limits.
owned AS MATERIALIZED (
    SELECT a.id, a.n
    FROM (
        SELECT a.id, a.n, bool_and(l.id IS NOT NULL) OVER (ORDER BY a.n) AS is_own
        FROM locked k
        CROSS JOIN LATERAL unnest(k.ancestor_ids) WITH ORDINALITY AS a(id, n)
        LEFT JOIN LATERAL (SELECT id FROM {table} WHERE id = a.id AND when_exceeded IS NOT NULL OFFSET 0) l ON true
    ) a
    WHERE a.is_own
    ORDER BY a.id
),
owned_row AS MATERIALIZED (
    SELECT o.n, k.id, k.account_id, k.budget_cents IS NOT NULL AS is_used, k.budget_period, {reserved} AS reserved, p.stored
        , p.before AS used, CASE WHEN k.budget_cents > 0 THEN {cap} ELSE 9223372036854775807 END AS cap --? thresholds
    FROM owned o
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = o.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) k
    CROSS JOIN LATERAL {period} p
),
kept AS MATERIALIZED (
    SELECT g.n, r.id
    FROM given g
    JOIN owned_row r ON r.is_used AND r.budget_period IS NOT DISTINCT FROM g.budget_period
),
reused AS MATERIALIZED (
    SELECT g.n, r.id
    FROM (SELECT n, row_number() OVER (ORDER BY n) AS place FROM given WHERE n NOT IN (SELECT n FROM kept)) g
    LEFT JOIN (SELECT id, row_number() OVER (ORDER BY n) AS place FROM owned_row WHERE id NOT IN (SELECT id FROM kept)) r
        ON r.place = g.place
),
decided AS MATERIALIZED (
    SELECT
        k.*,
        CASE
            WHEN k.has_moved OR (SELECT count(*) FROM owned) <> (SELECT count(*) FROM owned_row) THEN 'busy'
            WHEN EXISTS (SELECT FROM reused WHERE id IS NULL)
                AND (k.has_children OR EXISTS (SELECT FROM {table} c WHERE c.parent_id = k.id))
            THEN 'parent'
            ELSE 'done'
        END AS status
    FROM locked k
),
inserted AS (
    INSERT INTO {table} AS k (
        key_hash, key_prefix, account_id, budget_cents, budget_period, budget_anchor_at, budget_reset_at,
        budget_reserved_cents, budget_reserved_microcents, when_exceeded
        , name --? name
    )
    SELECT
        k.p->>'key_hash', 'limit', d.account_id, (k.p->>'budget_cents')::bigint, k.budget_period, k.budget_anchor_at, k.reset_at,
        d.budget_reserved_cents, d.budget_reserved_microcents, k.p->>'when_exceeded'
        , d.name --? name
    FROM decided d
    CROSS JOIN (
        SELECT k.n, k.p, k.budget_period, k.budget_anchor_at, (SELECT {first_reset} FROM (SELECT k.budget_anchor_at AS anchor_at) a) AS reset_at
        FROM (SELECT g.*, NULL::timestamptz AS budget_reset_at FROM given g) k
    ) k
    JOIN reused r ON r.n = k.n AND r.id IS NULL
    WHERE d.status = 'done'
    RETURNING k.id, k.key_hash
),
changes AS MATERIALIZED (
    SELECT r.id, k.p, k.budget_period, k.budget_anchor_at, k.reset_at, u.id IS NOT NULL AS is_new, k.n IS NULL AS is_over
    FROM decided d
    CROSS JOIN owned_row r
    LEFT JOIN kept ON kept.id = r.id
    LEFT JOIN reused u ON u.id = r.id
    LEFT JOIN (
        SELECT k.n, k.p, k.budget_period, k.budget_anchor_at, (SELECT {first_reset} FROM (SELECT k.budget_anchor_at AS anchor_at) a) AS reset_at
        FROM (SELECT g.*, NULL::timestamptz AS budget_reset_at FROM given g) k
    ) k ON k.n = coalesce(kept.n, u.n)
    WHERE d.status = 'done'
),
changed AS (
    UPDATE {table} k
    SET
        budget_cents = (c.p->>'budget_cents')::bigint,
        when_exceeded = coalesce(c.p->>'when_exceeded', k.when_exceeded),
        budget_period = CASE WHEN c.is_new THEN c.budget_period ELSE k.budget_period END,
        budget_anchor_at = CASE WHEN c.is_new THEN c.budget_anchor_at ELSE k.budget_anchor_at END,
        budget_reset_at = CASE WHEN c.is_new THEN c.reset_at ELSE k.budget_reset_at END,
        budget_used_cents = CASE WHEN c.is_new THEN 0 ELSE k.budget_used_cents END,
        budget_used_microcents = CASE WHEN c.is_new THEN 0 ELSE k.budget_used_microcents END,
        budget_microcents_reset_at = CASE WHEN c.is_new THEN c.reset_at ELSE k.budget_microcents_reset_at END
    FROM changes c
    WHERE k.id = c.id
    RETURNING k.id, k.account_id, c.is_new --? thresholds
        , {k.budget_cents}::bigint AS budget_cents, {cap} AS cap, {k.budget_reset_at} AS reset_at --? thresholds
),
crossing AS ( --? thresholds
    SELECT c.id, c.account_id, c.budget_cents, c.cap, r.cap AS cap_before, r.used AS used_before, r.used AS used_after, --? thresholds
        r.reserved AS reserved_after, c.reset_at, $1::text::{id_type} AS via_key_id --? thresholds
    FROM changed c --? thresholds
    JOIN owned_row r ON r.id = c.id --? thresholds
    WHERE NOT c.is_new --? thresholds
), --? thresholds
raised AS ( --? thresholds
    {raised} --? thresholds
), --? thresholds
linked AS (
    UPDATE {table} k
    SET ancestor_ids = d.ancestor_ids[:o.count] || i.ids || d.ancestor_ids[o.count + 1:]
    FROM decided d
    CROSS JOIN (SELECT count(*)::int AS count FROM owned) o
    CROSS JOIN (
        SELECT array_agg(i.id ORDER BY g.n) AS ids
        FROM inserted i
        JOIN given g ON g.p->>'key_hash' = i.key_hash
    ) i
    WHERE k.id = d.id
      AND cardinality(i.ids) > 0
),
logged AS (
    INSERT INTO {events} (key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents, metadata)
    SELECT r.id, r.account_id, 'reset', -r.stored, 0, r.reserved, NULL::jsonb
    FROM owned_row r
    JOIN changes c ON c.id = r.id AND c.is_new
    WHERE r.stored <> 0 AND {ledger}
    UNION ALL
    SELECT d.id, d.account_id, 'update', NULL, NULL, NULL, jsonb_build_object('limits', coalesce((
        SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
            'cents', g.p->'budget_cents', 'period', g.p->'budget_period', 'whenExceeded', g.p->'when_exceeded'
        )) ORDER BY g.n)
        FROM given g
    ), '[]'))
    FROM decided d
    WHERE d.status = 'done'
)
SELECT ROW(coalesce(d.status, 'busy'))::text AS agentkey
FROM seen s
LEFT JOIN decided d ON d.id = s.id
