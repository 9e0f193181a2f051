-- Creates a key, or with an external subject the one row of that subject.
-- $1: JSON object of the values. One row: id, expiry; none if the subject has its row already, or the parent is no longer
-- live. A key never outlives its parent. Its limits are rows of their own: the nearest of its ancestors, which descend
-- from nothing.
WITH given AS (
    SELECT $1::text::jsonb AS p, statement_timestamp() AT TIME ZONE 'UTC' AS now
),
k AS (
    SELECT
        p,
        p->>'budget_period' AS budget_period,
        NULL::timestamptz AS budget_reset_at,
        {first_anchor} AS budget_anchor_at
    FROM given
)
, parent AS MATERIALIZED ( --? parent_id
    SELECT p.id, p.expires_at, p.ancestor_ids --? parent_id
    FROM {table} p --? parent_id
    WHERE p.id = (SELECT (p->>'parent_id')::{id_type} FROM given) --? parent_id
      AND p.revoked_at IS NULL --? parent_id
    -- Whoever changes the parent's chain waits, and finds that there are children.
    FOR NO KEY UPDATE --? parent_id
) --? parent_id
, marked AS ( --? has_children
    UPDATE {table} --? has_children
    SET has_children = true --? has_children
    WHERE id = (SELECT id FROM parent) AND has_children IS NOT TRUE --? has_children
) --? has_children
, limited AS ( --? when_exceeded
    INSERT INTO {table} AS k ( --? when_exceeded
        key_hash, key_prefix, name, account_id, budget_cents, budget_period, budget_anchor_at, budget_reset_at, when_exceeded --? when_exceeded
    ) --? when_exceeded
    SELECT --? when_exceeded
        k.p->>'key_hash', 'limit', g.p->>'name', (g.p->>'account_id')::{account_type}, (k.p->>'budget_cents')::bigint, --? when_exceeded
        k.budget_period, k.budget_anchor_at, --? when_exceeded
        (SELECT {first_reset} FROM (SELECT k.budget_anchor_at AS anchor_at) a), k.p->>'when_exceeded' --? when_exceeded
    FROM given g --? when_exceeded
    CROSS JOIN LATERAL ( --? when_exceeded
        SELECT p, p->>'budget_period' AS budget_period, NULL::timestamptz AS budget_reset_at, {first_anchor} AS budget_anchor_at --? when_exceeded
        FROM (SELECT l.p, g.now FROM jsonb_array_elements(g.p->'limits') AS l(p)) l --? when_exceeded
    ) k --? when_exceeded
    WHERE true --? when_exceeded
      AND NOT EXISTS (SELECT FROM {table} e WHERE e.external_subject = g.p->>'external_subject') --? when_exceeded external_subject
      AND (g.p->>'parent_id' IS NULL OR EXISTS (SELECT FROM parent)) --? when_exceeded
    RETURNING k.id, k.key_hash --? when_exceeded
) --? when_exceeded
, created AS (
INSERT INTO {table} AS k (
    key_hash,
    key_prefix
    , name --? name
    , user_id --? user_id
    , scopes --? scopes
    , budget_cents --? budget_cents
    , budget_period --? budget_period
    , budget_anchor_at --? budget_anchor_at
    , budget_reset_at --? budget_reset_at
    , expires_at --? expires_at
    , delegated_by --? delegated_by
    , metadata --? jsonb_metadata
    , external_subject --? external_subject
    , parent_id --? parent_id
    , ancestor_ids --? parent_id
    , account_id
)
SELECT
    p->>'key_hash',
    p->>'key_prefix'
    , p->>'name' --? name
    , p->>'user_id' --? user_id
    , (p->>'scopes')::{scopes_type} --? scopes
    , (p->>'budget_cents')::bigint --? budget_cents
    , k.budget_period --? budget_period
    , k.budget_anchor_at --? budget_anchor_at
    , (SELECT {first_reset} FROM (SELECT k.budget_anchor_at AS anchor_at) a) --? budget_reset_at
    , LEAST( --? expires_at
        statement_timestamp() + make_interval(secs => (p->>'expires_in_seconds')::float8) --? expires_at
        , (SELECT expires_at FROM parent) --? parent_id
    ) --? expires_at
    , p->>'delegated_by' --? delegated_by
    , NULLIF(p->'metadata', 'null') --? jsonb_metadata
    , p->>'external_subject' --? external_subject
    , (SELECT id FROM parent) --? parent_id
    , CASE WHEN p->>'parent_id' IS NOT NULL OR p ? 'limits' THEN --? parent_id
        ARRAY( --? when_exceeded
            SELECT l.id --? when_exceeded
            FROM jsonb_array_elements(p->'limits') WITH ORDINALITY AS g(p, n) --? when_exceeded
            JOIN limited l ON l.key_hash = g.p->>'key_hash' --? when_exceeded
            ORDER BY g.n --? when_exceeded
        ) || --? when_exceeded
        coalesce((SELECT ARRAY[id] || ancestor_ids FROM parent), ARRAY[]::{id_type}[]) --? parent_id
    END --? parent_id
    , (p->>'account_id')::{account_type}
FROM k
WHERE true
  AND NOT EXISTS (SELECT FROM {table} e WHERE e.external_subject = p->>'external_subject') --? external_subject
  AND (p->>'parent_id' IS NULL OR EXISTS (SELECT FROM parent)) --? parent_id
ON CONFLICT (external_subject) WHERE external_subject IS NOT NULL DO NOTHING --? external_subject
RETURNING k.*
)
, logged AS ( --? +events
    INSERT INTO {events} (key_id, account_id, kind, actor) --? +events
    SELECT k.id, k.account_id, 'create', k.delegated_by FROM created k --? +events
) --? +events
SELECT ROW(k.id, extract(epoch FROM {k.expires_at}))::text AS agentkey
FROM created k
