-- The amounts of k's budget at which an alarm is raised, in micro-cents. A budget in micro-cents is whole thousands.
(SELECT {cap} / 1000 * t.thousandths AS amount FROM unnest({thresholds}) AS t(thousandths) WHERE {budget} > 0)
