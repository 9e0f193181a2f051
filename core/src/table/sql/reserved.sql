-- What open reservations hold of k's budget, in micro-cents.
(LEAST(GREATEST(coalesce({k.budget_reserved_cents}, 0), 0), {max_cents})::bigint * 1000000 + LEAST(GREATEST(coalesce({k.budget_reserved_microcents}, 0), 0), 999999))
