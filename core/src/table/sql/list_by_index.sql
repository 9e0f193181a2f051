-- Keys of which there are few among many, by an index that knows them. $1 to $7: as key_filter.sql says. $8: only keys after
-- this id, or NULL. $9: how many keys at most. $10: the index: metadata, scopes or expired.
-- One row a key: as key_record.sql says; and the row that listed.sql adds.
WITH looked_at AS MATERIALIZED (
    SELECT k.id, {key_filter} AS is_wanted
    FROM (
        SELECT * FROM {table} k WHERE $10::text = 'expired' AND {k.expires_at} <= statement_timestamp()
        UNION ALL --? jsonb_metadata
        SELECT * FROM {table} k WHERE $10::text = 'metadata' AND k.metadata @> $6::text::jsonb --? jsonb_metadata
        UNION ALL --? scopes_index
        SELECT * FROM {table} k WHERE $10::text = 'scopes' AND {names_scope} --? scopes_index
    ) k
    WHERE $8::text IS NULL OR k.id > $8::text::{id_type}
)
{listed}
