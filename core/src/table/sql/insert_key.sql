-- Creates a key, or with an external subject the one row of that subject.
-- $1: JSON object of the values. One row: id, expiry; none if the subject has its row already, or the parent is no longer
-- live. A key never outlives its parent.
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
    SELECT p.id, p.expires_at --? parent_id
    FROM {table} p --? parent_id
    WHERE p.id = (SELECT (p->>'parent_id')::{id_type} FROM given) --? parent_id
      AND p.revoked_at IS NULL --? parent_id
    FOR SHARE --? parent_id
) --? parent_id
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
    , CASE WHEN p->>'parent_id' IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(p->'ancestor_ids')::{id_type}) END --? parent_id
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
