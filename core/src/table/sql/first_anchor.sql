-- What periods count from that begin now. p: a JSON object with the period and how it is aligned; now: the time in UTC.
CASE
    WHEN p->>'budget_period' IS NULL THEN NULL
    -- Windows of the calendar count from midnight.
    WHEN p->>'align' = 'calendar'
    THEN date_trunc(CASE WHEN p->>'budget_period' IN ('hour', 'week', 'month', 'year') THEN p->>'budget_period' ELSE 'day' END, now)
    WHEN p->>'budget_period' IN ('month', 'year') THEN date_trunc('day', now)
    ELSE now
END AT TIME ZONE 'UTC'
