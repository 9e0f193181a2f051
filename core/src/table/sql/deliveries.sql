-- Deliveries that are not done, the latest first. $1: only of this webhook, or NULL. $2: only dead ones, unless it is NULL. $3: how
-- many at most. One row each: a JSON object.
SELECT ROW(jsonb_build_object(
    'webhook', d.webhook,
    'eventId', d.event_id,
    'keyId', e.key_id,
    'kind', e.kind,
    'attempts', d.attempts,
    'nextAt', CASE WHEN d.dead_at IS NULL THEN to_char(d.next_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END,
    'deadAt', to_char(d.dead_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'error', d.error
))::text AS agentkey
FROM {deliveries} d
JOIN {events} e ON e.id = d.event_id
WHERE ($1::text IS NULL OR d.webhook = $1::text)
  AND ($2::text IS NULL OR d.dead_at IS NOT NULL)
ORDER BY d.event_id DESC, d.webhook
LIMIT $3::text::bigint
