-- Revoked or disabled keys, in the order of their ids. $1 to $7: as key_filter.sql says. $8: only keys after this id, or
-- NULL. $9: how many keys at most. $10: how many it looks at. One row a key: as key_record.sql says; and the row that
-- listed.sql adds.
WITH looked_at AS MATERIALIZED (
    (
        SELECT k.id, {key_filter} AS is_wanted
        FROM {table} k
        WHERE $4::text = 'revoked' AND k.revoked_at IS NOT NULL AND $8::text IS NULL
        ORDER BY k.id
        LIMIT $10::text::bigint
    )
    UNION ALL
    (
        SELECT k.id, {key_filter} AS is_wanted
        FROM {table} k
        WHERE $4::text = 'revoked' AND k.revoked_at IS NOT NULL AND k.id > $8::text::{id_type}
        ORDER BY k.id
        LIMIT $10::text::bigint
    )
    UNION ALL --? disabled_at
    ( --? disabled_at
        SELECT k.id, {key_filter} AS is_wanted --? disabled_at
        FROM {table} k --? disabled_at
        WHERE $4::text = 'disabled' AND k.disabled_at IS NOT NULL AND $8::text IS NULL --? disabled_at
        ORDER BY k.id --? disabled_at
        LIMIT $10::text::bigint --? disabled_at
    ) --? disabled_at
    UNION ALL --? disabled_at
    ( --? disabled_at
        SELECT k.id, {key_filter} AS is_wanted --? disabled_at
        FROM {table} k --? disabled_at
        WHERE $4::text = 'disabled' AND k.disabled_at IS NOT NULL AND k.id > $8::text::{id_type} --? disabled_at
        ORDER BY k.id --? disabled_at
        LIMIT $10::text::bigint --? disabled_at
    ) --? disabled_at
)
{listed}
