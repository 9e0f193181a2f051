-- Revokes every live key of an account, under a parent, or that a human delegated. $1: the account, $2: the parent's
-- id, $3: the human; one of them, the others NULL. $4: the id of the only row that it waits for if somebody else has
-- locked it, before it locks any other; or NULL.
-- One row a live key: its id, and whether it was revoked. One whose row somebody else has locked was not.
WITH RECURSIVE waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $4::text::{id_type} FOR NO KEY UPDATE
),
top AS MATERIALIZED (
    SELECT $2::text::{id_type} AS id WHERE $2::text IS NOT NULL
),
{tree},
-- Each by its index. The planner expects ten rows of an array, however many it fears: see tree.sql.
wanted AS MATERIALIZED (
    SELECT w.id
    FROM unnest(ARRAY(
        SELECT id
        FROM {table}
        WHERE account_id = $1::text::{account_type}
          AND revoked_at IS NULL
          AND when_exceeded IS NULL --? when_exceeded
        UNION ALL
        SELECT id FROM {table}
        WHERE hashtext(delegated_by) = hashtext($3::text) AND delegated_by = $3::text AND revoked_at IS NULL
        UNION ALL
        SELECT id FROM tree WHERE parent_id IS NOT NULL
    )) AS w(id)
),
locked AS MATERIALIZED (
    SELECT k.id
    FROM (
        SELECT id
        FROM wanted, (SELECT count(*) FROM waited) AS has_waited(rows)
        WHERE has_waited.rows >= 0
        ORDER BY id
    ) w
    CROSS JOIN LATERAL (
        SELECT id FROM {table} WHERE id = w.id AND revoked_at IS NULL LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) k
),
-- Of what is to be revoked the planner knows nothing: an array has it look the rows up, however many it fears.
revoked AS (
    UPDATE {table} k
    SET revoked_at = statement_timestamp()
    WHERE k.id = ANY (ARRAY(SELECT id FROM locked))
    RETURNING k.id, k.account_id
),
logged AS (
    INSERT INTO {events} (key_id, account_id, kind) SELECT id, account_id, 'revoke' FROM revoked
)
SELECT ROW(id, true)::text AS agentkey
FROM revoked
UNION ALL
SELECT ROW(w.id, false)::text
FROM wanted w
CROSS JOIN LATERAL (SELECT FROM {table} WHERE id = w.id AND revoked_at IS NULL OFFSET 0) live
WHERE w.id NOT IN (SELECT id FROM locked)
