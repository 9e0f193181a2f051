-- Counts a signup, unless its client has had as many as it may in its window. $1: the client, as a hash: 64 hexadecimal
-- digits. $2: how many in a window. $3: the window's length in seconds. $4: how many clients whose hashes begin with the
-- same two digits have rows of their own: the others of these share one, so the table is bounded. $5: true, if the statement
-- is to wait for a row that somebody else has locked; or NULL.
-- One row: counted, full or busy (somebody else has the row, look again); of a full one the seconds to its end.
WITH slot AS MATERIALIZED (
    SELECT CASE
        WHEN EXISTS (SELECT FROM {signups} WHERE client = $1::text) OR (
            SELECT count(*)
            FROM (
                SELECT
                FROM {signups}
                WHERE client >= left($1::text, 2)
                  AND client < left($1::text, 2) || 'g'
                  AND ends_at > statement_timestamp()
                LIMIT $4::text::bigint
            ) s
        ) < $4::text::bigint THEN $1::text
        ELSE left($1::text, 2)
    END AS client
),
waited AS MATERIALIZED (
    SELECT client
    FROM {signups}
    WHERE client = (SELECT client FROM slot)
      AND $5::text = 'true'
    FOR NO KEY UPDATE
),
wanted AS MATERIALIZED (
    SELECT client
    FROM {signups}
    WHERE client = (SELECT client FROM slot)
      AND (SELECT count(*) FROM waited) >= 0
),
locked AS MATERIALIZED (
    SELECT
        s.client,
        s.ends_at,
        s.count,
        -- A window that ends much later than one that begins now is of a clock that was put back since.
        s.ends_at > statement_timestamp()
            AND s.ends_at <= statement_timestamp() + make_interval(secs => $3::text::float8) + interval '1 minute' AS is_open
    FROM wanted w
    CROSS JOIN LATERAL (
        SELECT client, ends_at, count FROM {signups} WHERE client = w.client LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) s
),
updated AS (
    UPDATE {signups} s
    SET
        count = CASE WHEN l.is_open THEN l.count + 1 ELSE 1 END,
        ends_at = CASE
            WHEN l.is_open THEN l.ends_at
            ELSE statement_timestamp() + make_interval(secs => $3::text::float8)
        END
    FROM locked l
    WHERE s.client = l.client
      AND (NOT l.is_open OR l.count < $2::text::bigint)
    RETURNING s.client
),
inserted AS (
    INSERT INTO {signups} (client, ends_at, count)
    SELECT s.client, statement_timestamp() + make_interval(secs => $3::text::float8), 1
    FROM slot s
    WHERE NOT EXISTS (SELECT FROM wanted)
    ON CONFLICT DO NOTHING
    RETURNING client
),
counted AS MATERIALIZED (
    SELECT client FROM updated UNION ALL SELECT client FROM inserted
),
-- Windows that are over go on the way: more of them than are begun. Own row first: nobody waits while holding.
over AS MATERIALIZED (
    SELECT client
    FROM {signups}
    WHERE ends_at <= statement_timestamp()
      AND client <> (SELECT client FROM counted)
    ORDER BY ends_at
    LIMIT 100
    FOR UPDATE SKIP LOCKED
),
removed AS (
    DELETE FROM {signups} s USING over o WHERE s.client = o.client
)
SELECT ROW(
    CASE
        WHEN EXISTS (SELECT FROM counted) THEN 'counted'
        WHEN EXISTS (SELECT FROM locked) THEN 'full'
        ELSE 'busy'
    END,
    (SELECT ceil(extract(epoch FROM l.ends_at - statement_timestamp()))::bigint FROM locked l)
)::text AS agentkey
