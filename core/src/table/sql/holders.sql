-- Who holds the ledger for writing, but for this session: whoever draws an id there holds it from before until its transaction
-- is over. t.tableoid is the ledger. Read as it is now, not as the statement's snapshot has it.
(
    SELECT array_agg(l.virtualtransaction ORDER BY l.virtualtransaction)
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation'
      AND l.relation = t.tableoid
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.mode = 'RowExclusiveLock'
      AND l.granted
      AND l.pid IS DISTINCT FROM pg_backend_pid()
)
