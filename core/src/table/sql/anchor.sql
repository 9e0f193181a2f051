-- What k's periods count from: its anchor while its reset lies a whole number of periods after it. Whoever moves the reset
-- (the application, the original package) sets a new anchor. A row without one counts from its reset.
(
    CASE
        WHEN {k.budget_reset_at} IS NULL OR NOT isfinite({k.budget_reset_at}) THEN {k.budget_anchor_at}
        -- Beyond the years 1 to 9999 distances overflow: no anchor lies there.
        WHEN {k.budget_reset_at} < '0001-01-01 00:00:00+00' THEN '0001-01-01 00:00:00+00'
        WHEN ({k.budget_anchor_at} BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 00:00:00+00') IS NOT TRUE
        THEN {k.budget_reset_at}
        WHEN CASE
            WHEN {k.budget_period} NOT IN ('month', 'year')
            THEN mod(extract(epoch FROM {k.budget_reset_at} - {k.budget_anchor_at})::numeric, {period_seconds}) = 0
            ELSE (
                SELECT u.anchor + make_interval(months => u.months) = u.reset
                    AND mod(u.months, CASE {k.budget_period} WHEN 'year' THEN 12 ELSE 1 END) = 0
                FROM (
                    SELECT
                        t.*,
                        ((extract(year FROM t.reset) - extract(year FROM t.anchor)) * 12
                            + extract(month FROM t.reset) - extract(month FROM t.anchor))::int AS months
                    FROM (
                        SELECT
                            {k.budget_anchor_at} AT TIME ZONE 'UTC' AS anchor,
                            {k.budget_reset_at} AT TIME ZONE 'UTC' AS reset
                    ) t
                ) u
            )
        END
        THEN {k.budget_anchor_at}
        ELSE {k.budget_reset_at}
    END
)
