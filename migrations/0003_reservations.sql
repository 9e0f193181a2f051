-- The reservations of a budget, beside the keys table and in its schema. The id is the client's.
DO $agentkey$
DECLARE
  saved_lock_timeout text := pg_catalog.current_setting('lock_timeout');
  nsp        pg_catalog.regnamespace;
  id_type    text;
  tbl        pg_catalog.regclass;
  col        text;
  wanted     record;
  index_name text;
  occupant   pg_catalog.regclass;
  attempt    integer;
BEGIN
  -- One migration at a time in a database. Only other migrations wait for this lock,
  -- so waiting long harms nobody. Every query of the application queues behind an ALTER
  -- that waits for its table, so that wait is short.
  PERFORM pg_catalog.set_config('lock_timeout', '60s', true);
  PERFORM pg_catalog.pg_advisory_xact_lock(7018690069354210681);
  PERFORM pg_catalog.set_config('lock_timeout', '5s', true);

  -- Through pg_class even for the name: opening a catalogue refreshes the name cache, which
  -- may still say "no such table" from before the wait.
  SELECT c.relnamespace,
         pg_catalog.format_type(a.atttypid, a.atttypmod)
           || COALESCE(' COLLATE ' || NULLIF(a.attcollation, t.typcollation)::pg_catalog.regcollation::text, '')
    INTO nsp, id_type
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id'
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
   WHERE c.oid = pg_catalog.to_regclass({table_literal});

  IF NOT FOUND THEN
    IF pg_catalog.to_regclass({table_literal}) IS NOT NULL THEN
      RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {table_literal}
        USING ERRCODE = 'serialization_failure';
    END IF;
    RAISE EXCEPTION 'agentkey: table % does not exist', {table_literal}
      USING ERRCODE = 'undefined_table';
  END IF;

  SELECT c.oid
    INTO tbl
    FROM pg_catalog.pg_class c
   WHERE c.oid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {reservations_literal}));

  IF NOT FOUND THEN
    IF pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {reservations_literal})) IS NOT NULL THEN
      RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {reservations_literal}
        USING ERRCODE = 'serialization_failure';
    END IF;

    EXECUTE pg_catalog.format(
      $ddl$
        CREATE TABLE %s.%I (
          id                 UUID PRIMARY KEY,
          key_id             %s NOT NULL,
          amount_microcents  BIGINT NOT NULL CHECK (amount_microcents >= 0),
          state              TEXT NOT NULL DEFAULT 'pending'
                             CHECK (state IN ('pending', 'settled', 'released', 'expired')),
          created_at         TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now(),
          expires_at         TIMESTAMPTZ NOT NULL,
          -- What it holds counts as spent if nobody ends it in time.
          settles_if_expired BOOLEAN NOT NULL DEFAULT false,
          settled_microcents BIGINT,
          finished_at        TIMESTAMPTZ,
          -- The key's budget when it ended, for a second settle to answer.
          budget_cents       BIGINT,
          used_after_microcents BIGINT,
          reserved_after_microcents BIGINT,
          metadata           JSONB
        )
      $ddl$,
      nsp, {reservations_literal}, id_type);

    tbl := pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {reservations_literal}));
  END IF;

  -- A table of that name may be somebody else's.
  FOREACH col IN ARRAY ARRAY[
    'id', 'key_id', 'amount_microcents', 'state', 'created_at', 'expires_at',
    'settled_microcents', 'finished_at', 'budget_cents', 'used_after_microcents', 'reserved_after_microcents', 'metadata'
  ] LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = tbl AND a.attname = col
    ) THEN
      RAISE EXCEPTION 'agentkey: table % lacks the column %', tbl, col
        USING ERRCODE = 'undefined_column';
    END IF;
  END LOOP;

  IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = tbl AND a.attname = 'settles_if_expired'
  ) THEN
    EXECUTE pg_catalog.format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS settles_if_expired BOOLEAN NOT NULL DEFAULT false', tbl);
  END IF;

  -- Indexes are known by what they are, whatever they are called.
  FOR wanted IN
    SELECT *
      FROM (VALUES
        ('res_pending', false, ARRAY['expires_at'],           'state = ''pending''::text'),
        ('res_key',     false, ARRAY['key_id', 'expires_at'], 'state = ''pending''::text')
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
