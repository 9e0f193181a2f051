-- Takes deliveries of a webhook that are due. $1: its name. $2: how many at most. $3: seconds for which they are this caller's:
-- after them they are due again. $4: true, to make the webhook known; or NULL.
-- The row of event 0 is the webhook's place in the ledger: all alarms up to `position` were queued. As in events_after.sql, the
-- next are queued up to `mark` once nobody is left of `holders`, by a statement after the one that found that.
-- One row of one field if the place moved: there may be more. One row a delivery: how often it was tried, the time, the event,
-- its metadata.
WITH place AS MATERIALIZED (
    SELECT position, mark, holders FROM {deliveries} WHERE webhook = $1::text AND event_id = 0
),
latest AS MATERIALIZED (
    SELECT id, tableoid FROM {events} WHERE alarm_key IS NOT NULL ORDER BY id DESC LIMIT 1
),
begun AS (
    INSERT INTO {deliveries} (webhook, event_id, position)
    SELECT $1::text, 0, coalesce((SELECT id FROM latest), 0)
    WHERE NOT EXISTS (SELECT FROM place) AND $4::text = 'true'
    ON CONFLICT DO NOTHING
),
moved AS (
    UPDATE {deliveries} d
    SET
        position = CASE WHEN p.holders = ARRAY[]::text[] THEN p.mark ELSE p.position END,
        mark = CASE WHEN p.mark IS NULL THEN t.id WHEN p.holders <> ARRAY[]::text[] THEN p.mark END,
        holders = CASE
            WHEN p.mark IS NULL THEN coalesce({holders}, ARRAY[]::text[])
            WHEN p.holders <> ARRAY[]::text[] THEN ARRAY(SELECT h.holder FROM unnest({holders}) AS h(holder) WHERE h.holder = ANY (p.holders))
        END
    FROM place p, latest t
    WHERE d.webhook = $1::text
      AND d.event_id = 0
      AND ROW(d.position, d.mark, d.holders) IS NOT DISTINCT FROM ROW(p.position, p.mark, p.holders)
      AND (p.mark IS NOT NULL OR t.id > p.position)
    RETURNING p.position AS since, p.mark, p.holders = ARRAY[]::text[] AS is_settled, p.holders IS DISTINCT FROM d.holders AS has_moved
),
queued AS (
    INSERT INTO {deliveries} (webhook, event_id, next_at)
    SELECT $1::text, e.id, statement_timestamp()
    FROM moved m
    JOIN {events} e ON e.alarm_key IS NOT NULL AND e.id > m.since AND e.id <= m.mark
    WHERE m.is_settled
    ON CONFLICT DO NOTHING
),
due AS MATERIALIZED (
    SELECT d.event_id
    FROM {deliveries} d
    WHERE d.webhook = $1::text
      AND d.event_id > 0
      AND d.dead_at IS NULL
      AND d.next_at <= statement_timestamp()
    ORDER BY d.next_at, d.event_id
    LIMIT $2::text::bigint
    FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE {deliveries} d
    SET attempts = LEAST(d.attempts, 1000) + 1, next_at = statement_timestamp() + make_interval(secs => $3::text::float8)
    FROM due
    WHERE d.webhook = $1::text AND d.event_id = due.event_id
    RETURNING d.event_id, d.attempts
)
SELECT ROW(true)::text AS agentkey
FROM moved
WHERE has_moved
UNION ALL
SELECT ROW(c.attempts, floor(extract(epoch FROM statement_timestamp()))::bigint, {event}, e.metadata)::text
FROM claimed c
JOIN {events} e ON e.id = c.event_id
