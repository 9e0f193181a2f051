-- Ledger entries after an id, the oldest first, as far as none before them can still appear: ids are drawn before they are
-- committed. $1 to $3: as in events.sql. $4: the id. $5: how many at most. $6: an entry's id, and $7: a transaction that was
-- numbered after that entry was there; or NULL. Whoever drew an earlier id had its number then: rows lock keys first, and are
-- written after. Once all transactions of lower numbers are over, what is not there up to $6 never will be.
-- The first row: the latest entry's id, if there is any after $4, with a transaction's number from now; whether all before $6
-- are settled. Then, if so, as events.sql.
WITH latest AS MATERIALIZED (
    SELECT max(id) AS id FROM {events}
),
settled AS MATERIALIZED (
    SELECT coalesce(pg_snapshot_xmin(pg_current_snapshot())::text::bigint > $7::text::bigint, false) AS yes
)
SELECT ROW(
    l.id,
    CASE WHEN NOT s.yes AND l.id > $4::text::bigint AND $6::text IS NULL THEN pg_current_xact_id() END,
    s.yes
)::text AS agentkey
FROM latest l, settled s
UNION ALL
SELECT *
FROM (
    SELECT ROW({event}, e.metadata)::text
    FROM {events} e, settled s
    WHERE s.yes
      AND ($1::text IS NULL OR e.key_id = $1::text::{id_type})
      AND ($2::text IS NULL OR e.account_id = $2::text::{account_type})
      AND ($3::text IS NULL OR e.kind = $3::text)
      AND e.id > $4::text::bigint
      AND e.id <= $6::text::bigint
    ORDER BY e.id
    LIMIT $5::text::bigint
) e
