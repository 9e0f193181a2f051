-- What is wrong with the server, the session and the schema. Only reads, and works whatever the table lacks.
-- $1: the quoted table name. $2 to $6: the names of the reservations, events, requests, deliveries and signups tables. $7: the columns
-- without which there is no keys table; $8: those that limit keys; $9: those of our own; $10: others that statements read.
-- One row a finding: a JSON object.
WITH keys AS MATERIALIZED (
    SELECT c.oid, c.relname, c.relnamespace, c.relkind, c.relowner, n.nspname
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass($1::text)
),
-- The tables, each with its name for a statement.
tables AS MATERIALIZED (
    SELECT c.oid, r.role, format('%I.%I', k.nspname, r.name) AS name, c.oid IS NOT NULL AS is_there, c.relkind, c.relowner,
        c.relpersistence, c.relrowsecurity, c.reloptions, k.relowner AS keys_owner
    FROM keys k
    CROSS JOIN LATERAL (
        VALUES ('keys', k.relname::text), ('reservations', $2::text), ('events', $3::text), ('requests', $4::text), ('deliveries', $5::text), ('signups', $6::text)
    ) AS r(role, name)
    LEFT JOIN pg_catalog.pg_class c ON c.relname = r.name AND c.relnamespace = k.relnamespace
),
columns AS MATERIALIZED (
    SELECT t.oid, t.role, t.name AS table_name, a.attname::text AS name, a.attnum, a.atttypid, a.attnotnull,
        a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS is_filled,
        format_type(coalesce(nullif(y.typbasetype, 0), a.atttypid), NULL) AS type
    FROM tables t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
),
missing AS MATERIALIZED (
    SELECT w.kind, w.name
    FROM (
        SELECT 'base' AS kind, unnest($7::text::text[]) AS name
        UNION ALL SELECT 'limiting', unnest($8::text::text[])
        UNION ALL SELECT 'own', unnest($9::text::text[])
        UNION ALL SELECT 'other', unnest($10::text::text[])
    ) w
    WHERE EXISTS (SELECT FROM keys WHERE relkind IN ('r', 'p'))
      AND NOT EXISTS (SELECT FROM columns c WHERE c.role = 'keys' AND c.name = w.name)
),
is_ours AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM columns c WHERE c.role = 'keys' AND c.name = ANY ($9::text::text[])) OR EXISTS (
        SELECT FROM tables t WHERE t.role <> 'keys' AND t.is_there
    ) AS yes
),
indexes AS MATERIALIZED (
    SELECT t.oid, t.role, t.name AS table_name, i.*, x.relname, n.nspname, m.amname
    FROM tables t
    JOIN pg_catalog.pg_index i ON i.indrelid = t.oid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
    JOIN pg_catalog.pg_am m ON m.oid = x.relam
),
-- As the migrations make them: an index is known by what it is, whatever it is called.
wanted_indexes AS (
    SELECT w.*, t.oid, t.name AS table_name
    FROM (VALUES
        ('keys', true, 'btree', ARRAY['key_hash'], NULL),
        ('keys', true, 'btree', ARRAY['external_subject'], 'external_subject IS NOT NULL'),
        ('keys', true, 'btree', ARRAY['prev_key_hash'], 'prev_key_hash IS NOT NULL'),
        ('keys', false, 'btree', ARRAY['account_id', 'id'], NULL),
        ('keys', false, 'btree', ARRAY['parent_id', 'id'], 'parent_id IS NOT NULL'),
        ('keys', false, 'btree', ARRAY['hashtext(delegated_by)', 'id'], 'delegated_by IS NOT NULL'),
        ('keys', false, 'btree', ARRAY['id', 'revoked_at'], 'revoked_at IS NOT NULL'),
        ('keys', false, 'btree', ARRAY['id', 'disabled_at'], 'disabled_at IS NOT NULL'),
        ('keys', false, 'btree', ARRAY['expires_at'], 'expires_at IS NOT NULL'),
        ('keys', false, 'gin', ARRAY['metadata'], 'metadata IS NOT NULL'),
        ('keys', false, 'gin', ARRAY['CASE WHEN array_ndims(scopes) = 1 AND array_position(scopes, NULL::text) IS NULL THEN jsonb_object(scopes, scopes) ELSE NULL::jsonb END'], 'scopes IS NOT NULL'),
        ('reservations', false, 'btree', ARRAY['expires_at'], 'state = ''pending''::text'),
        ('reservations', false, 'btree', ARRAY['key_id', 'expires_at'], 'state = ''pending''::text'),
        ('events', false, 'btree', ARRAY['key_id', 'id'], NULL),
        ('events', true, 'btree', ARRAY['key_id', 'idempotency_key'], 'idempotency_key IS NOT NULL'),
        ('requests', false, 'btree', ARRAY['key_id', 'id'], NULL),
        ('requests', false, 'btree', ARRAY['account_id', 'id'], NULL),
        ('requests', true, 'btree', ARRAY['key_id'], 'state = ''pending''::text'),
        ('requests', true, 'btree', ARRAY['key_id', 'idempotency_key'], 'idempotency_key IS NOT NULL'),
        ('events', true, 'btree', ARRAY['key_id', 'alarm_key'], 'alarm_key IS NOT NULL'),
        ('events', false, 'btree', ARRAY['id'], 'alarm_key IS NOT NULL'),
        ('deliveries', false, 'btree', ARRAY['webhook', 'next_at'], 'dead_at IS NULL'),
        ('signups', false, 'btree', ARRAY['ends_at'], NULL)
    ) AS w(role, is_unique, method, cols, predicate)
    JOIN tables t ON t.role = w.role AND t.relkind IN ('r', 'p')
    WHERE cardinality(w.cols) = (
        SELECT count(*)
        FROM columns c
        WHERE c.oid = t.oid
          AND (c.name = ANY (w.cols) OR 'hashtext(' || c.name || ')' = ANY (w.cols) OR c.name = 'scopes' AND w.cols[1] LIKE 'CASE %')
          -- An application's own column may be of a type that no such index takes.
          AND (w.method <> 'gin' OR c.type = CASE c.name WHEN 'scopes' THEN 'text[]' ELSE 'jsonb' END)
    )
),
setting AS MATERIALIZED (
    SELECT name, setting, current_setting(name) AS shown FROM pg_catalog.pg_settings
),
database AS MATERIALIZED (
    SELECT format('%I', current_database()) AS name
),
-- Whoever has written or locked rows and is not done.
holders AS (
    SELECT DISTINCT a.pid, a.usename, a.application_name, a.state,
        round(extract(epoch FROM clock_timestamp() - a.xact_start)) AS seconds
    FROM pg_catalog.pg_stat_activity a
    JOIN pg_catalog.pg_locks l ON l.pid = a.pid AND l.granted AND l.locktype = 'relation'
        AND l.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    JOIN tables t ON t.oid = l.relation
    WHERE a.datname = current_database()
      AND a.pid <> pg_backend_pid()
      AND (
        a.xact_start < clock_timestamp() - interval '10 seconds'
        OR a.state LIKE 'idle in transaction%' AND a.state_change < clock_timestamp() - interval '1 second'
      )
),
finding(check_name, subject, found, fix) AS (
    SELECT 'server', current_database()::text, 'PostgreSQL ' || current_setting('server_version') || ' as ' || current_user, NULL
    UNION ALL
    SELECT 'clock', NULL, (extract(epoch FROM clock_timestamp()) * 1000)::bigint::text, NULL

    -- The server and the session.
    UNION ALL
    SELECT 'old_version', NULL, 'PostgreSQL ' || current_setting('server_version'), NULL
    WHERE current_setting('server_version_num')::int < 130000
    UNION ALL
    SELECT 'standby', NULL, 'the server is a standby', NULL WHERE pg_is_in_recovery()
    UNION ALL
    SELECT 'read_only', current_user::text, 'default_transaction_read_only is on',
        format('BEGIN READ WRITE; ALTER DATABASE %s RESET default_transaction_read_only; ALTER ROLE %I RESET default_transaction_read_only; COMMIT;', d.name, current_user)
    FROM database d
    WHERE current_setting('default_transaction_read_only') = 'on' AND NOT pg_is_in_recovery()
    UNION ALL
    SELECT 'isolation', current_user::text, 'default_transaction_isolation is ' || current_setting('default_transaction_isolation'),
        format('ALTER ROLE %I IN DATABASE %s SET default_transaction_isolation = ''read committed'';', current_user, d.name)
    FROM database d
    WHERE current_setting('default_transaction_isolation') <> 'read committed'
    UNION ALL
    SELECT 'statement_timeout', current_user::text, 'statement_timeout is ' || s.shown,
        format('ALTER ROLE %I IN DATABASE %s SET statement_timeout = ''30s'';', current_user, d.name)
    FROM setting s, database d
    WHERE s.name = 'statement_timeout' AND s.setting::bigint BETWEEN 1 AND 9999
    UNION ALL
    SELECT 'encoding', current_database()::text, 'the database is encoded in ' || current_setting('server_encoding'), NULL
    WHERE current_setting('server_encoding') <> 'UTF8'
    UNION ALL
    SELECT 'not_durable', s.name, s.name || ' is off',
        CASE s.name
            WHEN 'synchronous_commit' THEN format('ALTER DATABASE %s SET synchronous_commit = on;', d.name)
            ELSE format('ALTER SYSTEM SET %I = on; SELECT pg_reload_conf();', s.name)
        END
    FROM setting s, database d
    WHERE s.name IN ('synchronous_commit', 'fsync', 'full_page_writes') AND s.setting = 'off'
    UNION ALL
    SELECT 'autovacuum', s.name, s.name || ' is off', format('ALTER SYSTEM SET %I = on; SELECT pg_reload_conf();', s.name)
    FROM setting s
    WHERE s.name IN ('autovacuum', 'track_counts') AND s.setting = 'off'
    UNION ALL
    SELECT 'autovacuum', t.name, 'autovacuum is switched off for the table', format('ALTER TABLE %s RESET (autovacuum_enabled);', t.name)
    FROM tables t
    WHERE EXISTS (
        SELECT FROM unnest(t.reloptions) AS o(text)
        WHERE o.text ~* '^autovacuum_enabled=(off|false|no|0|f|n)$'
    )

    -- The tables.
    UNION ALL
    SELECT 'no_table', $1::text, 'there is no such table', NULL WHERE NOT EXISTS (SELECT FROM keys)
    UNION ALL
    SELECT 'not_a_table', $1::text, CASE k.relkind WHEN 'v' THEN 'it is a view' WHEN 'm' THEN 'it is a materialized view' WHEN 'f' THEN 'it is a foreign table' ELSE 'it is no table' END, NULL
    FROM keys k
    WHERE k.relkind NOT IN ('r', 'p')
    UNION ALL
    SELECT 'shadowed_table', $1::text, 'schemas that have one too: ' || string_agg(format('%I', n.nspname), ', ' ORDER BY n.nspname), NULL
    FROM keys k
    JOIN pg_catalog.pg_class c ON c.relname = k.relname AND c.relkind IN ('r', 'p', 'v') AND c.oid <> k.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY (current_schemas(false)) AND position('.' IN $1::text) = 0
    HAVING count(*) > 0
    UNION ALL
    SELECT 'not_keys_table', $1::text, 'it lacks ' || string_agg(m.name, ', '), NULL
    FROM missing m
    WHERE m.kind = 'base'
    HAVING count(*) > 0
    UNION ALL
    SELECT 'missing_column', m.name, 'the table lacks it', NULL
    FROM missing m, is_ours o
    WHERE m.kind = 'limiting' OR m.kind = 'own' AND o.yes
    UNION ALL
    SELECT 'not_migrated', $1::text, 'it lacks ' || string_agg(m.name, ', '), NULL
    FROM missing m, is_ours o
    WHERE m.kind = 'own' AND NOT o.yes OR m.kind = 'other'
    HAVING count(*) > 0
    UNION ALL
    SELECT 'missing_companion', t.name, 'there is no such table', NULL
    FROM tables t
    WHERE t.role <> 'keys' AND NOT t.is_there
    UNION ALL
    SELECT 'foreign_companion', t.name, 'it lacks the column ' || w.name, NULL
    FROM tables t
    JOIN (VALUES ('reservations', 'settles_if_expired'), ('events', 'remaining_after_microcents'), ('requests', 'granted_until'), ('deliveries', 'holders'), ('signups', 'ends_at')) AS w(role, name) ON w.role = t.role
    WHERE t.is_there AND NOT EXISTS (SELECT FROM columns c WHERE c.oid = t.oid AND c.name = w.name)
    UNION ALL
    SELECT 'companion_type', t.name || '.' || theirs.name, format('it is %s, and %s of the keys table is %s', theirs.type, ours.name, ours.type), NULL
    FROM tables t
    JOIN columns theirs ON theirs.oid = t.oid AND theirs.name IN ('key_id', 'account_id')
    JOIN columns ours ON ours.role = 'keys' AND ours.name = CASE theirs.name WHEN 'key_id' THEN 'id' ELSE 'account_id' END
    WHERE t.role <> 'keys' AND theirs.atttypid <> ours.atttypid
    UNION ALL
    SELECT 'companion_owner', t.name, format('it belongs to %I, and the keys table to %I', t.relowner::regrole::text, t.keys_owner::regrole::text),
        format('ALTER TABLE %s OWNER TO %s;', t.name, t.keys_owner::regrole)
    FROM tables t
    WHERE t.relowner <> t.keys_owner
    UNION ALL
    SELECT 'unlogged', t.name, 'the table is unlogged', format('ALTER TABLE %s SET LOGGED;', t.name)
    FROM tables t
    WHERE t.relpersistence = 'u'
    UNION ALL
    SELECT CASE WHEN row_security_active(t.oid) THEN 'row_security' ELSE 'row_security_of_others' END, t.name,
        'row level security is on' || CASE WHEN row_security_active(t.oid) THEN ', also for ' || current_user ELSE '' END,
        format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY;', t.name)
    FROM tables t
    WHERE t.relrowsecurity
    UNION ALL
    SELECT 'trigger', format('%I on %s', g.tgname, t.name), pg_get_triggerdef(g.oid), format('DROP TRIGGER %I ON %s;', g.tgname, t.name)
    FROM tables t
    JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
    UNION ALL
    SELECT 'rule', format('%I on %s', r.rulename, t.name), pg_get_ruledef(r.oid), format('DROP RULE %I ON %s;', r.rulename, t.name)
    FROM tables t
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.oid AND r.rulename <> '_RETURN'
    WHERE t.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'privilege', t.name, format('%s may not %s', current_user, string_agg(p.name, ', ' ORDER BY p.name)),
        format('GRANT %s ON %s TO %I;', string_agg(p.name, ', ' ORDER BY p.name), t.name, current_user)
    FROM tables t
    JOIN (VALUES ('SELECT', NULL), ('INSERT', NULL), ('UPDATE', 'keys'), ('UPDATE', 'reservations'), ('UPDATE', 'requests'), ('UPDATE', 'deliveries'), ('DELETE', 'deliveries'), ('UPDATE', 'signups'), ('DELETE', 'signups')) AS p(name, role)
        ON p.role IS NULL OR p.role = t.role
    WHERE t.is_there
      AND NOT has_table_privilege(t.oid, p.name)
      AND NOT (
        -- There is no right to delete from a column.
        SELECT bool_and(CASE WHEN p.name <> 'DELETE' THEN has_column_privilege(t.oid, c.attnum, p.name) ELSE false END)
        FROM columns c
        WHERE c.oid = t.oid
      )
    GROUP BY t.name
    UNION ALL
    SELECT 'privilege', s.oid::regclass::text, current_user || ' may not use the sequence of id', format('GRANT USAGE ON SEQUENCE %s TO %I;', s.oid::regclass, current_user)
    FROM keys k
    JOIN pg_catalog.pg_depend d ON d.refobjid = k.oid AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'a'
    JOIN pg_catalog.pg_class s ON s.oid = d.objid
    WHERE CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') END

    -- The columns.
    UNION ALL
    SELECT 'column_type', c.name, format('it is %s, not %s', c.type, w.type), CASE w.type
        WHEN 'timestamp with time zone' THEN format('ALTER TABLE %s ALTER %I TYPE timestamptz USING %I AT TIME ZONE ''UTC'';', c.table_name, c.name, c.name)
        WHEN 'bigint' THEN format('ALTER TABLE %s ALTER %I TYPE bigint USING ceil(%I::numeric);', c.table_name, c.name, c.name)
    END
    FROM (VALUES
        ('budget_cents', 'bigint'), ('budget_used_cents', 'bigint'), ('budget_reserved_cents', 'bigint'),
        ('budget_reset_at', 'timestamp with time zone'), ('expires_at', 'timestamp with time zone'),
        ('revoked_at', 'timestamp with time zone'), ('last_used_at', 'timestamp with time zone'),
        ('created_at', 'timestamp with time zone'), ('budget_anchor_at', 'timestamp with time zone'),
        ('disabled_at', 'timestamp with time zone'), ('budget_boost_cents', 'bigint'),
        ('budget_boost_until', 'timestamp with time zone')
    ) AS w(name, type)
    JOIN columns c ON c.role = 'keys' AND c.name = w.name
    WHERE c.type <> w.type AND NOT (w.type = 'bigint' AND c.type IN ('integer', 'smallint'))
    UNION ALL
    SELECT 'link_type', c.name, format('it is %s, and id is %s', c.type, i.type), NULL
    FROM columns c
    JOIN columns i ON i.role = 'keys' AND i.name = 'id'
    WHERE c.role = 'keys' AND c.name IN ('parent_id', 'ancestor_ids') AND c.type <> i.type || CASE c.name WHEN 'ancestor_ids' THEN '[]' ELSE '' END
    UNION ALL
    SELECT 'small_budget', c.name, format('it is %s: it holds %s cents at most', c.type, CASE c.type WHEN 'smallint' THEN 32767 ELSE 2147483647 END),
        format('ALTER TABLE %s ALTER %I TYPE bigint;', c.table_name, c.name)
    FROM columns c
    WHERE c.role = 'keys' AND c.name IN ('budget_cents', 'budget_used_cents') AND c.type IN ('integer', 'smallint')
    UNION ALL
    SELECT 'scopes_type', c.name, 'it is ' || c.type, NULL
    FROM columns c
    WHERE c.role = 'keys' AND c.name = 'scopes' AND c.type NOT IN ('text[]', 'character varying[]', 'jsonb', 'json')
    UNION ALL
    SELECT 'required_column', c.name, 'it is NOT NULL without a default', format('ALTER TABLE %s ALTER %I DROP NOT NULL;', c.table_name, c.name)
    FROM columns c
    WHERE c.role = 'keys' AND c.attnotnull AND NOT c.is_filled AND c.name NOT IN ('account_id', 'key_hash', 'key_prefix', 'name')

    -- The indexes.
    UNION ALL
    SELECT 'missing_index', w.table_name || ' (' || array_to_string(w.cols, ', ') || ')',
        'there is no such ' || CASE WHEN w.is_unique THEN 'unique ' ELSE '' END || 'index',
        format('CREATE %sINDEX CONCURRENTLY ON %s USING %s (%s)%s;', CASE WHEN w.is_unique THEN 'UNIQUE ' END, w.table_name, w.method,
            CASE WHEN w.cols[1] LIKE 'CASE %' THEN '(' || w.cols[1] || ')' ELSE array_to_string(w.cols, ', ') END
                || CASE w.method WHEN 'gin' THEN ' jsonb_path_ops' ELSE '' END,
            ' WHERE ' || w.predicate)
    FROM wanted_indexes w
    WHERE NOT EXISTS (
        SELECT
        FROM indexes i
        WHERE i.oid = w.oid
          AND i.indisvalid
          AND i.amname IN ('btree', w.method)
          AND i.indnkeyatts >= cardinality(w.cols)
          AND (NOT w.is_unique OR i.indisunique AND i.indimmediate AND i.indnkeyatts = cardinality(w.cols))
          AND w.cols = ARRAY(
            -- Of a VARCHAR column it says that it is cast, and an expression may have lines and brackets.
            SELECT regexp_replace(
                replace(regexp_replace(pg_get_indexdef(i.indexrelid, n, true), '\s+', ' ', 'g'), '(delegated_by::text)', '(delegated_by)'),
                '^\( ?(CASE .* END)\)$', '\1'
            )
            FROM generate_series(1, cardinality(w.cols)) AS n
            ORDER BY n
          )
          AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = '(' || w.predicate || ')')
    )
    UNION ALL
    SELECT 'invalid_index', format('%I.%I', i.nspname, i.relname), 'it was not built to its end', format('DROP INDEX CONCURRENTLY %I.%I;', i.nspname, i.relname)
    FROM indexes i
    WHERE NOT i.indisvalid
    UNION ALL
    SELECT 'hot_index', format('%I.%I', i.nspname, i.relname), 'it has ' || string_agg(c.name, ', ' ORDER BY c.name), format('DROP INDEX CONCURRENTLY %I.%I;', i.nspname, i.relname)
    FROM indexes i
    JOIN columns c ON c.oid = i.oid AND c.attnum = ANY (i.indkey)
    WHERE i.role = 'keys'
      AND i.amname <> 'brin'
      AND c.name IN ('budget_used_cents', 'budget_used_microcents', 'budget_reserved_cents', 'budget_reserved_microcents', 'last_used_at')
    GROUP BY i.nspname, i.relname

    -- What goes on now.
    UNION ALL
    SELECT 'dead_rows', t.name, format('%s dead rows beside %s live ones', s.n_dead_tup, s.n_live_tup), format('VACUUM (ANALYZE) %s;', t.name)
    FROM tables t
    JOIN pg_catalog.pg_stat_all_tables s ON s.relid = t.oid
    WHERE s.n_dead_tup >= 1000 AND s.n_dead_tup > s.n_live_tup
    UNION ALL
    SELECT 'lock_holder', format('process %s of %s', h.pid, h.usename) || coalesce(' (' || nullif(h.application_name, '') || ')', ''),
        format('%s, its transaction began %s s ago', h.state, h.seconds), format('SELECT pg_terminate_backend(%s);', h.pid)
    FROM holders h
    UNION ALL
    SELECT 'prepared_transaction', p.gid, 'prepared ' || p.prepared::text, format('ROLLBACK PREPARED %L;', p.gid)
    FROM pg_catalog.pg_prepared_xacts p
    WHERE p.database = current_database() AND p.prepared < clock_timestamp() - interval '1 minute'
)
SELECT ROW(jsonb_build_object('check', check_name, 'subject', subject, 'found', found, 'fix', fix))::text AS agentkey
FROM finding
