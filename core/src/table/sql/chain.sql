-- The ids of k and its ancestors, nearest first. A chain that cannot be (a key twice or above itself, NULL, an array of
-- arrays, more than there may be) is each of its keys once, and NULL for an ancestor that is not there: so it lets nothing
-- pass, and what ends or is given back is so once on every row.
(
    CASE
        WHEN k.ancestor_ids IS NULL THEN ARRAY[k.id]
        WHEN cardinality(k.ancestor_ids) <= {max_ancestors}
            AND coalesce(array_ndims(k.ancestor_ids), 1) = 1
            AND cardinality(k.ancestor_ids) = (
                SELECT count(DISTINCT a.id) FILTER (WHERE a.id <> k.id AND (k.id = ANY (above.ancestor_ids)) IS NOT TRUE)
                FROM unnest(k.ancestor_ids) AS a(id)
                LEFT JOIN LATERAL (SELECT ancestor_ids FROM {table} WHERE id = a.id OFFSET 0) above ON true
            )
        THEN ARRAY[k.id] || k.ancestor_ids
        ELSE ARRAY[k.id] || ARRAY(
            SELECT a.id
            FROM unnest(k.ancestor_ids) WITH ORDINALITY AS a(id, distance)
            WHERE a.distance <= {max_ancestors} AND a.id <> k.id
            GROUP BY a.id
            ORDER BY min(a.distance)
        ) || NULL::{id_type}
    END
)
