-- How long k's period is, where its length is fixed: `hour`, `day`, `week`, or a window such as `5m`, `36h`, `7d`. NULL
-- for the others, and for what is no period.
CASE {k.budget_period}
    WHEN 'hour' THEN 3600
    WHEN 'day' THEN 86400
    WHEN 'week' THEN 604800
    ELSE CASE WHEN {k.budget_period} ~ '^[1-9][0-9]?[0-9]?[0-9]?[0-9]?[mhd]$' THEN
        left({k.budget_period}, -1)::bigint * CASE right({k.budget_period}, 1) WHEN 'm' THEN 60 WHEN 'h' THEN 3600 ELSE 86400 END
    END
END
