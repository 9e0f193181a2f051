-- The indexes by which keys are listed: none of them has a column that a charge writes. Like 0005 a transaction of its own,
-- in which readers are never locked out.
DO $agentkey$
DECLARE
  saved_lock_timeout text := pg_catalog.current_setting('lock_timeout');
  tbl        pg_catalog.regclass;
  nsp        pg_catalog.regnamespace;
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
  SELECT c.oid, c.relnamespace
    INTO tbl, nsp
    FROM pg_catalog.pg_class c
   WHERE c.oid = pg_catalog.to_regclass({table_literal});

  IF NOT FOUND THEN
    IF pg_catalog.to_regclass({table_literal}) IS NOT NULL THEN
      RAISE EXCEPTION 'agentkey: table % changed after this transaction began, retry', {table_literal}
        USING ERRCODE = 'serialization_failure';
    END IF;
    RAISE EXCEPTION 'agentkey: table % does not exist', {table_literal}
      USING ERRCODE = 'undefined_table';
  END IF;

  -- Indexes are known by what they are, whatever they are called.
  FOR wanted IN
    SELECT w.*
      FROM (VALUES
        -- By hash: names may be longer than a btree takes.
        ('human', 'btree', ARRAY['hashtext(delegated_by)', 'id'], 'delegated_by IS NOT NULL'),
        ('revoked_at', 'btree', ARRAY['id', 'revoked_at'],   'revoked_at IS NOT NULL'),
        ('disabled_at', 'btree', ARRAY['id', 'disabled_at'], 'disabled_at IS NOT NULL'),
        ('expires_at', 'btree', ARRAY['expires_at'],      'expires_at IS NOT NULL'),
        ('metadata',   'gin',   ARRAY['metadata'],        'metadata IS NOT NULL'),
        -- By hash, too: scopes may be longer than an index takes. What is no list of them, no request can name.
        ('scopes', 'gin', ARRAY['CASE WHEN array_ndims(scopes) = 1 AND array_position(scopes, NULL::text) IS NULL THEN jsonb_object(scopes, scopes) ELSE NULL::jsonb END'],
          'scopes IS NOT NULL')
      ) AS w (suffix, method, cols, predicate)
     -- An application's own column may be of another type, which no such index takes.
     WHERE w.method = 'btree'
        OR EXISTS (
             SELECT
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = tbl
                AND a.attname = w.suffix
                AND NOT a.attisdropped
                AND a.atttypid = CASE w.suffix WHEN 'scopes' THEN 'pg_catalog.text[]' ELSE 'pg_catalog.jsonb' END::pg_catalog.regtype)
  LOOP
    CONTINUE WHEN EXISTS (
      SELECT
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_am m ON m.oid = c.relam
       WHERE i.indrelid = tbl
         AND i.indisvalid
         AND m.amname = wanted.method
         AND i.indnkeyatts >= pg_catalog.cardinality(wanted.cols)
         AND wanted.cols = ARRAY(
               -- Of a VARCHAR column it says that it is cast, and an expression may have lines and brackets.
               SELECT pg_catalog.regexp_replace(pg_catalog.replace(
                        pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(i.indexrelid, k, true), '\s+', ' ', 'g'),
                        '(delegated_by::text)', '(delegated_by)'), '^\( ?(CASE .* END)\)$', '\1')
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

    EXECUTE pg_catalog.format('CREATE INDEX %I ON %s USING %s (%s%s) WHERE %s',
      index_name, tbl, wanted.method,
      CASE WHEN wanted.suffix = 'scopes' THEN '(' || wanted.cols[1] || ')'
        ELSE pg_catalog.array_to_string(wanted.cols, ', ') END,
      CASE WHEN wanted.method = 'gin' THEN ' pg_catalog.jsonb_path_ops' END, wanted.predicate);
  END LOOP;

  PERFORM pg_catalog.set_config('lock_timeout', saved_lock_timeout, true);
END
$agentkey$;
