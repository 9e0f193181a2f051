-- The ledger as an outbox: alarms, which somebody should hear of, and their deliveries to webhooks.
DO $agentkey$
DECLARE
  saved_lock_timeout text := pg_catalog.current_setting('lock_timeout');
  nsp        pg_catalog.regnamespace;
  tbl        pg_catalog.regclass;
  sent       pg_catalog.regclass;
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
  SELECT c.relnamespace
    INTO nsp
    FROM pg_catalog.pg_class c
   WHERE c.oid = pg_catalog.to_regclass({table_literal});

  SELECT c.oid
    INTO tbl
    FROM pg_catalog.pg_class c
   WHERE c.oid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {events_literal}));

  IF NOT FOUND THEN
    RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {events_literal}
      USING ERRCODE = 'serialization_failure';
  END IF;

  -- What an alarm is about: it is raised once.
  IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = tbl AND a.attname = 'alarm_key'
  ) THEN
    EXECUTE pg_catalog.format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS alarm_key TEXT COLLATE pg_catalog."C"', tbl);
  END IF;

  SELECT c.oid
    INTO sent
    FROM pg_catalog.pg_class c
   WHERE c.oid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {deliveries_literal}));

  IF NOT FOUND THEN
    IF pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {deliveries_literal})) IS NOT NULL THEN
      RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {deliveries_literal}
        USING ERRCODE = 'serialization_failure';
    END IF;

    -- What is not delivered yet. The row of event 0 is the webhook's place in the ledger.
    EXECUTE pg_catalog.format(
      $ddl$
        CREATE TABLE %s.%I (
          webhook   TEXT COLLATE pg_catalog."C",
          event_id  BIGINT,
          attempts  INTEGER NOT NULL DEFAULT 0,
          -- When it is due, or due again if whoever took it does not say what became of it.
          next_at   TIMESTAMPTZ,
          dead_at   TIMESTAMPTZ,
          error     TEXT,
          position  BIGINT,
          mark      BIGINT,
          holders   TEXT[],
          PRIMARY KEY (webhook, event_id)
        )
      $ddl$,
      nsp, {deliveries_literal});

    sent := pg_catalog.to_regclass(pg_catalog.format('%s.%I', nsp, {deliveries_literal}));
  END IF;

  -- A table of that name may be somebody else's.
  FOREACH col IN ARRAY ARRAY['webhook', 'event_id', 'attempts', 'next_at', 'dead_at', 'error', 'position', 'mark', 'holders'] LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = sent AND a.attname = col
    ) THEN
      RAISE EXCEPTION 'agentkey: table % lacks the column %', sent, col
        USING ERRCODE = 'undefined_column';
    END IF;
  END LOOP;

  -- Indexes are known by what they are, whatever they are called.
  FOR wanted IN
    SELECT *
      FROM (VALUES
        (tbl,  'events_alarm',   true,  ARRAY['key_id', 'alarm_key'], 'alarm_key IS NOT NULL'),
        (tbl,  'events_alarms',  false, ARRAY['id'],                  'alarm_key IS NOT NULL'),
        (sent, 'deliveries_due', false, ARRAY['webhook', 'next_at'],  'dead_at IS NULL')
      ) AS w (of, suffix, is_unique, cols, predicate)
  LOOP
    CONTINUE WHEN EXISTS (
      SELECT
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_am m ON m.oid = c.relam
       WHERE i.indrelid = wanted.of
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
      CASE WHEN wanted.is_unique THEN 'UNIQUE' END, index_name, wanted.of,
      pg_catalog.array_to_string(wanted.cols, ', '), 'WHERE ' || wanted.predicate);
  END LOOP;

  PERFORM pg_catalog.set_config('lock_timeout', saved_lock_timeout, true);
END
$agentkey$;
