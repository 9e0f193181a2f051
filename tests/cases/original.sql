-- A keys table as the original package leaves it.
CREATE TABLE {table} (
    id {id} PRIMARY KEY,
    account_id {account} NOT NULL,
    key_hash TEXT NOT NULL UNIQUE,
    key_prefix TEXT NOT NULL,
    name TEXT,
    created_at TIMESTAMPTZ DEFAULT now(),
    last_used_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    user_id TEXT,
    scopes TEXT[],
    budget_cents INTEGER,
    budget_used_cents INTEGER DEFAULT 0,
    budget_period TEXT,
    budget_reset_at TIMESTAMPTZ,
    expires_at TIMESTAMPTZ,
    delegated_by TEXT,
    external_subject TEXT
);
CREATE UNIQUE INDEX ON {table} (external_subject) WHERE external_subject IS NOT NULL;
