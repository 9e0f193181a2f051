-- Writes that breakers have switched keys off, an alarm for each trip. `tripped`: the keys, with the budget and period of the
-- limit. A key is switched off under its lock and only if it is on: the time tells one trip from the next.
INSERT INTO {events} (
    key_id, account_id, kind,
    alarm_key, --? +deliveries
    metadata
)
SELECT
    t.id, t.account_id, 'disable',
    format('disable %s', date_part('epoch', statement_timestamp())), --? +deliveries
    jsonb_build_object('limit', jsonb_strip_nulls(jsonb_build_object('cents', t.budget_cents, 'period', t.period)))
FROM tripped t
