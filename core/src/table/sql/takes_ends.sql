-- Whether k has no parent, no reset can be due, and its columns hold all that i settles: so that only its own row counts.
k.id = i.key_id
AND k.ancestor_ids IS NULL
AND ({k.budget_reset_at} > statement_timestamp()) IS NOT FALSE
AND i.cost <= {max_cents}::bigint * 1000000 - {used}
-- What crosses a threshold raises an alarm.
AND (i.cost < (SELECT min(t.amount) FROM {thresholds_of} t WHERE t.amount > {used}) - {used}) IS NOT FALSE --? thresholds
