-- More budget for a while: what a key's budget is raised by, and who asked for that and decided it.
DO $agentkey$
DECLARE
  saved_lock_timeout text := pg_catalog.current_setting('lock_timeout');
  nsp          pg_catalog.regnamespace;
  id_type      text;
  account_type text;
  keys         pg_catalog.regclass;
  additions    text;
  tbl          pg_catalog.regclass;
  col          text;
  wanted       record;
  index_name   text;
  occupant     pg_catalog.regclass;
  attempt      integer;
BEGIN
  -- One migration at a time in a database. Only other migrations wait for this lock,
  -- so waiting long harms nobody. Every query of the application queues behind an ALTER
  -- that waits for its table, so that wait is short.
  PERFORM pg_catalog.set_config('lock_timeout', '60s', true);
  PERFORM pg_catalog.pg_advisory_xact_lock(7018690069354210681);
  PERFORM pg_catalog.set_config('lock_timeout', '5s', true);

  -- Through pg_class even for the name: opening a catalogue refreshes the name cache, which
  -- may still say "no such table" from before the wait.
  SELECT c.oid, c.relnamespace,
         pg_catalog.format_type(a.atttypid, a.atttypmod)
           || COALESCE(' COLLATE ' || NULLIF(a.attcollation, t.typcollation)::pg_catalog.regcollation::text, ''),
         pg_catalog.format_type(b.atttypid, b.atttypmod)
           || COALESCE(' COLLATE ' || NULLIF(b.attcollation, u.typcollation)::pg_catalog.regcollation::text, '')
    INTO keys, nsp, id_type, account_type
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id'
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_attribute b ON b.attrelid = c.oid AND b.attname = 'account_id'
    JOIN pg_catalog.pg_type u ON u.oid = b.atttypid
   WHERE c.oid = pg_catalog.to_regclass({table_literal});

  IF NOT FOUND THEN
    IF pg_catalog.to_regclass({table_literal}) IS NOT NULL THEN
      RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {table_literal}
        USING ERRCODE = 'serialization_failure';
    END IF;
    RAISE EXCEPTION 'agentkey: table % does not exist', {table_literal}
      USING ERRCODE = 'undefined_table';
  END IF;

  SELECT pg_catalog.string_agg('ADD COLUMN IF NOT EXISTS ' || w.name || ' ' || w.definition, ', ')
    INTO additions
    FROM (VALUES
      ('budget_boost_cents', 'BIGINT'),
      ('budget_boost_until', 'TIMESTAMPTZ')
    ) AS w (name, definition)
   WHERE NOT EXISTS (
     SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = keys AND a.attname = w.name AND NOT a.attisdropped);

  IF additions IS NOT NULL THEN
    EXECUTE pg_catalog.format('ALTER TABLE %s %s', keys, additions);
  END IF;

  SELECT c.oid
    INTO tbl
    FROM pg_catalog.pg_class c
   WHERE c.oid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {requests_literal}));

  IF NOT FOUND THEN
    IF pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {requests_literal})) IS NOT NULL THEN
      RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {requests_literal}
        USING ERRCODE = 'serialization_failure';
    END IF;

    EXECUTE pg_catalog.format(
      $ddl$
        CREATE TABLE %s.%I (
          id                    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          requested_at          TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now(),
          key_id                %s NOT NULL,
          account_id            %s,
          cents                 BIGINT NOT NULL,
          reason                TEXT,
          for_seconds           BIGINT NOT NULL,
          idempotency_key       TEXT COLLATE pg_catalog."C",
          state                 TEXT NOT NULL DEFAULT 'pending',
          decided_at            TIMESTAMPTZ,
          decided_by            TEXT,
          decided_by_key_id     %s,
          granted_cents         BIGINT,
          granted_until         TIMESTAMPTZ
        )
      $ddl$,
      nsp, {requests_literal}, id_type, account_type, id_type);

    tbl := pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {requests_literal}));
  END IF;

  -- A table of that name may be somebody else's.
  FOREACH col IN ARRAY ARRAY[
    'id', 'requested_at', 'key_id', 'account_id', 'cents', 'reason', 'for_seconds', 'idempotency_key', 'state',
    'decided_at', 'decided_by', 'decided_by_key_id', 'granted_cents', 'granted_until'
  ] LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = tbl AND a.attname = col
    ) THEN
      RAISE EXCEPTION 'agentkey: table % lacks the column %', tbl, col
        USING ERRCODE = 'undefined_column';
    END IF;
  END LOOP;

  -- Indexes are known by what they are, whatever they are called.
  FOR wanted IN
    SELECT *
      FROM (VALUES
        ('requests_key',         false, ARRAY['key_id', 'id'],              NULL),
        ('requests_account',     false, ARRAY['account_id', 'id'],          NULL),
        -- One request of a key is open at a time.
        ('requests_pending',     true,  ARRAY['key_id'],                    'state = ''pending''::text'),
        ('requests_idempotency', true,  ARRAY['key_id', 'idempotency_key'], 'idempotency_key IS NOT NULL')
      ) AS w (suffix, is_unique, cols, predicate)
  LOOP
    CONTINUE WHEN EXISTS (
      SELECT
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_am m ON m.oid = c.relam
       WHERE i.indrelid = tbl
         AND i.indisvalid
         AND m.amname = 'btree'
         AND i.indnkeyatts >= pg_catalog.cardinality(wanted.cols)
         AND (NOT wanted.is_unique
              OR i.indisunique AND i.indimmediate AND i.indnkeyatts = pg_catalog.cardinality(wanted.cols))
         AND wanted.cols = ARRAY(
               SELECT pg_catalog.pg_get_indexdef(i.indexrelid, k, true)
                 FROM pg_catalog.generate_series(1, pg_catalog.cardinality(wanted.cols)) AS k
                ORDER BY k)
         AND (i.indpred IS NULL
              OR pg_catalog.pg_get_expr(i.indpred, i.indrelid) = '(' || wanted.predicate || ')')
    );

    attempt := 1;
    index_name := {index_stem_literal} || '_' || wanted.suffix;
    LOOP
      occupant := pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, index_name));
      EXIT WHEN occupant IS NULL;
      IF NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = occupant) THEN
        RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {table_literal}
          USING ERRCODE = 'serialization_failure';
      END IF;
      attempt := attempt + 1;
      index_name := {index_stem_literal} || '_' || wanted.suffix || '_' || attempt;
    END LOOP;

    EXECUTE pg_catalog.format('CREATE %s INDEX %I ON %s (%s) %s',
      CASE WHEN wanted.is_unique THEN 'UNIQUE' END, index_name, tbl,
      pg_catalog.array_to_string(wanted.cols, ', '), 'WHERE ' || wanted.predicate);
  END LOOP;

  PERFORM pg_catalog.set_config('lock_timeout', saved_lock_timeout, true);
END
$agentkey$;
