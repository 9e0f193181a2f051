-- Whether a list wants the request r. $1: key, $2: account, $3: the key that its key must be or descend from, $4: state; NULL is any.
-- $5: only requests before this id, or NULL. $6: how many at most.
($1::text IS NULL OR r.key_id = $1::text::{id_type})
AND ($2::text IS NULL OR r.account_id = $2::text::{account_type})
AND ($3::text IS NULL OR r.key_id IN (SELECT id FROM tree))
AND ($4::text IS NULL OR r.state = $4::text)
AND ($5::text IS NULL OR r.id < $5::text::bigint)
ORDER BY r.id DESC
LIMIT $6::text::bigint
