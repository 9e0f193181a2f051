-- The most that may be used of k's budget, in micro-cents: what the columns can hold, where there is no budget.
(GREATEST(LEAST({k.budget_cents}, {max_cents}), -1)::bigint * 1000000)
