-- Changes a key. $1: its id. $2: JSON object of what is changed; null is a value. $3 and $4: the kind of its ledger entry, and
-- the changes as JSON, or NULL. $5: the id again, if the statement is to wait for a row that somebody else has locked; or NULL.
-- One row, if there is such a key: its id, and whether it was changed. One whose row somebody else has locked was not. A new
-- period begins now, with what is used.
WITH given AS (
    -- Tables without a ledger name all parameters, too: untyped drivers do not say what those are that no statement names.
    SELECT $2::text::jsonb AS p, $3::text AS kind, $4::text AS entry, statement_timestamp() AT TIME ZONE 'UTC' AS now
),
begun AS (
    SELECT
        p,
        p->>'budget_period' AS budget_period,
        NULL::timestamptz AS budget_reset_at,
        {first_anchor} AS budget_anchor_at
    FROM given
),
period AS MATERIALIZED (
    SELECT k.budget_anchor_at, (SELECT {first_reset} FROM (SELECT k.budget_anchor_at AS anchor_at) a) AS budget_reset_at
    FROM begun k
),
waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $5::text::{id_type} FOR NO KEY UPDATE
),
before AS MATERIALIZED (
    SELECT k.id, p.before AS used, p.stored, {reserved} AS reserved
        , CASE WHEN {budget} > 0 THEN {cap} ELSE 9223372036854775807 END AS cap --? thresholds
    FROM (SELECT count(*) FROM waited) AS has_waited(rows)
    CROSS JOIN LATERAL (
        SELECT *
        FROM {table}
        WHERE id = $1::text::{id_type}
          AND has_waited.rows >= 0
          AND when_exceeded IS NULL --? when_exceeded
        FOR NO KEY UPDATE SKIP LOCKED
    ) k
    CROSS JOIN LATERAL {period} p
),
changed AS (
    UPDATE {table} k
    SET
        name = CASE WHEN g.p ? 'name' THEN g.p->>'name' ELSE k.name END, --? name
        scopes = CASE WHEN g.p ? 'scopes' THEN (g.p->>'scopes')::{scopes_type} ELSE k.scopes END, --? scopes
        budget_cents = CASE WHEN g.p ? 'budget_cents' THEN (g.p->>'budget_cents')::bigint ELSE k.budget_cents END, --? budget_cents
        budget_period = CASE WHEN g.p ? 'budget_period' THEN g.p->>'budget_period' ELSE k.budget_period END, --? budget_period
        budget_used_cents = CASE WHEN g.p ? 'budget_period' THEN b.used / 1000000 ELSE k.budget_used_cents END, --? budget_used_cents
        budget_used_microcents = CASE WHEN g.p ? 'budget_period' THEN b.used % 1000000 ELSE k.budget_used_microcents END, --? budget_used_microcents
        budget_microcents_reset_at = CASE WHEN g.p ? 'budget_period' THEN t.budget_reset_at ELSE k.budget_microcents_reset_at END, --? budget_microcents_reset_at
        budget_anchor_at = CASE WHEN g.p ? 'budget_period' THEN t.budget_anchor_at ELSE k.budget_anchor_at END, --? budget_anchor_at
        budget_reset_at = CASE WHEN g.p ? 'budget_period' THEN t.budget_reset_at ELSE k.budget_reset_at END, --? budget_reset_at
        expires_at = CASE --? expires_at
            WHEN g.p ? 'expires_in_seconds' THEN statement_timestamp() + make_interval(secs => (g.p->>'expires_in_seconds')::float8) --? expires_at
            ELSE k.expires_at --? expires_at
        END, --? expires_at
        metadata = CASE WHEN g.p ? 'metadata' THEN NULLIF(g.p->'metadata', 'null') ELSE k.metadata END, --? jsonb_metadata
        disabled_at = CASE g.p->>'disabled' --? disabled_at
            WHEN 'true' THEN coalesce(k.disabled_at, statement_timestamp()) --? disabled_at
            WHEN 'false' THEN NULL --? disabled_at
            ELSE k.disabled_at --? disabled_at
        END, --? disabled_at
        key_prefix = k.key_prefix
    FROM given g, period t, before b
    WHERE k.id = b.id
    RETURNING k.id, k.account_id
        , {budget}::bigint AS budget_cents, {cap} AS cap, {k.budget_reset_at} AS reset_at --? thresholds
)
, crossing AS ( --? thresholds
    SELECT c.id, c.account_id, c.budget_cents, c.cap, b.cap AS cap_before, b.used AS used_before, b.used AS used_after, --? thresholds
        b.reserved AS reserved_after, c.reset_at, NULL::{id_type} AS via_key_id --? thresholds
    FROM changed c, before b, given g --? thresholds
    WHERE g.p ? 'budget_cents' --? thresholds
), --? thresholds
raised AS ( --? thresholds
    {raised} --? thresholds
) --? thresholds
, logged AS ( --? +events
    INSERT INTO {events} (key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents, metadata) --? +events
    SELECT e.* --? +events
    FROM changed c, given g, before b --? +events
    CROSS JOIN LATERAL ( --? +events
        SELECT c.id, c.account_id, 'reset', b.used - b.stored, b.used, b.reserved, NULL::jsonb --? +events
        WHERE g.p ? 'budget_period' AND b.used <> b.stored AND {ledger} --? +events
        UNION ALL --? +events
        SELECT c.id, c.account_id, g.kind, NULL, NULL, NULL, g.entry::jsonb --? +events
    ) e --? +events
) --? +events
SELECT ROW(id, true)::text AS agentkey
FROM changed
UNION ALL
SELECT ROW(id, false)::text
FROM {table}
WHERE id = $1::text::{id_type}
  AND when_exceeded IS NULL --? when_exceeded
  AND NOT EXISTS (SELECT FROM before)
