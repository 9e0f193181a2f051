-- The ids of k and its ancestors, nearest first. A chain that cannot be (a key twice, its own ancestor, NULL, an array of
-- arrays, more than there may be) is each of its keys once, and NULL for an ancestor that is not there: so it lets nothing
-- pass, and what ends or is given back is so once on every row. Told from k's row alone; short chains without a sub-select.
(
    CASE
        WHEN k.ancestor_ids IS NULL THEN ARRAY[k.id]
        WHEN array_ndims(k.ancestor_ids) = 1 AND CASE cardinality(k.ancestor_ids)
            WHEN 1 THEN k.ancestor_ids[1] <> k.id
            WHEN 2 THEN k.ancestor_ids[1] <> k.id AND k.ancestor_ids[2] <> k.id AND k.ancestor_ids[1] <> k.ancestor_ids[2]
            ELSE cardinality(k.ancestor_ids) <= {max_ancestors}
                AND cardinality(k.ancestor_ids) = (SELECT count(DISTINCT a.id) FROM unnest(k.ancestor_ids) AS a(id) WHERE a.id <> k.id)
        END
        THEN ARRAY[k.id] || k.ancestor_ids
        WHEN cardinality(k.ancestor_ids) = 0 THEN ARRAY[k.id]
        ELSE ARRAY[k.id] || ARRAY(
            SELECT a.id
            FROM unnest(k.ancestor_ids) WITH ORDINALITY AS a(id, distance)
            WHERE a.distance <= {max_ancestors} AND a.id <> k.id
            GROUP BY a.id
            ORDER BY min(a.distance)
        ) || NULL::{id_type}
    END
)
