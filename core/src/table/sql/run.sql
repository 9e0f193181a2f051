-- What rows' versions are told apart within: the server's run, which also ends with a crash (its statistics are reset
-- then), and the table with its columns. Transaction ids that a crash lost are given out again.
(SELECT concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()), c.oid, c.xmin) FROM pg_catalog.pg_class c WHERE c.oid = {table_literal}::regclass)
