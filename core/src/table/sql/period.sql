-- k's counter as the period that runs now has it, worked out once a row: whether a new period is due, what the row says is
-- used in micro-cents, what of it counts, what periods count from, when this one ends.
(
    SELECT
        u.is_due,
        u.stored,
        CASE WHEN u.is_due THEN 0 ELSE u.stored END AS before,
        a.anchor_at,
        CASE WHEN u.is_due THEN {next_reset} ELSE {k.budget_reset_at} END AS reset_at
    FROM (SELECT coalesce({due}, false) AS is_due, {used} AS stored OFFSET 0) u
    CROSS JOIN LATERAL (SELECT CASE WHEN u.is_due THEN {anchor} ELSE {k.budget_anchor_at} END AS anchor_at OFFSET 0) a
    OFFSET 0
)
