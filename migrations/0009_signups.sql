-- Signups by client, for a limit that all processes share. A client is a hash: no address is stored.
DO $agentkey$
DECLARE
  saved_lock_timeout text := pg_catalog.current_setting('lock_timeout');
  nsp        pg_catalog.regnamespace;
  tbl        pg_catalog.regclass;
  col        text;
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
  SELECT c.relnamespace
    INTO nsp
    FROM pg_catalog.pg_class c
   WHERE c.oid = pg_catalog.to_regclass({table_literal});

  SELECT c.oid
    INTO tbl
    FROM pg_catalog.pg_class c
   WHERE c.oid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {signups_literal}));

  IF NOT FOUND THEN
    IF pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {signups_literal})) IS NOT NULL THEN
      RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {signups_literal}
        USING ERRCODE = 'serialization_failure';
    END IF;

    EXECUTE pg_catalog.format(
      $ddl$
        CREATE TABLE %s.%I (
          client   TEXT COLLATE pg_catalog."C" PRIMARY KEY,
          -- The end of the window, which began with the first signup in it.
          ends_at  TIMESTAMPTZ NOT NULL,
          count    BIGINT NOT NULL
        )
      $ddl$,
      nsp, {signups_literal});

    tbl := pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {signups_literal}));
  END IF;

  -- A table of that name may be somebody else's.
  FOREACH col IN ARRAY ARRAY['client', 'ends_at', 'count'] LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = tbl AND a.attname = col
    ) THEN
      RAISE EXCEPTION 'agentkey: table % lacks the column %', tbl, col
        USING ERRCODE = 'undefined_column';
    END IF;
  END LOOP;

  -- Indexes are known by what they are, whatever they are called.
  IF NOT EXISTS (
    SELECT
      FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
      JOIN pg_catalog.pg_am m ON m.oid = c.relam
     WHERE i.indrelid = tbl
       AND i.indisvalid
       AND i.indpred IS NULL
       AND m.amname = 'btree'
       AND pg_catalog.pg_get_indexdef(i.indexrelid, 1, true) = 'ends_at'
  ) THEN
    attempt := 1;
    index_name := {index_stem_literal} || '_signups_ends';
    LOOP
      occupant := pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, index_name));
      EXIT WHEN occupant IS NULL;
      IF NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = occupant) THEN
        RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {table_literal}
          USING ERRCODE = 'serialization_failure';
      END IF;
      attempt := attempt + 1;
      index_name := {index_stem_literal} || '_signups_ends_' || attempt;
    END LOOP;

    EXECUTE pg_catalog.format('CREATE INDEX %I ON %s (ends_at)', index_name, tbl);
  END IF;

  PERFORM pg_catalog.set_config('lock_timeout', saved_lock_timeout, true);
END
$agentkey$;
