-- Keys as they stand. $1: id, alone; or $2: account, $3: parent, $4: human, any of them NULL. $5: a state (live,
-- revoked, disabled, expired), whatever the ancestors; NULL is any. $6: only keys after this id, or NULL. $7: how many at
-- most, in the order of their ids.
-- One row a key: a row of validate.sql, when it was created, its prefix, parent, subject, since when it is switched off,
-- when it was revoked.
-- By the index of one of them: of the others the condition is NULL or false before a row is read.
WITH wanted AS MATERIALIZED (
    SELECT k.id
    FROM (
        SELECT * FROM {table} WHERE id = $1::text::{id_type}
        UNION ALL
        SELECT * FROM {table} WHERE coalesce($3::text, $4::text) IS NULL AND account_id = $2::text::{account_type}
        UNION ALL --? parent_id
        SELECT * FROM {table} WHERE parent_id = $3::text::{id_type} --? parent_id
        UNION ALL --? delegated_by
        SELECT * FROM {table} WHERE $3::text IS NULL AND delegated_by = $4::text --? delegated_by
    ) k
    WHERE ($6::text IS NULL OR k.id > $6::text::{id_type})
      AND ($2::text IS NULL OR k.account_id = $2::text::{account_type})
      AND ($4::text IS NULL OR k.delegated_by = $4::text) --? delegated_by
      AND ($5::text IS NULL OR $5::text = {state})
    UNION ALL
    (
        SELECT k.id
        FROM {table} k
        WHERE coalesce($1::text, $2::text, $3::text, $4::text, $6::text) IS NULL
          AND ($5::text IS NULL OR $5::text = {state})
        ORDER BY k.id
        LIMIT $7::text::bigint
    )
    UNION ALL
    (
        SELECT k.id
        FROM {table} k
        WHERE coalesce($1::text, $2::text, $3::text, $4::text) IS NULL
          AND k.id > $6::text::{id_type}
          AND ($5::text IS NULL OR $5::text = {state})
        ORDER BY k.id
        LIMIT $7::text::bigint
    )
    ORDER BY id
    LIMIT $7::text::bigint
)
SELECT ROW(
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
    extract(epoch FROM k.revoked_at)
)::text AS agentkey
FROM wanted w
CROSS JOIN LATERAL (SELECT k.* FROM {table} k WHERE k.id = w.id OFFSET 0) k
CROSS JOIN LATERAL {period} p
CROSS JOIN LATERAL ( --? ancestor_ids
    SELECT array_agg(coalesce({ancestor_state}, ROW(ancestor.id, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::text) ORDER BY ancestor.distance) AS states --? ancestor_ids
    FROM unnest({chain}) WITH ORDINALITY AS ancestor(id, distance) --? ancestor_ids
    LEFT JOIN LATERAL (SELECT * FROM {table} WHERE id = ancestor.id OFFSET 0) k ON true --? ancestor_ids
    CROSS JOIN LATERAL {period} p --? ancestor_ids
    WHERE ancestor.distance > 1 --? ancestor_ids
) chain --? ancestor_ids
ORDER BY w.id
