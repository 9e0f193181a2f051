-- The rows of keys that are `wanted`: a row of validate.sql, when the key was created, its prefix, parent, subject, since when
-- it is switched off, when it was revoked, until when its former secret counts, its metadata, by how much
-- its budget is raised now, and until when.
SELECT w.id AS place, ROW(
    ROW(
        1,
        {key_columns}
        , k.ancestor_ids IS NOT NULL --? ancestor_ids
        , false --! ancestor_ids
        , CASE WHEN p.is_due THEN extract(epoch FROM p.reset_at) END
        , chain.states --? ancestor_ids
        , NULL --! ancestor_ids
    )::text,
    extract(epoch FROM {k.created_at}),
    k.key_prefix,
    {k.parent_id},
    {k.external_subject},
    extract(epoch FROM {k.disabled_at}),
    extract(epoch FROM k.revoked_at),
    extract(epoch FROM CASE WHEN k.prev_key_expires_at > statement_timestamp() THEN k.prev_key_expires_at END), --? prev_key_expires_at
    NULL, --! prev_key_expires_at
    {k.metadata},
    b.boost_cents,
    b.boost_until
)::text AS agentkey
FROM wanted w
CROSS JOIN LATERAL (SELECT k.* FROM {table} k WHERE k.id = w.id OFFSET 0) k
CROSS JOIN LATERAL {period} p
CROSS JOIN LATERAL (
    SELECT {boosted}
) b
CROSS JOIN LATERAL ( --? ancestor_ids
    SELECT array_agg(coalesce({ancestor_state}, ROW(ancestor.id, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::text) ORDER BY ancestor.distance) AS states --? ancestor_ids
    FROM unnest({chain}) WITH ORDINALITY AS ancestor(id, distance) --? ancestor_ids
    LEFT JOIN LATERAL (SELECT * FROM {table} WHERE id = ancestor.id OFFSET 0) k ON true --? ancestor_ids
    CROSS JOIN LATERAL {period} p --? ancestor_ids
    WHERE ancestor.distance > 1 --? ancestor_ids
) chain --? ancestor_ids
