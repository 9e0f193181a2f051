-- A key as it stands. $1: its id. The row, if there is such a key: as key_record.sql says.
WITH wanted AS MATERIALIZED (
    SELECT id
    FROM {table}
    WHERE id = $1::text::{id_type}
      AND when_exceeded IS NULL --? when_exceeded
)
SELECT agentkey
FROM (
    {key_record}
) r
