-- What the plain charges answer of k after them.
{budget},
k.budget_used_cents,
{k.budget_used_microcents},
{reserved},
NULL
