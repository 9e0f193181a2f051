-- What became of k itself, as a key's state is named.
CASE
    WHEN k.revoked_at IS NOT NULL THEN 'revoked'
    WHEN {k.disabled_at} IS NOT NULL THEN 'disabled'
    WHEN {k.expires_at} <= statement_timestamp() THEN 'expired'
    ELSE 'live'
END
