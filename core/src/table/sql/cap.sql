-- The most that may be used of k's budget now, in micro-cents: what the columns can hold, where there is no budget.
(GREATEST(LEAST({budget}, {max_cents}), -{max_credit})::bigint * 1000000)
