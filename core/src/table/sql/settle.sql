-- Ends or extends reservations in a batch, on their keys and all ancestors.
-- $1: uuid[], each once. $2: text[] of actions: settle, release, extend, expire (which settles one that is worth what it
-- holds). $3: bigint[] of micro-cents spent, or of seconds that an extended one lives from now. $4: the id of the only row that it waits for if somebody else has
-- locked it, before it locks any other; or NULL.
-- One row a reservation that exists: see ended.rs. What was spent is recorded whatever the cap, and in whole: where the
-- columns cannot hold it, the reservation is `unrecordable` and stays as it is, or is to be tried `again` where they could
-- without others of the batch. A reservation that needs a row which somebody else has locked is `busy`, and that row's id
-- stands in place of the new state.
WITH input AS MATERIALIZED (
    SELECT i.id, i.action, i.amount, i.n
    FROM unnest((SELECT $1::text::uuid[]), (SELECT $2::text::text[]), (SELECT $3::text::bigint[]))
        WITH ORDINALITY AS i(id, action, amount, n)
),
found AS MATERIALIZED (
    SELECT i.*, r.key_id, k.ancestor_ids, coalesce(k.chain, ARRAY[r.key_id]) AS chain
    FROM input i
    CROSS JOIN LATERAL (SELECT key_id FROM {reservations} WHERE id = i.id OFFSET 0) r
    LEFT JOIN LATERAL (SELECT k.ancestor_ids, {chain} AS chain FROM {table} k WHERE k.id = r.key_id OFFSET 0) k ON true
),
wanted AS MATERIALIZED (
    SELECT c.id, bool_or(c.id = f.key_id) AS is_key, max(f.ancestor_ids) FILTER (WHERE c.id = f.key_id) AS ancestor_ids
    FROM found f
    CROSS JOIN LATERAL unnest(f.chain) AS c(id)
    WHERE f.action <> 'extend'
    GROUP BY c.id
    ORDER BY c.id
),
-- With everything ready, so that the row is locked no longer than it must be.
waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $4::text::{id_type} AND (SELECT count(*) FROM wanted) >= 0 FOR NO KEY UPDATE
),
-- Keys first, in id order, like every statement that locks them; the reservations after.
locked AS MATERIALIZED (
    SELECT
        k.id,
        k.account_id,
        {budget}::bigint AS budget_cents,
        {cap} AS cap,
        {max_cents}::bigint * 1000000 AS storable,
        {reserved} AS reserved,
        w.is_key AND w.ancestor_ids IS DISTINCT FROM k.ancestor_ids AS has_moved,
        {k.budget_period} AS period,
        {k.when_exceeded} AS when_exceeded,
        k.disabled_at IS NOT NULL AS is_disabled,
        p.*
    FROM wanted w
    CROSS JOIN (SELECT count(*) FROM waited) AS has_waited(rows)
    CROSS JOIN LATERAL (
        SELECT * FROM {table} WHERE id = w.id AND has_waited.rows >= 0 LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) k
    CROSS JOIN LATERAL {period} p
),
busy AS MATERIALIZED (
    {busy}
    UNION ALL
    -- A key that was given limits since is read again.
    SELECT id FROM locked WHERE has_moved
),
reservation AS MATERIALIZED (
    SELECT f.n, f.action, CASE f.action WHEN 'expire' THEN r.amount_microcents ELSE f.amount END AS given, f.chain, r.*
    FROM (
        SELECT f.*
        FROM found f, (SELECT count(*) FROM locked) AS all_locked(rows)
        WHERE all_locked.rows >= 0
          AND (f.action = 'extend' OR NOT EXISTS (SELECT FROM busy b WHERE b.id = ANY (f.chain)))
        ORDER BY f.id
    ) f
    CROSS JOIN LATERAL (SELECT * FROM {reservations} WHERE id = f.id LIMIT 1 FOR UPDATE SKIP LOCKED) r
),
decided AS MATERIALIZED (
    SELECT
        r.*,
        CASE r.action
            WHEN 'settle' THEN CASE WHEN r.state IN ('pending', 'expired') THEN 'settled' END
            WHEN 'release' THEN CASE WHEN r.state = 'pending' THEN 'released' END
            WHEN 'expire' THEN CASE WHEN r.state = 'pending' AND r.expires_at <= statement_timestamp()
                THEN CASE WHEN r.settles_if_expired THEN 'settled' ELSE 'expired' END END
            WHEN 'extend' THEN CASE WHEN r.state = 'pending' THEN 'pending' END
        END AS new_state
    FROM reservation r
),
-- One row for each key that a reservation draws on; from here on no join, see spend.sql.
drawn AS MATERIALIZED (
    SELECT
        d.n, d.id AS reservation_id, d.state, d.new_state, d.key_id, d.distance, d.amount_microcents, d.given,
        d.settled_microcents, d.budget_cents AS first_budget, d.used_after_microcents AS first_used,
        d.reserved_after_microcents AS first_reserved,
        CASE WHEN d.action = 'extend' AND d.new_state = 'pending'
            THEN statement_timestamp() + d.given * interval '1 second' ELSE d.expires_at END AS expires_at,
        l.id, l.account_id, l.budget_cents, l.cap, l.storable, l.reserved, l.is_due, l.stored, l.before, l.anchor_at, l.reset_at,
        l.period, l.when_exceeded, l.is_disabled,
        coalesce(d.new_state <> 'pending', false) AND l.id IS NOT NULL AS is_end,
        CASE WHEN d.new_state <> 'pending' AND d.state = 'pending' THEN d.amount_microcents ELSE 0 END AS given_back,
        CASE WHEN d.new_state = 'settled' THEN d.given ELSE 0 END AS cost
    FROM (SELECT d.*, c.id AS drawn_id, c.distance FROM decided d CROSS JOIN LATERAL unnest(d.chain) WITH ORDINALITY AS c(id, distance)) d
    LEFT JOIN locked l ON l.id = d.drawn_id
),
-- A cost is recorded on all of them or on none.
draw AS MATERIALIZED (
    SELECT
        d.n, d.reservation_id, d.state, d.key_id, d.distance, d.amount_microcents, d.given, d.settled_microcents,
        d.first_budget, d.first_used, d.first_reserved, d.id, d.account_id, d.budget_cents, d.cap, d.storable, d.reserved,
        d.is_due, d.stored, d.before, d.anchor_at, d.reset_at, d.expires_at, d.is_recordable,
        d.period, d.when_exceeded, d.is_disabled,
        d.cost AS wanted_cost,
        CASE WHEN d.is_recordable THEN d.new_state END AS new_state,
        d.is_end AND d.is_recordable AS is_end,
        CASE WHEN d.is_recordable THEN d.given_back ELSE 0 END AS given_back,
        CASE WHEN d.is_recordable THEN d.cost ELSE 0 END AS cost
    FROM (
        SELECT d.*, bool_and(d.fits) OVER (PARTITION BY d.n) AS is_recordable
        FROM (
            SELECT
                d.*,
                d.id IS NULL OR d.cost = 0 OR sum(d.cost) OVER (PARTITION BY d.id ORDER BY d.n ROWS UNBOUNDED PRECEDING)
                    <= d.storable - d.before AS fits
            FROM drawn d
        ) d
    ) d
),
moved AS MATERIALIZED (
    SELECT
        d.*,
        (d.before + sum(d.cost) OVER upto)::bigint AS used_after,
        GREATEST(d.reserved - sum(d.given_back) OVER upto, 0)::bigint AS reserved_after,
        count(*) FILTER (WHERE d.is_end) OVER upto AS place,
        lead(d.n) OVER upto IS NULL AS is_last
    FROM draw d
    WINDOW upto AS (PARTITION BY d.id ORDER BY d.n ROWS UNBOUNDED PRECEDING)
),
-- Where something was not recorded: what the others of the batch left.
finally AS (
    SELECT m.n, m.storable, m.wanted_cost, max(m.used_after) OVER (PARTITION BY m.id) AS used_finally
    FROM moved m
    WHERE EXISTS (SELECT FROM moved WHERE NOT is_recordable)
),
-- The keys whose breakers are passed by what was spent: they are switched off.
tripped AS MATERIALIZED (
    SELECT DISTINCT ON (o.id) o.id, o.account_id, m.budget_cents, m.period
    FROM moved m
    CROSS JOIN LATERAL (
        SELECT o.id, o.account_id, o.is_disabled
        FROM moved o
        WHERE o.n = m.n AND o.distance < m.distance AND o.when_exceeded IS NULL
        ORDER BY o.distance DESC
        LIMIT 1
    ) o
    WHERE m.when_exceeded = 'disable'
      AND m.cost > 0
      AND m.used_after > m.cap
      AND NOT o.is_disabled
),
change AS MATERIALIZED (
    SELECT m.id, m.used_after, m.reserved_after, m.anchor_at, m.reset_at, m.id IN (SELECT id FROM tripped) AS trips
    FROM moved m
    WHERE m.is_last AND m.place > 0
),
crossing AS ( --? thresholds
    SELECT m.id, m.account_id, m.budget_cents, m.cap AS cap, m.cap AS cap_before, m.used_after - m.cost AS used_before, m.used_after, --? thresholds
        m.reserved_after, m.reset_at, CASE WHEN m.distance > 1 THEN m.key_id END AS via_key_id --? thresholds
    FROM moved m --? thresholds
    WHERE m.is_end AND m.cost > 0 --? thresholds
), --? thresholds
raised AS ( --? thresholds
    {raised} --? thresholds
), --? thresholds
spent AS (
    UPDATE {table} k
    SET
        disabled_at = CASE WHEN b.trips THEN statement_timestamp() ELSE k.disabled_at END,
        budget_used_cents = b.used_after / 1000000,
        budget_used_microcents = b.used_after % 1000000,
        budget_microcents_reset_at = b.reset_at,
        budget_reserved_cents = b.reserved_after / 1000000,
        budget_reserved_microcents = b.reserved_after % 1000000,
        budget_anchor_at = b.anchor_at,
        budget_reset_at = b.reset_at
    FROM change b
    WHERE k.id = b.id
),
ended AS (
    UPDATE {reservations} r
    SET
        state = m.new_state,
        expires_at = m.expires_at,
        finished_at = CASE WHEN m.new_state <> 'pending' THEN statement_timestamp() END,
        settled_microcents = CASE WHEN m.new_state = 'settled' THEN m.given END,
        budget_cents = CASE WHEN m.is_end THEN m.budget_cents END,
        used_after_microcents = CASE WHEN m.is_end THEN m.used_after END,
        reserved_after_microcents = CASE WHEN m.is_end THEN m.reserved_after END
    FROM (SELECT * FROM moved WHERE distance = 1 AND new_state IS NOT NULL) m
    WHERE r.id = m.reservation_id
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents,
        remaining_after_microcents, budget_cents, reservation_id, via_key_id
    )
    SELECT
        m.id, m.account_id, entry.kind, entry.amount, entry.used_after, entry.reserved_after,
        CASE WHEN m.budget_cents IS NOT NULL THEN m.cap - entry.used_after - entry.reserved_after END, m.budget_cents,
        entry.reservation_id, entry.via_key_id
    FROM moved m
    CROSS JOIN LATERAL (
        SELECT 1, 'reset', -m.stored, 0::bigint, m.reserved_after + m.given_back, NULL::uuid, NULL
        WHERE m.is_due AND m.place = 1 AND m.stored <> 0
        UNION ALL
        SELECT 2, CASE m.new_state WHEN 'settled' THEN 'settle' WHEN 'released' THEN 'release' ELSE 'expire' END,
            CASE m.new_state WHEN 'settled' THEN m.cost ELSE m.given_back END,
            m.used_after, m.reserved_after, m.reservation_id, CASE WHEN m.distance > 1 THEN m.key_id END
    ) AS entry(step, kind, amount, used_after, reserved_after, reservation_id, via_key_id)
    WHERE {ledger}
      AND m.is_end
    ORDER BY m.id, m.place, entry.step
),
told AS (
    {trip_entry}
)
SELECT ROW(
    m.n,
    CASE
        WHEN m.is_recordable THEN m.state
        WHEN (SELECT bool_or(o.wanted_cost > o.storable - o.used_finally) FROM finally o WHERE o.n = m.n) THEN 'unrecordable'
        ELSE 'again'
    END,
    m.new_state,
    m.amount_microcents,
    CASE WHEN m.new_state = 'settled' THEN m.given ELSE m.settled_microcents END,
    CASE WHEN m.is_end THEN m.budget_cents ELSE m.first_budget END,
    CASE WHEN m.is_end THEN m.used_after ELSE m.first_used END,
    CASE WHEN m.is_end THEN m.reserved_after ELSE m.first_reserved END,
    extract(epoch FROM m.expires_at)
)::text AS agentkey
FROM moved m
WHERE m.distance = 1
UNION ALL
SELECT ROW(
    f.n,
    'busy',
    coalesce((SELECT b.id FROM busy b WHERE b.id = ANY (f.chain) LIMIT 1), f.key_id)::text,
    0, NULL, NULL, NULL, NULL, NULL
)::text
FROM found f
WHERE f.n NOT IN (SELECT n FROM reservation)
