-- What a look-up answers of k, as the row stands. Times are seconds since 1970, and statement_timestamp() is among them:
-- whether they are over is told from the row alone.
k.id,
k.account_id,
{k.name},
{k.user_id},
{k.scopes},
{k.delegated_by},
{k.budget_period},
{k.budget_cents},
{k.budget_used_cents},
{k.budget_used_microcents},
{reserved},
extract(epoch FROM {k.budget_reset_at}),
extract(epoch FROM {k.expires_at}),
extract(epoch FROM {k.last_used_at}),
extract(epoch FROM statement_timestamp()),
k.revoked_at IS NOT NULL,
{k.disabled_at} IS NOT NULL
