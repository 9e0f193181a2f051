-- What a key spent, less what was given back, by period of the calendar in UTC, from its ledger. $1: key id. $2, $3: from
-- and to (ISO 8601, the end excluded), or NULL. $4: hour, day, week, month or year. One row a period: a JSON object.
-- A period is complete if every entry follows on the one before. Where one does not, or the key's counter is not what the
-- last one left, there was a gap: something was spent between the two that the ledger does not know. The periods of both
-- ends of a gap are told, even if nothing else is known of them.
-- Of what came before $2 one entry is enough, to follow on: `before`. Ids and times of a key's entries have the same order, but for
-- transactions that took long before they wrote: a day is allowed for those.
WITH bound AS (
    SELECT
        coalesce($2::text::timestamptz AT TIME ZONE 'UTC', '-infinity') AS least,
        coalesce($3::text::timestamptz AT TIME ZONE 'UTC', 'infinity') AS most
),
before AS (
    SELECT e.id
    FROM {events} e, bound
    WHERE $2::text IS NOT NULL
      AND e.key_id = $1::text::{id_type} AND e.kind IN ('charge', 'settle', 'refund', 'reset')
      AND {entry_time} + interval '1 day' < least
    ORDER BY e.id DESC
    LIMIT 1
),
entry AS (
    SELECT
        e.id, e.kind, e.amount_microcents AS amount, e.used_after_microcents AS used_after, {entry_time} AS at,
        lag(e.used_after_microcents) OVER by_id AS used_before,
        lag({entry_time}) OVER by_id AS before
    FROM {events} e
    WHERE e.key_id = $1::text::{id_type} AND e.kind IN ('charge', 'settle', 'refund', 'reset')
      AND e.id >= coalesce((SELECT id FROM before), 0)
    WINDOW by_id AS (ORDER BY e.id)
),
gap AS (
    SELECT before AS since, at AS until FROM entry WHERE used_after - amount <> coalesce(used_before, 0)
    UNION ALL
    SELECT last.at, statement_timestamp() AT TIME ZONE 'UTC'
    FROM {table} k
    LEFT JOIN LATERAL (SELECT at, used_after FROM entry ORDER BY id DESC LIMIT 1) last ON true
    WHERE k.id = $1::text::{id_type} AND {used} <> coalesce(last.used_after, 0)
),
told AS (
    SELECT date_trunc($4::text, at) AS start, amount, (kind <> 'refund')::int AS charges, true AS is_complete
    FROM entry, bound
    WHERE kind <> 'reset' AND at >= least AND at < most
    UNION ALL
    SELECT date_trunc($4::text, of.at), 0, 0, false
    FROM gap, bound
    CROSS JOIN LATERAL (VALUES (GREATEST(since, least)), (LEAST(until, most - interval '1 microsecond'))) AS of(at)
    WHERE (since IS NULL OR since < most) AND until >= least AND of.at > '-infinity'
)
SELECT ROW(jsonb_build_object(
    'from', to_char(start, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'spentMicrocents', sum(amount),
    'charges', sum(charges),
    'complete', bool_and(is_complete)
))::text AS agentkey
FROM told
GROUP BY start
ORDER BY start
