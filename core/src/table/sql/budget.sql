-- What may be used of k's budget now, in cents, with what it is raised by. NULL without a budget.
(
    {k.budget_cents}
    + {boost} --? budget_boost_cents budget_boost_until
)
