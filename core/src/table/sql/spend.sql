-- Charges and reserves in a batch, each on a key and all of its ancestors, or on none of them. For whatever the plain
-- charges do not serve: ancestors, idempotency keys, overruns, the ledger, reservations.
-- $1: text[] of key hashes or external subjects. $2: text[] of kinds: c(harge), o(verrun: a charge that is recorded even
-- past the cap), a(dmitted: an overrun that is recorded even if its key was revoked since), r(eserve). $3: bigint[] of micro-cents. $4: text[] of JSON: id, ttl, idempotency_key, metadata, scopes
-- (any of them will do); or ''. $5: the id of the only row that it waits for if somebody else has locked it, before it
-- locks any other; or NULL.
-- One row an operation whose key exists: its place in $1, status, budget, used and reserved micro-cents after it, the
-- reservation's id and expiry, the budget that has no room, whether expired reservations may stand in the way; of a
-- reserve also its key as it was before (a row of validate.sql) and the states of its ancestors; what a reservation that
-- is `already_settled` was settled with; whether the key has a parent. An operation that needs a row which somebody else
-- has locked is `busy`, and that row's id stands in place of the reservation's.
-- Per row that is drawn on, operations are accepted in ascending order of amount as long as all of them fit; one that
-- was refused for others that did not come through in the end is to be tried again.
WITH input AS MATERIALIZED (
    SELECT
        i.n, i.lookup, CASE i.kind WHEN 'a' THEN 'o' ELSE i.kind END AS kind, i.kind = 'a' AS is_admitted, i.amount,
        NULLIF(i.details, '')::jsonb AS details
    FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::text[]), (SELECT $3::text::bigint[]), (SELECT $4::text::text[]))
        WITH ORDINALITY AS i(lookup, kind, amount, details, n)
),
found AS MATERIALIZED (
    SELECT u.lookup, k.id, k.account_id, k.ancestor_ids, {chain} AS chain
    FROM (SELECT DISTINCT lookup FROM input) u
    CROSS JOIN LATERAL (SELECT id, account_id, ancestor_ids FROM {table} WHERE {lookup} = u.lookup OFFSET 0) k
),
wanted AS MATERIALIZED (
    SELECT c.id, bool_or(c.id = f.id) AS is_key, max(f.ancestor_ids) FILTER (WHERE c.id = f.id) AS ancestor_ids
    FROM found f
    CROSS JOIN LATERAL unnest(f.chain) AS c(id)
    GROUP BY c.id
    ORDER BY c.id
),
-- With everything ready, so that the row is locked no longer than it must be.
waited AS MATERIALIZED (
    SELECT id FROM {table} WHERE id = $5::text::{id_type} AND (SELECT count(*) FROM wanted) >= 0 FOR NO KEY UPDATE
),
-- Every row that a decision needs, locked in id order.
locked AS MATERIALIZED (
    SELECT
        k.id,
        k.account_id,
        k.{lookup} AS lookup,
        k.revoked_at IS NOT NULL AS is_revoked,
        k.disabled_at IS NOT NULL AS is_disabled,
        coalesce(k.expires_at <= statement_timestamp(), false) AS is_expired,
        {budget}::bigint AS budget_cents,
        {cap} AS cap,
        {max_cents}::bigint * 1000000 AS storable,
        {scopes_array} AS scopes,
        {reserved} AS reserved,
        {k.budget_period} AS period,
        {k.when_exceeded} AS when_exceeded,
        w.is_key AND w.ancestor_ids IS DISTINCT FROM k.ancestor_ids AS has_moved,
        p.*,
        -- Only a reserve answers the key and the states of its ancestors.
        CASE WHEN (SELECT bool_or(kind = 'r') FROM input) THEN ROW(
            1,
            {key_columns},
            k.ancestor_ids IS NOT NULL,
            CASE WHEN p.is_due THEN extract(epoch FROM p.reset_at) END,
            NULL
        )::text END AS key_row,
        CASE WHEN (SELECT bool_or(kind = 'r') FROM input) THEN {ancestor_state} END AS state
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
-- The operations, and what was recorded under their idempotency keys before. Another client may be recording it right
-- now: the unique index refuses the second one then, and this statement is tried again.
repeated AS MATERIALIZED (
    SELECT
        i.n, i.lookup, i.kind, i.is_admitted, i.amount, i.details, f.id AS key_id, f.account_id, f.chain,
        e.id AS first_id, e.kind AS first_kind, e.amount_microcents AS first_amount,
        e.used_after_microcents AS first_used, e.reserved_after_microcents AS first_reserved,
        e.budget_cents AS first_budget, e.reservation_id AS first_reservation,
        CASE WHEN EXISTS (SELECT FROM busy) THEN (SELECT b.id FROM busy b WHERE b.id = ANY (f.chain) LIMIT 1) END AS busy_id
    FROM input i
    JOIN found f ON f.lookup = i.lookup
    LEFT JOIN LATERAL (
        SELECT * FROM {events} e WHERE e.key_id = f.id AND e.idempotency_key = i.details->>'idempotency_key' OFFSET 0
    ) e ON i.details ? 'idempotency_key'
),
-- What became of the reservations of reserves that are repeated: their keys are locked, so that nobody else ends them.
first AS MATERIALIZED (
    SELECT r.id, r.state, r.settled_microcents, r.expires_at, r.settles_if_expired, r.amount_microcents
    FROM repeated o, (SELECT count(*) FROM locked) AS all_locked(rows)
    CROSS JOIN LATERAL (
        SELECT * FROM {reservations} WHERE id = o.first_reservation AND all_locked.rows >= 0 LIMIT 1 FOR UPDATE SKIP LOCKED
    ) r
    WHERE o.kind = 'r'
      AND o.busy_id IS NULL
),
-- An operation is fresh, or was done before. One whose reservation ended without a cost is decided anew; `over`: its time
-- is over, and what it holds is counted still. Of a reservation that was deleted the ledger tells the end.
operation AS MATERIALIZED (
    SELECT
        o.n, o.lookup, o.kind, o.is_admitted, o.amount, o.details, o.key_id, o.account_id, o.chain, o.first_id, o.first_kind,
        o.first_amount, o.first_used, o.first_reserved, o.first_budget, o.first_reservation,
        CASE o.been WHEN 'over' THEN 0 ELSE o.amount END AS drawn,
        o.been,
        o.been IN ('never', 'over', 'ended') AS is_fresh,
        CASE o.been WHEN 'locked' THEN o.key_id ELSE o.busy_id END AS busy_id,
        o.settled
    FROM (
        SELECT
            o.*,
            coalesce(r.settled_microcents, r.amount_microcents, e.amount_microcents) AS settled,
            CASE
                WHEN o.first_id IS NULL THEN 'never'
                WHEN o.first_amount <> o.amount OR o.first_kind <> CASE o.kind WHEN 'r' THEN 'reserve' ELSE 'charge' END
                THEN 'idempotency_conflict'
                WHEN o.kind <> 'r' THEN 'replayed'
                WHEN r.state = 'pending' AND r.expires_at > statement_timestamp() THEN 'replayed'
                WHEN r.state = 'pending' THEN CASE WHEN r.settles_if_expired THEN 'already_settled' ELSE 'over' END
                WHEN coalesce(r.state, e.state) = 'settled' THEN 'already_settled'
                WHEN coalesce(r.state, e.state) IN ('released', 'expired') THEN 'ended'
                WHEN e.state = 'locked' THEN 'locked'
                ELSE 'unknown_reservation'
            END AS been
        FROM repeated o
        LEFT JOIN LATERAL (SELECT * FROM first WHERE id = o.first_reservation) r ON o.kind = 'r' AND o.first_id IS NOT NULL
        -- Each part says whether it is needed, or it would be read for every operation.
        LEFT JOIN LATERAL (
            SELECT 'locked' AS state, NULL::bigint AS amount_microcents
            FROM {reservations}
            WHERE id = o.first_reservation
              AND o.kind = 'r'
              AND r.id IS NULL
            UNION ALL
            (
                SELECT CASE kind WHEN 'settle' THEN 'settled' ELSE 'released' END, amount_microcents
                FROM {events}
                WHERE key_id = o.key_id
                  AND reservation_id = o.first_reservation
                  AND kind IN ('settle', 'release', 'expire')
                  AND o.kind = 'r'
                  AND o.first_reservation IS NOT NULL
                  AND r.id IS NULL
                ORDER BY kind = 'settle' DESC
            )
            LIMIT 1
        ) e ON true
    ) o
),
drawn AS MATERIALIZED (
    SELECT o.*, c.id AS drawn_id, c.distance
    FROM operation o
    CROSS JOIN LATERAL unnest(o.chain) WITH ORDINALITY AS c(id, distance)
    WHERE o.is_fresh
      AND o.busy_id IS NULL
),
-- From here on no join: the planner knows little of these rows and would take them for few.
draw AS MATERIALIZED (
    SELECT
        o.n, o.kind, o.amount, o.drawn, o.details, o.key_id, o.distance, cardinality(o.chain) > 1 AS has_parent, o.first_id, o.first_reservation, o.been,
        CASE WHEN l.lookup = o.lookup THEN l.key_row END AS key_row,
        CASE o.kind WHEN 'r' THEN coalesce(l.state, ROW(o.drawn_id, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::text) END AS state,
        coalesce((l.before - CASE WHEN l.before < 0 THEN 999999 ELSE 0 END) / 1000000 >= l.budget_cents, false) AS is_exhausted,
        o.distance = 1 AND o.details ? 'scopes' AND l.scopes IS NOT NULL
            AND NOT (o.details->'scopes' ?| l.scopes) AS lacks_scope,
        l.id, l.account_id, l.budget_cents, l.cap AS budget, l.reserved, l.is_due, l.stored, l.before, l.anchor_at, l.reset_at,
        l.is_disabled, l.is_expired, l.period, l.when_exceeded,
        l.id IS NULL OR (l.is_revoked AND NOT o.is_admitted) OR (o.distance = 1 AND l.lookup <> o.lookup) AS is_gone,
        CASE o.kind WHEN 'o' THEN l.storable ELSE l.cap END AS cap,
        l.storable,
        sum(o.drawn) OVER (PARTITION BY l.id ORDER BY o.kind <> 'o', o.amount, o.n ROWS UNBOUNDED PRECEDING)
            <= LEAST(CASE o.kind WHEN 'o' THEN l.storable ELSE l.cap END - l.before, l.storable) - l.reserved AS fits
    FROM drawn o
    LEFT JOIN locked l ON l.id = o.drawn_id
),
decided AS MATERIALIZED (
    SELECT
        d.*,
        CASE
            WHEN bool_or(d.is_gone OR d.kind = 'r' AND (d.is_disabled OR d.is_expired OR d.is_exhausted OR d.lacks_scope)) OVER operation
            THEN 'refused'
            WHEN bool_and(d.fits) OVER operation THEN 'ok'
            ELSE 'budget_exceeded'
        END AS status,
        CASE WHEN d.kind = 'r' THEN array_agg(d.state) OVER (operation ORDER BY d.distance ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) END AS states
    FROM draw d
    WINDOW operation AS (PARTITION BY d.n)
),
moved AS MATERIALIZED (
    SELECT
        d.*,
        d.before + (coalesce(sum(d.amount) FILTER (WHERE d.status = 'ok' AND d.kind <> 'r') OVER upto, 0))::bigint AS used_after,
        d.reserved + (coalesce(sum(d.drawn) FILTER (WHERE d.status = 'ok' AND d.kind = 'r') OVER upto, 0))::bigint AS reserved_after,
        count(*) FILTER (WHERE d.status = 'ok') OVER upto AS place,
        lead(d.n) OVER upto IS NULL AS is_last
    FROM decided d
    WINDOW upto AS (PARTITION BY d.id ORDER BY d.kind <> 'o', d.amount, d.n ROWS UNBOUNDED PRECEDING)
),
-- The keys whose breakers are passed by what is recorded all the same: they are switched off.
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
      AND m.status = 'ok'
      AND m.kind = 'o'
      AND m.used_after > m.budget
      AND NOT o.is_disabled
),
change AS MATERIALIZED (
    SELECT m.id, m.used_after, m.reserved_after, m.anchor_at, m.reset_at, m.id IN (SELECT id FROM tripped) AS trips
    FROM moved m
    WHERE m.is_last AND m.place > 0
),
crossing AS ( --? thresholds
    SELECT m.id, m.account_id, m.budget_cents, m.budget AS cap, m.budget AS cap_before, m.used_after - m.amount AS used_before, m.used_after, --? thresholds
        m.reserved_after, m.reset_at, CASE WHEN m.distance > 1 THEN m.key_id END AS via_key_id --? thresholds
    FROM moved m --? thresholds
    WHERE m.status = 'ok' AND m.kind <> 'r' --? thresholds
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
-- A reservation that is decided anew gives its idempotency key to the next one, and what it held.
over AS (
    UPDATE {reservations} r
    SET
        state = 'expired',
        finished_at = statement_timestamp(),
        budget_cents = m.budget_cents,
        used_after_microcents = m.used_after,
        reserved_after_microcents = m.reserved_after - m.amount
    FROM moved m
    WHERE r.id = m.first_reservation
      AND m.been = 'over'
      AND m.status = 'ok'
      AND m.distance = 1
),
renamed AS (
    UPDATE {events} e
    SET idempotency_key = NULL
    FROM moved m
    WHERE e.id = m.first_id
      AND m.status = 'ok'
      AND m.distance = 1
    RETURNING e.id
),
held AS (
    INSERT INTO {reservations} (id, key_id, amount_microcents, expires_at, settles_if_expired, metadata)
    SELECT
        (m.details->>'id')::uuid, m.key_id, m.amount,
        statement_timestamp() + make_interval(secs => (m.details->>'ttl')::float8),
        coalesce(m.details->>'if_expired' = 'settle', false), m.details->'metadata'
    FROM moved m
    WHERE m.kind = 'r'
      AND m.status = 'ok'
      AND m.distance = 1
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents,
        remaining_after_microcents, budget_cents, idempotency_key, reservation_id, via_key_id, metadata
    )
    SELECT
        m.id, m.account_id, entry.kind, entry.amount, entry.used_after, entry.reserved_after,
        CASE WHEN m.budget_cents IS NOT NULL THEN m.budget - entry.used_after - entry.reserved_after END, m.budget_cents,
        entry.idempotency_key, entry.reservation_id, entry.via_key_id, entry.metadata
    FROM moved m
    CROSS JOIN LATERAL (
        SELECT 1, 'reset', -m.stored, 0::bigint, m.reserved_after - CASE m.kind WHEN 'r' THEN m.drawn ELSE 0 END,
            NULL::text, NULL::uuid, NULL, NULL::jsonb
        WHERE m.is_due AND m.place = 1 AND m.stored <> 0 AND {ledger}
        UNION ALL
        SELECT 2, 'expire', m.amount, m.used_after, m.reserved_after - m.amount, NULL, m.first_reservation,
            CASE WHEN m.distance > 1 THEN m.key_id END, NULL
        WHERE m.been = 'over' AND {ledger}
        UNION ALL
        SELECT 3, CASE m.kind WHEN 'r' THEN 'reserve' ELSE 'charge' END, m.amount, m.used_after, m.reserved_after,
            CASE m.distance WHEN 1 THEN m.details->>'idempotency_key' END,
            CASE m.kind WHEN 'r' THEN (m.details->>'id')::uuid END,
            CASE WHEN m.distance > 1 THEN m.key_id END, m.details->'metadata'
    ) AS entry(step, kind, amount, used_after, reserved_after, idempotency_key, reservation_id, via_key_id, metadata)
    CROSS JOIN (SELECT count(*) FROM renamed) AS all_renamed(rows)
    WHERE m.status = 'ok'
      AND all_renamed.rows >= 0
      AND ({ledger} OR (m.distance = 1 AND m.details ? 'idempotency_key'))
    ORDER BY m.id, m.place, entry.step
),
told AS (
    {trip_entry}
)
SELECT ROW(
    m.n, m.status, m.budget_cents, m.used_after, m.reserved_after, m.details->>'id',
    extract(epoch FROM statement_timestamp() + make_interval(secs => (m.details->>'ttl')::float8)), NULL, false,
    CASE m.kind WHEN 'r' THEN m.key_row END, m.states[2:], NULL, m.has_parent
)::text AS agentkey
FROM moved m
WHERE m.distance = 1
  AND m.status <> 'budget_exceeded'
UNION ALL
SELECT ROW(
    m.n, 'budget_exceeded', NULL, NULL, NULL, NULL, NULL,
    -- The nearest row that has no room for it even now, with the key that it is or limits; none if all have.
    (array_agg(
        ROW(
            m.owners[cardinality(m.owners)], m.budget_cents, m.used_finally, m.reserved_finally, extract(epoch FROM m.reset_at),
            m.period, m.when_exceeded, m.id
        )::text ORDER BY m.distance
    ) FILTER (WHERE m.lacks_room))[1],
    -- Whether reservations could be expired that stand in the way there.
    coalesce((array_agg(m.reserved_finally ORDER BY m.distance) FILTER (WHERE m.lacks_room))[1] > 0, false)
        AND EXISTS (SELECT FROM {reservations} WHERE state = 'pending' AND expires_at <= statement_timestamp()),
    NULL,
    NULL,
    NULL,
    bool_or(m.has_parent)
)::text
FROM (
    SELECT m.*, m.drawn > LEAST(m.cap - m.used_finally, m.storable) - m.reserved_finally AS lacks_room
    FROM (
        SELECT
            m.*,
            max(m.used_after) OVER (PARTITION BY m.id) AS used_finally,
            max(m.reserved_after) OVER (PARTITION BY m.id) AS reserved_finally,
            array_agg(m.id) FILTER (WHERE m.when_exceeded IS NULL) OVER (PARTITION BY m.n ORDER BY m.distance) AS owners
        FROM moved m
        WHERE EXISTS (SELECT FROM moved WHERE status = 'budget_exceeded')
    ) m
) m
WHERE m.status = 'budget_exceeded'
GROUP BY m.n
UNION ALL
SELECT ROW(
    o.n,
    CASE
        WHEN o.been = 'replayed' AND o.kind = 'r' AND (
            l.id IS NULL OR o.details ? 'scopes' AND l.scopes IS NOT NULL AND NOT (o.details->'scopes' ?| l.scopes)
        )
        THEN 'refused'
        ELSE o.been
    END,
    CASE o.kind WHEN 'r' THEN l.budget_cents ELSE o.first_budget END,
    CASE o.kind WHEN 'r' THEN l.before ELSE o.first_used END,
    CASE o.kind WHEN 'r' THEN l.reserved ELSE o.first_reserved END,
    o.first_reservation,
    (SELECT extract(epoch FROM r.expires_at) FROM first r WHERE r.id = o.first_reservation),
    NULL,
    false,
    CASE o.kind WHEN 'r' THEN l.key_row END,
    CASE o.kind WHEN 'r' THEN (
        SELECT array_agg(coalesce(a.state, ROW(c.id, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::text) ORDER BY c.distance)
        FROM unnest(o.chain[2:]) WITH ORDINALITY AS c(id, distance)
        LEFT JOIN locked a ON a.id = c.id
    ) END,
    CASE o.been WHEN 'already_settled' THEN o.settled END,
    cardinality(o.chain) > 1
)::text
FROM operation o
LEFT JOIN locked l ON l.id = o.key_id
WHERE NOT o.is_fresh
  AND o.busy_id IS NULL
UNION ALL
SELECT ROW(o.n, 'busy', NULL, NULL, NULL, o.busy_id, NULL, NULL, false, NULL, NULL, NULL, cardinality(o.chain) > 1)::text
FROM operation o
WHERE o.busy_id IS NOT NULL
