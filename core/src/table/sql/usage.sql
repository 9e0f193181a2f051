-- What a key spent, less what was given back, by period of the calendar in UTC, from its ledger. $1: key id. $2, $3: from and to (ISO 8601, the
-- end excluded), or NULL. $4: hour, day, week, month or year. One row a period with spend: a JSON object.
SELECT ROW(jsonb_build_object(
    'from', to_char(period.start, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'spentMicrocents', period.spent,
    'charges', period.charges
))::text AS agentkey
FROM (
    SELECT date_trunc($4::text, {entry_time}) AS start, sum(e.amount_microcents) AS spent,
        count(*) FILTER (WHERE e.kind <> 'refund') AS charges
    FROM {events} e
    WHERE e.key_id = $1::text::{id_type}
      AND e.kind IN ('charge', 'settle', 'refund')
      AND ($2::text IS NULL OR e.at >= $2::text::timestamptz)
      AND ($3::text IS NULL OR e.at < $3::text::timestamptz)
    GROUP BY 1
) period
ORDER BY period.start
