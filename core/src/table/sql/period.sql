-- k's counter as the period that runs now has it: used micro-cents, the anchor, the end of the period.
CASE WHEN {due} THEN 0 ELSE {used} END AS before,
CASE WHEN {due} THEN {anchor} ELSE {k.budget_anchor_at} END AS anchor_at,
CASE WHEN {due} THEN {next_reset} ELSE {k.budget_reset_at} END AS reset_at
