-- Creates a key, or with an external subject the one row of that subject.
-- $1: JSON object of the values. One row: id, expiry, first reset; none if the subject has its row already.
WITH given AS (
    SELECT $1::text::jsonb AS p, statement_timestamp() AT TIME ZONE 'UTC' AS now
),
k AS (
    SELECT
        p,
        p->>'budget_period' AS budget_period,
        NULL::timestamptz AS budget_reset_at,
        CASE
            WHEN p->>'align' = 'calendar' THEN date_trunc(p->>'budget_period', now)
            WHEN p->>'budget_period' IN ('month', 'year') THEN date_trunc('day', now)
            WHEN p->>'budget_period' IS NOT NULL THEN now
        END AT TIME ZONE 'UTC' AS budget_anchor_at
    FROM given
)
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
    , external_subject --? external_subject
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
    , {first_reset} --? budget_reset_at
    , statement_timestamp() + make_interval(secs => (p->>'expires_in_seconds')::float8) --? expires_at
    , p->>'delegated_by' --? delegated_by
    , p->>'external_subject' --? external_subject
    , (p->>'account_id')::{account_type}
FROM k
WHERE NOT EXISTS (SELECT FROM {table} e WHERE e.external_subject = p->>'external_subject') --? external_subject
ON CONFLICT (external_subject) WHERE external_subject IS NOT NULL DO NOTHING --? external_subject
RETURNING ROW(k.id, extract(epoch FROM {k.expires_at}))::text AS agentkey
