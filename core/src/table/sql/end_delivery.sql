-- What became of a delivery. $1: webhook. $2: the event's id. $3: the attempt: of an earlier one nothing is recorded. $4:
-- delivered, again, or dead. $5: seconds until it is tried again. $6: why it failed, or NULL.
-- One row: how many there were.
WITH delivered AS (
    DELETE FROM {deliveries}
    WHERE webhook = $1::text AND event_id = $2::text::bigint AND attempts = $3::text::bigint AND $4::text = 'delivered'
    RETURNING event_id
),
failed AS (
    UPDATE {deliveries}
    SET
        next_at = statement_timestamp() + make_interval(secs => $5::text::float8),
        dead_at = CASE $4::text WHEN 'dead' THEN statement_timestamp() END,
        error = $6::text
    WHERE webhook = $1::text AND event_id = $2::text::bigint AND attempts = $3::text::bigint AND $4::text <> 'delivered'
    RETURNING event_id
)
SELECT ROW((SELECT count(*) FROM delivered) + (SELECT count(*) FROM failed))::text AS agentkey
