-- What k's budget has room for in the period that its row is in, in micro-cents. NULL without a budget.
{cap} - {used} - {reserved}
