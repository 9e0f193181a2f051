-- The columns that the original package does not have. All are nullable or have a default, so
-- that it can go on writing rows.
DO $agentkey$
DECLARE
  saved_lock_timeout text := pg_catalog.current_setting('lock_timeout');
  tbl          pg_catalog.regclass;
  nsp          pg_catalog.regnamespace;
  id_type      text;
  id_collation text;
  present      text[];
  additions    text;
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
  SELECT c.oid, c.relnamespace, pg_catalog.format_type(a.atttypid, a.atttypmod),
         COALESCE(' COLLATE ' || NULLIF(a.attcollation, t.typcollation)::pg_catalog.regcollation::text, '')
    INTO tbl, nsp, id_type, id_collation
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

  present := ARRAY(
    SELECT a.attname::text
      FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = tbl AND a.attnum > 0 AND NOT a.attisdropped
  );

  -- The columns in micro-cents are fractions of a cent, 0 to 999999, beside those in cents. What is used counts while
  -- budget_reset_at is what it was when the fraction was written: who knows only cents leaves it behind at a reset.
  SELECT pg_catalog.string_agg('ADD COLUMN IF NOT EXISTS ' || w.name || ' ' || w.definition, ', ')
    INTO additions
    FROM (VALUES
      ('parent_id',                  id_type || id_collation),
      ('ancestor_ids',               id_type || '[]' || id_collation),
      ('budget_reserved_cents',      'BIGINT DEFAULT 0'),
      ('budget_reserved_microcents', 'INTEGER DEFAULT 0'),
      ('budget_used_microcents',     'INTEGER DEFAULT 0'),
      ('budget_microcents_reset_at', 'TIMESTAMPTZ'),
      ('budget_anchor_at',           'TIMESTAMPTZ'),
      ('prev_key_hash',              'TEXT COLLATE pg_catalog."C"'),
      ('prev_key_expires_at',        'TIMESTAMPTZ'),
      ('disabled_at',                'TIMESTAMPTZ'),
      ('metadata',                   'JSONB'),
      -- Of a limit of a key, which is a row of its own: what a charge that would pass it does. NULL of keys.
      ('when_exceeded',              'TEXT'),
      -- Whether a key has, or had, children: those born before this column are found by their parent_id.
      ('has_children',               'BOOLEAN')
    ) AS w (name, definition)
   WHERE w.name <> ALL (present);

  IF additions IS NOT NULL THEN
    EXECUTE pg_catalog.format('ALTER TABLE %s %s', tbl, additions);
  END IF;

  -- Indexes are known by what they are, whatever they are called.
  FOR wanted IN
    SELECT *
      FROM (VALUES
        ('parent_id',     false, ARRAY['parent_id', 'id'], 'parent_id IS NOT NULL'),
        ('prev_key_hash', true,  ARRAY['prev_key_hash'],   'prev_key_hash IS NOT NULL')
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
