-- What periods count from that begin now. p: a JSON object with the period and how it is aligned; now: the time in UTC.
CASE
    WHEN p->>'align' = 'calendar' THEN date_trunc(p->>'budget_period', now)
    WHEN p->>'budget_period' IN ('month', 'year') THEN date_trunc('day', now)
    WHEN p->>'budget_period' IS NOT NULL THEN now
END AT TIME ZONE 'UTC'
