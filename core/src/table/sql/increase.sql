-- A request for more budget, r, as JSON.
jsonb_build_object(
    'id', r.id,
    'keyId', r.key_id,
    'accountId', r.account_id::text,
    'state', r.state,
    'cents', r.cents,
    'reason', r.reason,
    'forSeconds', r.for_seconds,
    'requestedAt', to_char(LEAST(GREATEST(r.requested_at, '0001-01-01 00:00:00+00'), '9999-12-31 00:00:00+00') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'decidedAt', CASE WHEN isfinite(r.decided_at) THEN to_char(r.decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END,
    'decidedBy', r.decided_by,
    'decidedByKeyId', r.decided_by_key_id,
    'grantedCents', r.granted_cents,
    'grantedUntil', CASE WHEN isfinite(r.granted_until) THEN to_char(r.granted_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END
)
