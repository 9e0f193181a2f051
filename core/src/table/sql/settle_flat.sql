-- Settles and releases as settle.sql does them, of keys without a parent and in the common case: the reservation is
-- pending, no reset of the key can be due, and its columns hold all that is settled. What has no row is as it was, and
-- settle.sql decides it.
-- $1 to $3: as in settle.sql. One row a reservation that ended, or whose key's row somebody else has locked: as settle.sql
-- answers.
WITH input AS MATERIALIZED (
    SELECT
        r.key_id,
        sum(i.amount) AS cost,
        array_agg(i.n) AS ns,
        array_agg(i.id) AS ids,
        array_agg(i.action) AS actions,
        array_agg(i.amount) AS amounts
    FROM unnest((SELECT $1::text::uuid[]), (SELECT $2::text::text[]), (SELECT $3::text::bigint[]))
        WITH ORDINALITY AS i(id, action, amount, n)
    CROSS JOIN LATERAL (SELECT key_id FROM {reservations} WHERE id = i.id OFFSET 0) r
    GROUP BY r.key_id
),
-- Keys first, like every statement that locks them; the reservations after.
-- LIMIT 1 keeps what Postgres sets up for rows that changed since the snapshot, from one key to the next.
locked AS MATERIALIZED (
    SELECT
        i.ns, i.ids, i.actions, i.amounts,
        k.id,
        k.account_id,
        {budget}::bigint AS budget_cents,
        {cap} AS cap,
        {used} AS before,
        {reserved} AS reserved
    FROM input i
    CROSS JOIN LATERAL (
        SELECT *
        FROM {table} k
        WHERE {takes_ends}
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ) k
),
-- No join: the planner knows little of these rows and would take them for few.
moved AS MATERIALIZED (
    SELECT
        r.*, l.id AS key_id, l.account_id, l.budget_cents, l.cap,
        (l.before + sum(r.cost) OVER upto)::bigint AS used_after,
        GREATEST(l.reserved - sum(r.held) OVER upto, 0)::bigint AS reserved_after,
        row_number() OVER upto AS place,
        lead(r.n) OVER upto IS NULL AS is_last
    FROM locked l
    CROSS JOIN LATERAL unnest(l.ns, l.ids, l.actions, l.amounts) AS i(n, id, action, amount)
    CROSS JOIN LATERAL (
        SELECT
            i.n,
            r.id,
            CASE i.action WHEN 'settle' THEN 'settled' ELSE 'released' END AS new_state,
            r.amount_microcents AS held,
            CASE i.action WHEN 'settle' THEN i.amount ELSE 0 END AS cost,
            r.expires_at
        FROM {reservations} r
        WHERE r.id = i.id
          -- NULLIF keeps Postgres from the indexes of what is pending. It expects nothing there once most have ended, and would
          -- read all that they had since the last vacuum, for each reservation.
          AND NULLIF(r.state, '') = 'pending'
          AND i.action IN ('settle', 'release')
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) r
    WINDOW upto AS (PARTITION BY l.id ORDER BY r.n ROWS UNBOUNDED PRECEDING)
),
spent AS (
    UPDATE {table} k
    SET
        budget_used_cents = m.used_after / 1000000,
        budget_used_microcents = m.used_after % 1000000,
        budget_microcents_reset_at = k.budget_reset_at,
        budget_reserved_cents = m.reserved_after / 1000000,
        budget_reserved_microcents = m.reserved_after % 1000000
    FROM moved m
    WHERE k.id = m.key_id AND m.is_last
),
ended AS (
    UPDATE {reservations} r
    SET
        state = m.new_state,
        finished_at = statement_timestamp(),
        settled_microcents = CASE m.new_state WHEN 'settled' THEN m.cost END,
        budget_cents = m.budget_cents,
        used_after_microcents = m.used_after,
        reserved_after_microcents = m.reserved_after
    FROM moved m
    -- It always is more than 0. So Postgres expects fewer rows, and finds them by index in a small table, too.
    WHERE r.id = m.id AND m.place > 0
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents,
        remaining_after_microcents, budget_cents, reservation_id
    )
    SELECT
        m.key_id, m.account_id, CASE m.new_state WHEN 'settled' THEN 'settle' ELSE 'release' END,
        CASE m.new_state WHEN 'settled' THEN m.cost ELSE m.held END, m.used_after, m.reserved_after,
        CASE WHEN m.budget_cents IS NOT NULL THEN m.cap - m.used_after - m.reserved_after END, m.budget_cents, m.id
    FROM moved m
    WHERE {ledger}
)
SELECT ROW(
    m.n, 'pending', m.new_state, m.held, CASE m.new_state WHEN 'settled' THEN m.cost END, m.budget_cents, m.used_after,
    m.reserved_after, extract(epoch FROM m.expires_at)
)::text AS agentkey
FROM moved m
UNION ALL
SELECT ROW(i_n.n, 'busy', k.id, 0, NULL, NULL, NULL, NULL, NULL)::text
FROM input i
CROSS JOIN LATERAL (SELECT k.id FROM {table} k WHERE {takes_ends} OFFSET 0) k
CROSS JOIN LATERAL unnest(i.ns) AS i_n(n)
WHERE i.key_id NOT IN (SELECT id FROM locked)
