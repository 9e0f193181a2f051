-- What k's row says is used beyond whole cents. A reset of somebody else's, who knows only cents, leaves it behind: it
-- counts while the reset is the one that it was written under.
CASE WHEN {k.budget_microcents_reset_at} <> {k.budget_reset_at} THEN 0 ELSE coalesce({k.budget_used_microcents}, 0) END
