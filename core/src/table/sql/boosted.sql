-- By how much k's budget is raised now, in cents, and until when; NULL twice if it is not.
NULLIF({boost}, 0) AS boost_cents, --? budget_boost_cents budget_boost_until
CASE WHEN {boost} > 0 THEN extract(epoch FROM k.budget_boost_until) END AS boost_until --? budget_boost_cents budget_boost_until
NULL::bigint AS boost_cents, NULL::numeric AS boost_until --! budget_boost_cents budget_boost_until
