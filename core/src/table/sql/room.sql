-- What k's budget has room for in the period that its row is in, in micro-cents. NULL without a budget. Where alarms are
-- raised, it ends below the next of them: a statement that raises them charges what crosses it.
LEAST( --? thresholds
{cap} - {used} - {reserved}
, (SELECT min(t.amount) FROM {thresholds_of} t WHERE t.amount > {used}) - {used} - 1) --? thresholds
