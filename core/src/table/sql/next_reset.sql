-- When k's budget period ends: the earliest a.anchor_at + n periods that is yet to come. In UTC throughout, whatever the
-- session's time zone.
(
    SELECT (
        p.anchor + CASE
            WHEN p.months IS NULL
            THEN (floor(extract(epoch FROM p.now - p.anchor) / p.seconds) + 1)::float8 * p.seconds * interval '1 second'
            WHEN p.anchor + make_interval(months => p.elapsed) > p.now
            THEN make_interval(months => p.elapsed)
            ELSE make_interval(months => p.elapsed + p.months)
        END
    ) AT TIME ZONE 'UTC'
    FROM (
        SELECT
            u.*,
            ((extract(year FROM u.now) - extract(year FROM u.anchor)) * 12
                + extract(month FROM u.now) - extract(month FROM u.anchor))::int / u.months * u.months AS elapsed
        FROM (
            SELECT
                a.anchor_at AT TIME ZONE 'UTC' AS anchor,
                statement_timestamp() AT TIME ZONE 'UTC' AS now,
                CASE {k.budget_period} WHEN 'month' THEN 1 WHEN 'year' THEN 12 END AS months,
                {period_seconds} AS seconds
        ) u
    ) p
)
