-- Deletes ledger entries that are older than $1 seconds. Of each key the newest entry stays, and all that follow the
-- first that is young enough, so that what is left still adds up. At most $2 rows. One row: how many.
WITH kept AS (
    SELECT
        e.key_id,
        LEAST(max(e.id), min(e.id) FILTER (WHERE e.at >= statement_timestamp() - make_interval(secs => LEAST($1::text::float8, 1e11)))) AS id
    FROM {events} e
    GROUP BY e.key_id
),
deleted AS (
    DELETE FROM {events} e
    USING (
        SELECT e.id FROM {events} e JOIN kept ON kept.key_id = e.key_id AND e.id < kept.id ORDER BY e.id LIMIT $2::text::bigint
    ) old
    WHERE e.id = old.id
    RETURNING e.id
)
, forgotten AS ( --? +deliveries
    DELETE FROM {deliveries} d USING deleted x WHERE d.event_id = x.id --? +deliveries
) --? +deliveries
SELECT ROW(count(*))::text AS agentkey
FROM deleted
