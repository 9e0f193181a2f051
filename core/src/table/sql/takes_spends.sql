-- Whether k has no parent, is live, and takes all that i asks of it for the first time: so that only its own row counts.
k.{lookup} = i.lookup
AND {is_plain}
-- What fits a budget finds it not exhausted.
AND i.total BETWEEN 1 AND LEAST({cap} - {used}, {max_cents}::bigint * 1000000) - {reserved}
AND (
    i.held = 0
    OR k.disabled_at IS NULL AND (k.expires_at <= statement_timestamp()) IS NOT TRUE
)
AND (
    i.scopes IS NULL
    OR {scopes_array} IS NULL
    OR NOT EXISTS (SELECT FROM unnest(i.scopes) AS asked(scopes) WHERE NOT asked.scopes ?| {scopes_array})
)
AND (
    i.idempotency_keys IS NULL
    -- One look into the index for each: for an array Postgres reads a young ledger from end to end.
    OR NOT EXISTS (
        SELECT
        FROM unnest(i.idempotency_keys) AS asked(idempotency_key)
        CROSS JOIN LATERAL (
            SELECT FROM {events} e WHERE e.key_id = k.id AND e.idempotency_key = asked.idempotency_key OFFSET 0
        ) e
    )
)
-- What crosses a threshold raises an alarm.
AND (i.total < (SELECT min(t.amount) FROM {thresholds_of} t WHERE t.amount > {used}) - {used}) IS NOT FALSE --? thresholds
