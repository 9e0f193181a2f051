-- Whether a list wants k. $1: account, $2: parent, $3: human, $4: state, $5: a scope that it names, $6: JSON that its metadata
-- contains, $7: the share of its budget that is used at least, in millionths; NULL is any.
k.when_exceeded IS NULL AND --? when_exceeded
($1::text IS NULL OR k.account_id = $1::text::{account_type})
AND ($2::text IS NULL OR {k.parent_id} = $2::text::{id_type}) --? parent_id
AND $2::text IS NULL --! parent_id
AND ($3::text IS NULL OR {k.delegated_by} = $3::text)
AND ($4::text IS NULL OR $4::text = {state})
AND (
    $5::text IS NULL
    OR {scopes_array} @> ARRAY[$5::text]
    -- What is no list of scopes names none, as the index has it.
    AND array_ndims(k.scopes) = 1 AND array_position(k.scopes, NULL::text) IS NULL --? scopes_index
)
AND ($6::text IS NULL OR {k.metadata} @> $6::text::jsonb) --? jsonb_metadata
AND $6::text IS NULL --! jsonb_metadata
AND (
    $7::text IS NULL
    OR CASE WHEN {due} THEN 0 ELSE {used} END >= {budget}::numeric * $7::text::bigint
)
