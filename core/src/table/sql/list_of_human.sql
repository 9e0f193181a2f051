-- Keys that a human authorised, in the order of their ids. $1 to $7: as key_filter.sql says. $8: only keys after this id, or NULL. $9: how many keys at
-- most. $10: how many it looks at. One row a key: as key_record.sql says; and the row that listed.sql adds.
WITH looked_at AS MATERIALIZED (
    (
        SELECT k.id, {key_filter} AS is_wanted
        FROM {table} k
        WHERE hashtext(k.delegated_by) = hashtext($3::text) AND k.delegated_by = $3::text AND $8::text IS NULL
        ORDER BY k.id
        LIMIT $10::text::bigint
    )
    UNION ALL
    (
        SELECT k.id, {key_filter} AS is_wanted
        FROM {table} k
        WHERE hashtext(k.delegated_by) = hashtext($3::text) AND k.delegated_by = $3::text AND k.id > $8::text::{id_type}
        ORDER BY k.id
        LIMIT $10::text::bigint
    )
)
{listed}
