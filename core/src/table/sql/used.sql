-- What k's row says is used, in micro-cents, whatever its period. No value that the column can hold overflows a sum.
(GREATEST(LEAST(coalesce({k.budget_used_cents}, 0), {max_cents}), -{max_credit})::bigint * 1000000 + {fraction})
