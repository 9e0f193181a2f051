-- Looks up several keys, of which the client remembers rows: only what is new or changed is answered.
-- $1: text[] of key hashes or external subjects, each once. Of the row that is remembered, NULLs where there is none:
-- $2: text[] its xmin, $3: text[] its ctid, $4: bigint[] its budget_used_cents. $5: the run that they were read in.
-- One row a key that is not as it is remembered: validate_many.sql's with versions, or only the place if there is no such
-- key. And the row of place 0.
SELECT ROW(
    input.n,
    {key_columns}
    , k.ancestor_ids IS NOT NULL --? ancestor_ids
    , false --! ancestor_ids
    , NULL
    , NULL
    -- The end of a raised budget changes the key, not its row.
    , CASE WHEN {k.budget_boost_until} > statement_timestamp() THEN NULL ELSE k.xmin END
    , k.ctid
)::text AS agentkey
FROM (
    SELECT input.n, input.lookup
    FROM unnest(
        (SELECT $1::text::text[]), (SELECT $2::text::xid[]), (SELECT $3::text::tid[]), (SELECT $4::text::bigint[])
    ) WITH ORDINALITY AS input(lookup, row_xmin, row_ctid, used, n)
    WHERE $5::text IS DISTINCT FROM {run}
       OR NOT EXISTS (
        SELECT
        FROM {table} k
        WHERE k.ctid = input.row_ctid
          AND k.xmin = input.row_xmin
          AND k.{lookup} = input.lookup
          AND k.budget_used_cents = input.used
        OFFSET 0
    )
    OFFSET 0
) input
LEFT JOIN LATERAL (SELECT k.xmin, k.ctid, k.* FROM {table} k WHERE k.{lookup} = input.lookup OFFSET 0) k ON true
UNION ALL
SELECT ROW(0, extract(epoch FROM statement_timestamp()), {run})::text
