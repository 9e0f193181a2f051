-- Ledger entries after an id, the oldest first, as far as none before them can still appear: ids are drawn before they are
-- committed. $1 to $3: as in events.sql. $4: the id. $5: how many at most. $6: only alarms, unless it is NULL.
-- $7: the latest entry that a statement before this one saw, and $8: text[] of those that held the ledger for writing after
-- that; or NULL. Whoever drew an id before $7 was among them, or was over. Once a statement has found none of them left, the
-- next one sees all that ever will be up to $7.
-- The first row, if there is an entry after $4: the latest, and who of $8 (of all, if it is NULL) is left. If $8 is empty: also
-- entries up to $7, as events.sql has them.
WITH latest AS MATERIALIZED (
    SELECT e.id, e.tableoid FROM (SELECT id, tableoid FROM {events} ORDER BY id DESC LIMIT 1) e WHERE e.id > $4::text::bigint
)
SELECT ROW(
    t.id,
    ARRAY(SELECT h.holder FROM unnest({holders}) AS h(holder) WHERE $8::text IS NULL OR h.holder = ANY ($8::text::text[]))
)::text AS agentkey
FROM latest t
UNION ALL
SELECT *
FROM (
    SELECT ROW({event}, e.metadata)::text
    FROM {events} e
    WHERE cardinality($8::text::text[]) = 0
      AND ($1::text IS NULL OR e.key_id = $1::text::{id_type})
      AND ($2::text IS NULL OR e.account_id = $2::text::{account_type})
      AND ($3::text IS NULL OR e.kind = $3::text)
      AND ($6::text IS NULL OR e.alarm_key IS NOT NULL) --? +deliveries
      AND $6::text IS NULL --! +deliveries
      AND e.id > $4::text::bigint
      AND e.id <= $7::text::bigint
    ORDER BY e.id
    LIMIT $5::text::bigint
) e
