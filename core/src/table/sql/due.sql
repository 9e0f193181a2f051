(
    {k.budget_reset_at} <= statement_timestamp()
    AND {k.budget_reset_at} > '-infinity'
    AND ({k.budget_period} IN ('month', 'year') OR {period_seconds} IS NOT NULL)
)
