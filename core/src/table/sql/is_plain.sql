-- Whether k's charges need nothing but its row: it is live, has no parent, and no reset can be due.
k.revoked_at IS NULL
AND k.ancestor_ids IS NULL --? ancestor_ids
AND ({k.budget_reset_at} > statement_timestamp()) IS NOT FALSE
