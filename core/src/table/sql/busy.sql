-- Of the rows that are wanted those that are there and were not locked: somebody else has them.
SELECT w.id
FROM wanted w
WHERE w.id NOT IN (SELECT id FROM locked)
  AND EXISTS (SELECT FROM {table} k WHERE k.id = w.id)
