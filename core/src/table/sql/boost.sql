-- What k's budget is raised by now, in cents: nothing, unless an increase was approved and its time is not over. No more than
-- the columns can hold.
CASE
    WHEN k.budget_boost_until > statement_timestamp() AND k.budget_boost_cents > 0
    THEN GREATEST(LEAST(k.budget_boost_cents, {max_cents}::bigint - GREATEST(LEAST(k.budget_cents, {max_cents}), -{max_credit})), 0)
    ELSE 0
END
