-- How k, with its period p, bears on its descendants: id, whether it exists, budget, used, micro-cents, reserved, reset,
-- when it expires, revoked, disabled, the next reset if one is due, period, what a limit does when it is exceeded. NULL if
-- there is no such row.
CASE WHEN k.id IS NOT NULL THEN ROW(
    k.id,
    true,
    {budget},
    k.budget_used_cents,
    {fraction},
    {reserved},
    extract(epoch FROM k.budget_reset_at),
    extract(epoch FROM k.expires_at),
    k.revoked_at IS NOT NULL,
    k.disabled_at IS NOT NULL,
    CASE WHEN p.is_due THEN extract(epoch FROM p.reset_at) END,
    {k.budget_period},
    {k.when_exceeded}
)::text END
