-- Writes the alarms of `crossing`: on each row, what was used and had the share of its budget before, and after. Once for each
-- key, budget, period and threshold: a budget that is changed is another one.
INSERT INTO {events} (
    key_id, account_id, kind, used_after_microcents, reserved_after_microcents, remaining_after_microcents, budget_cents,
    via_key_id, alarm_key, metadata
)
SELECT
    c.id, c.account_id, 'threshold', c.used_after, c.reserved_after, c.cap - c.used_after - c.reserved_after, c.budget_cents,
    c.via_key_id, format('threshold budget %s %s %s', c.budget_cents, coalesce(date_part('epoch', c.reset_at)::text, 'none'), t.thousandths),
    jsonb_build_object('threshold', trim_scale(t.thousandths / 1000.0), 'budgetCents', c.budget_cents)
FROM crossing c
CROSS JOIN unnest({thresholds}) AS t(thousandths)
WHERE c.budget_cents > 0
  AND c.used_before < c.cap_before / 1000 * t.thousandths
  AND c.used_after >= c.cap / 1000 * t.thousandths
ORDER BY c.id, t.thousandths
ON CONFLICT (key_id, alarm_key) WHERE alarm_key IS NOT NULL DO NOTHING
