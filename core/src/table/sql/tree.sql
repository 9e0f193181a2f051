-- A key (`top`) and all that descend from it, each with its parent, NULL of that key itself. By index, a page of children at a
-- time: of costs that the planner fears it would compile the statement, for a second or two.
tree AS (
    SELECT id, NULL::{id_type} AS parent_id, false AS is_page_end
    FROM top
    UNION --? parent_id
    SELECT next.id, next.parent_id, next.place = 20 --? parent_id
    FROM tree t --? parent_id
    CROSS JOIN LATERAL ( --? parent_id
        SELECT child.id, t.id AS parent_id, row_number() OVER (ORDER BY child.id) AS place --? parent_id
        FROM (SELECT id FROM {table} WHERE parent_id = t.id ORDER BY id LIMIT 20) child --? parent_id
        UNION ALL --? parent_id
        SELECT sibling.id, t.parent_id, row_number() OVER (ORDER BY sibling.id) AS place --? parent_id
        FROM ( --? parent_id
            SELECT id --? parent_id
            FROM {table} --? parent_id
            WHERE t.is_page_end --? parent_id
              AND parent_id = t.parent_id --? parent_id
              AND id > t.id --? parent_id
            ORDER BY id --? parent_id
            LIMIT 20 --? parent_id
        ) sibling --? parent_id
    ) next --? parent_id
)
