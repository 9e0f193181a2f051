-- An entry e of the ledger, but for its metadata.
jsonb_build_object(
    'id', e.id,
    'at', to_char({entry_time}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'keyId', e.key_id,
    'accountId', e.account_id::text,
    'kind', e.kind,
    'amountMicrocents', e.amount_microcents,
    'usedAfterMicrocents', e.used_after_microcents,
    'reservedAfterMicrocents', e.reserved_after_microcents,
    'remainingAfterMicrocents', e.remaining_after_microcents,
    'idempotencyKey', e.idempotency_key,
    'reservationId', e.reservation_id,
    'viaKeyId', e.via_key_id,
    'actor', e.actor
)
