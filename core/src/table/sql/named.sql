-- The id of the key that is named: $1, its id; or $2, the hash of its secret, or of the one before while that counts; or $3,
-- its external subject. A limit is no key.
SELECT id
FROM {table}
WHERE id = $1::text::{id_type}
  AND when_exceeded IS NULL --? when_exceeded
UNION ALL
SELECT id FROM {table} WHERE key_hash = $2::text
UNION ALL --? prev_key_hash prev_key_expires_at
SELECT id FROM {table} WHERE prev_key_hash = $2::text AND prev_key_expires_at > statement_timestamp() --? prev_key_hash prev_key_expires_at
UNION ALL
SELECT id FROM {table} WHERE {external_subject} = $3::text
LIMIT 1
