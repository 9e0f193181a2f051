-- What the plain charges answer of k after them.
{k.budget_cents},
k.budget_used_cents,
{k.budget_used_microcents},
{reserved},
NULL
