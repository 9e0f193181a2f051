-- Charges and reserves in a batch, each on a key and all of its ancestors, or on none of them. For whatever the plain
-- charges do not serve: ancestors, idempotency keys, overruns, the ledger, reservations.
-- $1: text[] of key hashes or external subjects. $2: text[] of kinds: c(harge), o(verrun: a charge that is recorded even
-- past the cap), r(eserve). $3: bigint[] of micro-cents. $4: text[] of JSON: id, ttl, idempotency_key, metadata; or ''.
-- One row an operation whose key exists: see spend.rs.
-- Per row that is drawn on, operations are accepted in ascending order of amount as long as all of them fit; one that
-- was refused for others that did not come through in the end is to be tried again.
WITH input AS MATERIALIZED (
    SELECT i.n, i.lookup, i.kind, i.amount, NULLIF(i.details, '')::jsonb AS details
    FROM unnest((SELECT $1::text::text[]), (SELECT $2::text::text[]), (SELECT $3::text::bigint[]), (SELECT $4::text::text[]))
        WITH ORDINALITY AS i(lookup, kind, amount, details, n)
),
found AS MATERIALIZED (
    SELECT u.lookup, k.id, k.account_id, ARRAY[k.id] || k.ancestor_ids AS chain
    FROM (SELECT DISTINCT lookup FROM input) u
    CROSS JOIN LATERAL (SELECT id, account_id, ancestor_ids FROM {table} WHERE {lookup} = u.lookup OFFSET 0) k
),
wanted AS MATERIALIZED (
    SELECT DISTINCT c.id FROM found CROSS JOIN LATERAL unnest(chain) AS c(id) ORDER BY c.id
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
        k.budget_cents::bigint AS budget_cents,
        LEAST(k.budget_cents, {max_cents})::bigint * 1000000 AS cap,
        {max_cents}::bigint * 1000000 AS storable,
        coalesce(k.budget_reserved_cents, 0)::bigint * 1000000 AS reserved,
        coalesce({due}, false) AS is_due,
        LEAST(coalesce(k.budget_used_cents, 0), {max_cents})::bigint * 1000000 + coalesce(k.budget_used_microcents, 0) AS stored,
        CASE WHEN {due} THEN 0
            ELSE LEAST(coalesce(k.budget_used_cents, 0), {max_cents})::bigint * 1000000 + coalesce(k.budget_used_microcents, 0)
        END AS before,
        CASE WHEN {due} THEN coalesce(k.budget_anchor_at, k.budget_reset_at) ELSE k.budget_anchor_at END AS anchor_at,
        CASE WHEN {due} THEN {next_reset} ELSE k.budget_reset_at END AS reset_at
    FROM wanted w
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id = w.id FOR NO KEY UPDATE) k
),
-- The operations, and what was recorded under their idempotency keys before. Another client may be recording it right
-- now: the unique index refuses the second one then, and this statement is tried again.
operation AS MATERIALIZED (
    SELECT
        i.n, i.lookup, i.kind, i.amount, i.details, f.id AS key_id, f.account_id, f.chain,
        e.id AS first_id, e.kind AS first_kind, e.amount_microcents AS first_amount,
        e.used_after_microcents AS first_used, e.reserved_after_microcents AS first_reserved,
        e.budget_cents AS first_budget, e.reservation_id AS first_reservation
    FROM input i
    JOIN found f ON f.lookup = i.lookup
    LEFT JOIN LATERAL (
        SELECT * FROM {events} e WHERE e.key_id = f.id AND e.idempotency_key = i.details->>'idempotency_key' OFFSET 0
    ) e ON i.details ? 'idempotency_key'
),
draw AS MATERIALIZED (
    SELECT
        o.n, o.kind, o.amount, c.distance, l.*,
        l.id IS NULL OR l.is_revoked OR (c.distance = 1 AND l.lookup <> o.lookup) AS is_gone,
        sum(o.amount) OVER (PARTITION BY l.id ORDER BY o.kind <> 'o', o.amount, o.n ROWS UNBOUNDED PRECEDING) AS running
    FROM operation o
    CROSS JOIN LATERAL unnest(o.chain) WITH ORDINALITY AS c(id, distance)
    LEFT JOIN locked l ON l.id = c.id
    WHERE o.first_id IS NULL
),
decided AS MATERIALIZED (
    SELECT
        n,
        CASE
            WHEN bool_or(is_gone) THEN 'invalid_key'
            WHEN kind = 'r' AND bool_or(is_disabled) THEN 'disabled'
            WHEN kind = 'r' AND bool_or(is_expired) THEN 'expired'
            WHEN bool_and(running <= CASE kind WHEN 'o' THEN storable ELSE LEAST(cap, storable) END - reserved - before) THEN 'ok'
            ELSE 'budget_exceeded'
        END AS status
    FROM draw
    GROUP BY n, kind
),
moved AS MATERIALIZED (
    SELECT
        d.n, d.kind, d.amount, d.distance, d.id, d.account_id, d.budget_cents, d.stored, d.is_due, d.anchor_at, d.reset_at,
        (d.before + coalesce(sum(d.amount) FILTER (WHERE d.kind <> 'r') OVER w, 0))::bigint AS used_after,
        (d.reserved + coalesce(sum(d.amount) FILTER (WHERE d.kind = 'r') OVER w, 0))::bigint AS reserved_after,
        row_number() OVER w AS place
    FROM draw d
    JOIN decided s ON s.n = d.n
    WHERE s.status = 'ok'
    WINDOW w AS (PARTITION BY d.id ORDER BY d.kind <> 'o', d.amount, d.n ROWS UNBOUNDED PRECEDING)
),
-- What each row holds in the end.
balance AS MATERIALIZED (
    SELECT DISTINCT ON (id) * FROM moved ORDER BY id, place DESC
),
spent AS (
    UPDATE {table} k
    SET
        budget_used_cents = b.used_after / 1000000,
        budget_used_microcents = b.used_after % 1000000,
        budget_reserved_cents = b.reserved_after / 1000000,
        budget_anchor_at = b.anchor_at,
        budget_reset_at = b.reset_at
    FROM balance b
    WHERE k.id = b.id
),
held AS (
    INSERT INTO {reservations} (id, key_id, amount_microcents, expires_at, metadata)
    SELECT
        (o.details->>'id')::uuid, o.key_id, o.amount,
        statement_timestamp() + make_interval(secs => (o.details->>'ttl')::float8), o.details->'metadata'
    FROM operation o
    JOIN decided s ON s.n = o.n AND s.status = 'ok'
    WHERE o.kind = 'r'
    RETURNING id, expires_at
),
logged AS (
    INSERT INTO {events} (
        key_id, account_id, kind, amount_microcents, used_after_microcents, reserved_after_microcents,
        remaining_after_microcents, budget_cents, idempotency_key, reservation_id, via_key_id, metadata
    )
    SELECT
        m.id, m.account_id, entry.kind, entry.amount, entry.used_after, entry.reserved_after,
        m.budget_cents * 1000000 - entry.used_after - entry.reserved_after, m.budget_cents,
        entry.idempotency_key, entry.reservation_id, entry.via_key_id, entry.metadata
    FROM moved m
    JOIN operation o ON o.n = m.n
    CROSS JOIN LATERAL (
        SELECT 1, 'reset', -m.stored, 0::bigint, m.reserved_after - CASE m.kind WHEN 'r' THEN m.amount ELSE 0 END,
            NULL::text, NULL::uuid, NULL, NULL::jsonb
        WHERE m.is_due AND m.place = 1 AND m.stored <> 0 AND {ledger}
        UNION ALL
        SELECT 2, CASE m.kind WHEN 'r' THEN 'reserve' ELSE 'charge' END, m.amount, m.used_after, m.reserved_after,
            CASE m.distance WHEN 1 THEN o.details->>'idempotency_key' END,
            CASE m.kind WHEN 'r' THEN (o.details->>'id')::uuid END,
            CASE WHEN m.distance > 1 THEN o.key_id END, o.details->'metadata'
        WHERE {ledger} OR (m.distance = 1 AND o.details ? 'idempotency_key')
    ) AS entry(step, kind, amount, used_after, reserved_after, idempotency_key, reservation_id, via_key_id, metadata)
    ORDER BY m.id, m.place, entry.step
)
SELECT ROW(
    o.n,
    CASE
        WHEN o.first_id IS NULL THEN s.status
        WHEN o.first_amount <> o.amount OR o.first_kind <> CASE o.kind WHEN 'r' THEN 'reserve' ELSE 'charge' END
        THEN 'idempotency_conflict'
        ELSE 'replayed'
    END,
    coalesce(o.first_budget, m.budget_cents),
    coalesce(o.first_used, m.used_after),
    coalesce(o.first_reserved, m.reserved_after),
    coalesce(o.first_reservation::text, o.details->>'id'),
    extract(epoch FROM coalesce(h.expires_at, r.expires_at)),
    -- Of one that did not fit: the first row that has no room for it even now; none if all have.
    obstacle.id,
    obstacle.budget_cents,
    obstacle.used,
    obstacle.reserved,
    extract(epoch FROM obstacle.reset_at),
    -- Whether reservations could be expired that may stand in the way.
    s.status = 'budget_exceeded' AND coalesce(obstacle.reserved, 0) > 0
        AND EXISTS (SELECT FROM {reservations} WHERE state = 'pending' AND expires_at <= statement_timestamp())
)::text AS agentkey
FROM operation o
LEFT JOIN decided s ON s.n = o.n
LEFT JOIN moved m ON m.n = o.n AND m.distance = 1
LEFT JOIN held h ON h.id = (o.details->>'id')::uuid
LEFT JOIN LATERAL (SELECT r.expires_at FROM {reservations} r WHERE r.id = o.first_reservation OFFSET 0) r ON o.first_id IS NOT NULL
LEFT JOIN LATERAL (
    SELECT d.id, d.budget_cents, coalesce(b.used_after, d.before) AS used, coalesce(b.reserved_after, d.reserved) AS reserved, d.reset_at
    FROM draw d
    LEFT JOIN balance b ON b.id = d.id
    WHERE d.n = o.n
      AND d.amount > CASE d.kind WHEN 'o' THEN d.storable ELSE LEAST(d.cap, d.storable) END
        - coalesce(b.used_after, d.before) - coalesce(b.reserved_after, d.reserved)
    ORDER BY d.distance
    LIMIT 1
) obstacle ON s.status = 'budget_exceeded'
